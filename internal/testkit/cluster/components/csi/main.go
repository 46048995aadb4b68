// Command csi-driver is a CSI driver with folders of the machine as volumes, together
// with what provisions volumes for claims and tells the kubelet of the driver.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	snapshots "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"

	"github.com/redisctl/redisctl/internal/testkit/cluster/components/csi/driver"
	"github.com/redisctl/redisctl/internal/testkit/cluster/components/csi/provisioner"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "csi-driver:", err)
		os.Exit(1) //nolint:gocritic // the signal handler ends with the process
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("csi-driver", flag.ContinueOnError)
	var o driver.Options
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig to identify with")
	flags.StringVar(&o.Root, "root", "", "folder to keep volumes and snapshots in")
	flags.StringVar(&o.Socket, "socket", "", "where to listen")
	flags.StringVar(&o.Registration, "registration-socket", "", "where the kubelet looks for drivers")
	flags.StringVar(&o.Node, "node", "", "name of this node")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making the client: %w", err)
	}
	snapshotClient, err := snapshots.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making the client for snapshots: %w", err)
	}
	c := o.Controller()
	p := provisioner.Provisioner{Driver: driver.Name, Controller: c, Snapshots: snapshotClient}
	ctx, cancel := context.WithCancel(ctx)
	failed := make(chan error, 1)
	go func() {
		defer cancel()
		failed <- o.Serve(ctx, c)
	}()
	controller.NewProvisionController(ctx, client, driver.Name, p, controller.LeaderElection(false)).Run(ctx)
	cancel()
	return errors.Join(<-failed)
}

// Command kubernetes is every Kubernetes program of the local cluster in one
// binary, so that the packages they share are linked once. The first argument
// (or, through a symbolic link, the name it is called by) chooses the program.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl's credential plugins
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"          // JSON log format
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // version metric
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"github.com/redisctl/redisctl/internal/testkit/cluster/components/kubernetes/provisioner"
)

// programs builds the table of what this binary can be. The values are
// constructors, not commands: each one installs the process's signal handler,
// which panics the second time, so only the chosen one may ever run.
func programs() map[string]func() *cobra.Command {
	return map[string]func() *cobra.Command{
		"kube-apiserver":          apiserver.NewAPIServerCommand,
		"kube-controller-manager": controllermanager.NewControllerManagerCommand,
		"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
		"kube-proxy":              proxy.NewProxyCommand,
		"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
		"kubectl":                 kubectl.NewDefaultKubectlCommand,
		"volume-provisioner":      provisioner.NewCommand,
	}
}

func main() {
	table := programs()
	name := filepath.Base(os.Args[0])
	if _, ok := table[name]; !ok && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		name = os.Args[0]
	}
	construct, ok := table[name]
	if !ok {
		names := make([]string, 0, len(table))
		for n := range table {
			names = append(names, n)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "usage: kubernetes PROGRAM [FLAGS]\nprograms: %s\n", strings.Join(names, ", "))
		os.Exit(2)
	}
	if name == "kubectl" {
		runKubectl(construct)
		return
	}
	os.Exit(cli.Run(construct()))
}

// runKubectl follows kubectl's own main: verbosity must be set before the
// command is built, and errors are printed by kubectl itself.
func runKubectl(construct func() *cobra.Command) {
	logs.GlogSetter(kubectl.GetLogVerbosity(os.Args)) //nolint:errcheck // as kubectl's own main
	if err := cli.RunNoErrOutput(construct()); err != nil {
		kubectlutil.CheckErr(err)
	}
}

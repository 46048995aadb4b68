package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/mount-utils"
)

// Options say where the driver keeps and offers its volumes.
type Options struct {
	// Root is the folder of all volumes and snapshots.
	Root string
	// Socket is where the driver listens.
	Socket string
	// Registration is the socket in the kubelet's folder of plugins by which the kubelet
	// finds the driver; empty to be found by nobody.
	Registration string
	// Node is the name of the node.
	Node string
}

// Controller returns the part that makes volumes, for callers in the same process.
func (o Options) Controller() csi.ControllerServer {
	return &controller{
		volumes:   store{filepath.Join(o.Root, "volumes")},
		snapshots: store{filepath.Join(o.Root, "snapshots")},
	}
}

// Serve serves the driver, with the controller given, until ctx ends.
func (o Options) Serve(ctx context.Context, c csi.ControllerServer) error {
	server := grpc.NewServer()
	csi.RegisterIdentityServer(server, identity{})
	csi.RegisterControllerServer(server, c)
	csi.RegisterNodeServer(server, node{
		volumes: store{filepath.Join(o.Root, "volumes")}, name: o.Node, mounter: mount.New(""),
	})
	if o.Registration == "" {
		return serve(ctx, server, o.Socket)
	}
	// The kubelet asks the driver as soon as it sees the registration.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	registrar := grpc.NewServer()
	registration.RegisterRegistrationServer(registrar, registrant{endpoint: o.Socket})
	failed := make(chan error, 2)
	for server, socket := range map[*grpc.Server]string{server: o.Socket, registrar: o.Registration} {
		go func() {
			defer cancel()
			failed <- serve(ctx, server, socket)
		}()
	}
	return errors.Join(<-failed, <-failed)
}

func serve(ctx context.Context, server *grpc.Server, socket string) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		return fmt.Errorf("making the socket's folder: %w", err)
	}
	// A process that was killed leaves its socket behind.
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the old socket: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	return server.Serve(listener)
}

// registrant tells the kubelet about the driver: the part of the project's
// node-driver-registrar.
type registrant struct {
	registration.UnimplementedRegistrationServer
	endpoint string
}

func (r registrant) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: Name, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (r registrant) NotifyRegistrationStatus(
	_ context.Context, s *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	if !s.GetPluginRegistered() {
		return nil, fmt.Errorf("the kubelet does not take the driver: %s", s.GetError())
	}
	return &registration.RegistrationStatusResponse{}, nil
}

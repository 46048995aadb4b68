package driver

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
)

// The project's own conformance suite for drivers.
func TestSanity(t *testing.T) {
	if testing.Short() {
		t.Skip("needs root")
	}
	if os.Geteuid() != 0 {
		t.Fatal("volumes are mounted: run as root, or with -short to leave this out")
	}
	dir := t.TempDir()
	o := Options{Root: dir, Socket: filepath.Join(dir, "csi.sock"), Node: "node"}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- o.Serve(ctx, o.Controller()) }()
	config := sanity.NewTestConfig()
	config.Address = o.Socket
	config.TargetPath, config.StagingPath = filepath.Join(dir, "mount"), filepath.Join(dir, "staging")
	sanity.Test(t, config)
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

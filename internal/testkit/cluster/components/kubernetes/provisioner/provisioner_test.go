package provisioner

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

func volumeAt(path string) *v1.PersistentVolume {
	return &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{
		PersistentVolumeSource: v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: path}},
	}}
}

func TestProvisionAndDelete(t *testing.T) {
	if testing.Short() {
		t.Skip("needs root")
	}
	if os.Geteuid() != 0 {
		t.Fatal("volumes belong to another user: run as root, or with -short to leave this out")
	}
	f := folders{root: t.TempDir()}
	policy := v1.PersistentVolumeReclaimDelete
	volume, state, err := f.Provision(t.Context(), controller.ProvisionOptions{
		StorageClass: &storage.StorageClass{ReclaimPolicy: &policy},
		PVName:       "pvc-1",
		PVC:          &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data-redis-0"}},
	})
	if err != nil || state != controller.ProvisioningFinished {
		t.Fatalf("Provision: %v, %v", state, err)
	}
	path := volume.Spec.HostPath.Path
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid != owner || stat.Gid != owner || info.Mode() != os.ModeDir|os.ModeSetgid|0o770 {
		t.Errorf("%s: owner %d:%d, mode %s", path, stat.Uid, stat.Gid, info.Mode())
	}
	if err := f.Delete(t.Context(), volume); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

// A volume is an object that others can edit; its path must not be trusted.
func TestDeleteStaysInsideItsFolder(t *testing.T) {
	dir := t.TempDir()
	f := folders{root: filepath.Join(dir, "volumes")}
	precious := filepath.Join(dir, "precious")
	if err := os.MkdirAll(precious, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{precious, f.root + "/../precious", f.root, f.root + "-other", "/"} {
		var ignored *controller.IgnoredError
		err := f.Delete(t.Context(), volumeAt(path))
		if !errors.As(err, &ignored) {
			t.Errorf("%s: %v, want it to be ignored", path, err)
		}
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

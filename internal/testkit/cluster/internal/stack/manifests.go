package stack

import (
	"context"
	"fmt"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/apiclient"
)

// manifest is an object every cluster has, and its place in the API.
type manifest struct{ file, path string }

func manifests() []manifest {
	const storage, rbac = "/apis/storage.k8s.io/v1/", "/apis/rbac.authorization.k8s.io/v1/"
	const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
	return []manifest{
		{"storageclass-local.yaml", storage + "storageclasses/local"},
		{"storageclass-local-wait.yaml", storage + "storageclasses/local-wait"},
		{"storageclass-csi.yaml", storage + "storageclasses/csi"},
		{"csidriver.yaml", storage + "csidrivers/csi.redisctl.github.io"},
		{"crd-volumesnapshotclasses.yaml", definitions + "volumesnapshotclasses.snapshot.storage.k8s.io"},
		{"crd-volumesnapshotcontents.yaml", definitions + "volumesnapshotcontents.snapshot.storage.k8s.io"},
		{"crd-volumesnapshots.yaml", definitions + "volumesnapshots.snapshot.storage.k8s.io"},
		{"clusterrole-csi.yaml", rbac + "clusterroles/redisctl-cluster:csi"},
		{"clusterrolebinding-csi.yaml", rbac + "clusterrolebindings/redisctl-cluster:csi"},
		{"clusterrole-coredns.yaml", rbac + "clusterroles/redisctl-cluster:coredns"},
		{"clusterrolebinding-coredns.yaml", rbac + "clusterrolebindings/redisctl-cluster:coredns"},
		{"clusterrolebinding-provisioner.yaml", rbac + "clusterrolebindings/redisctl-cluster:provisioner"},
		{"clusterrolebinding-kubelet-api.yaml", rbac + "clusterrolebindings/redisctl-cluster:kubelet-api"},
	}
}

// snapshotManifests can be applied once the API server serves the kinds that the
// custom resource definitions add.
func snapshotManifests() []manifest {
	return []manifest{{"volumesnapshotclass-csi.yaml", "/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses/csi"}}
}

func apply(ctx context.Context, client *apiclient.Client, list []manifest) error {
	for _, m := range list {
		text, err := files.ReadFile("files/manifests/" + m.file)
		if err != nil {
			return fmt.Errorf("reading %s: %w", m.file, err)
		}
		if err := client.Apply(ctx, m.path, text); err != nil {
			return fmt.Errorf("applying %s: %w", m.file, err)
		}
	}
	return nil
}

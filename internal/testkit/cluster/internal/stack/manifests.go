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
	return []manifest{
		{"storageclass-local.yaml", storage + "storageclasses/local"},
		{"storageclass-local-wait.yaml", storage + "storageclasses/local-wait"},
		{"clusterrole-coredns.yaml", rbac + "clusterroles/redisctl-cluster:coredns"},
		{"clusterrolebinding-coredns.yaml", rbac + "clusterrolebindings/redisctl-cluster:coredns"},
		{"clusterrolebinding-provisioner.yaml", rbac + "clusterrolebindings/redisctl-cluster:provisioner"},
		{"clusterrolebinding-kubelet-api.yaml", rbac + "clusterrolebindings/redisctl-cluster:kubelet-api"},
	}
}

func apply(ctx context.Context, client *apiclient.Client) error {
	for _, m := range manifests() {
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

package e2e_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// A volume snapshot brings back what the volume held, in a release that keeps its claims.
func TestRestoreOfAVolumeSnapshot(t *testing.T) {
	for _, variant := range []struct {
		name   string
		config []string
		files  []string
	}{
		{"rdb", quickSync, []string{"dump.rdb"}},
		{"aof", aofOn, []string{"appendonlydir"}},
	} {
		t.Run(variant.name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			r := e.install(t, e.namespace(t, "restore-volume"), chart{
				files: []string{"replica-password.yaml"}, replicas: 1, password: randomPassword(), config: variant.config, values: onCSI,
			})
			s := r.session(t)
			client := r.redis(t, 0)
			require.NoError(t, redisserver.Fill(t.Context(), client, 1, 300))
			want, err := redisserver.TakeDigest(t.Context(), client, notedTimes)
			require.NoError(t, err)
			snapshot := decode[volumeResult](s.run("backup", "volume", "-o", "json").exits(0)).Snapshots[0].Name
			require.NoError(t, client.FlushAll(t.Context()).Err())
			require.NoError(t, client.Set(t.Context(), "newer", "1", 0).Err())
			claim, err := e.CoreV1().PersistentVolumeClaims(r.namespace).Get(t.Context(), "data-"+r.podName(0), metav1.GetOptions{})
			require.NoError(t, err)

			assert.Contains(t, s.complete("restore", "volume", ""), snapshot)
			s.run("restore", "volume", "no-such").exits(1).says("no-such", "backup list --volumes")
			s.run("restore", "volume", snapshot, "--yes").exits(5).says("target-not-empty", "--replace")
			got := decode[restored](s.run("restore", "volume", snapshot, "--replace", "--yes", "-o", "json").exits(0).quiet())
			assert.Equal(t, variant.files, got.Files)
			assert.True(t, got.Comparison.Equal)
			for i := range 2 {
				found, err := redisserver.TakeDigest(t.Context(), r.reconnect(t, i), notedTimes)
				require.NoError(t, err)
				require.NoError(t, want.Diff(found), "pod %d", i)
			}
			after, err := e.CoreV1().PersistentVolumeClaims(r.namespace).Get(t.Context(), claim.Name, metav1.GetOptions{})
			require.NoError(t, err)
			assert.Equal(t, claim.UID, after.UID, "the release keeps its claim")
			eventually(t, "the claim made for copying gone", func(ctx context.Context) error {
				_, err := e.CoreV1().PersistentVolumeClaims(r.namespace).Get(ctx, r.workload+"-redisctl-restore", metav1.GetOptions{})
				if !apierrors.IsNotFound(err) {
					return fmt.Errorf("it is there: %w", err)
				}
				return nil
			})
		})
	}
}

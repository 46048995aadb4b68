package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// restored is what the tests read of the result of `restore rdb`.
type restored struct {
	Outcome      string
	Files        []string
	KeptIn       string
	SafetyBackup string
	Replicas     []string
	Comparison   struct {
		Equal  bool
		Keys   int64 `json:"keysCompared"`
		OfKeys int64 `json:"keysOf"`
	}
}

// A restore brings back what was backed up, in every form in which the chart's servers
// load their data, whatever they save when they are stopped and whatever the replicas
// hold.
func TestRestoreThroughTheVolume(t *testing.T) {
	for _, variant := range []struct {
		name  string
		chart chart
		files []string
	}{
		{"redis 6.0 standalone", chart{files: []string{"standalone.yaml"}, image: "redis:6.0.16"}, []string{"dump.rdb"}},
		{"redis 6.0 aof", chart{files: []string{"replica-password.yaml"}, image: "redis:6.0.16", replicas: 1, config: aofOn}, []string{"appendonly.aof"}},
		{"redis 7.0 replica", chart{files: []string{"replica-password.yaml"}, replicas: 2, config: quickSync}, []string{"dump.rdb"}},
		{"redis 7.0 aof", chart{files: []string{"replica-password.yaml"}, replicas: 1, config: aofOn}, partsOfAOF},
		{"redis 8.0 aof standalone", chart{files: []string{"standalone.yaml"}, image: "redis:8.0.2", config: aofOn}, partsOfAOF},
		{"redis 8.0 replica", chart{files: []string{"replica-password.yaml"}, image: "redis:8.0.2", replicas: 1, config: quickSync}, []string{"dump.rdb"}},
		{"valkey 8.1 replica", chart{files: []string{"replica.yaml"}, image: "valkey:8.1.1", replicas: 1, config: quickSync}, []string{"dump.rdb"}},
		{"existing claim", chart{files: []string{"standalone.yaml"}, values: map[string]any{"persistence": map[string]any{"existingClaim": "mine"}}}, []string{"dump.rdb"}},
	} {
		t.Run(variant.name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			namespace := e.namespace(t, "restore")
			e.makeClaim(t, namespace, "mine")
			if len(variant.chart.files) > 0 && variant.chart.files[0] == "replica-password.yaml" {
				variant.chart.password = randomPassword()
			}
			r := e.install(t, namespace, variant.chart)
			s := r.session(t)
			client := r.redis(t, 0)
			require.NoError(t, redisserver.Fill(t.Context(), client, 1, 1500))
			want, err := redisserver.TakeDigest(t.Context(), client)
			require.NoError(t, err)
			backup := decode[struct{ ID string }](s.run("backup", "rdb", "--pod", r.podName(0), "-o", "json").exits(0)).ID
			// Newer data everywhere, which the servers save when they are stopped.
			require.NoError(t, client.FlushAll(t.Context()).Err())
			require.NoError(t, redisserver.Fill(t.Context(), client, 2, 500))

			s.run("restore", "rdb", backup, "--yes").exits(5).says("target-not-empty", "--replace")
			s.run("restore", "rdb", backup, "--dry-run", "--replace").exits(0).shows("scale to 0")
			got := decode[restored](s.run("restore", "rdb", backup, "--replace", "--yes", "--verify", "full", "-o", "json").exits(0).quiet())
			assert.Equal(t, "restored", got.Outcome)
			assert.Equal(t, variant.files, got.Files)
			assert.True(t, got.Comparison.Equal)
			assert.Equal(t, got.Comparison.OfKeys, got.Comparison.Keys)
			assert.Len(t, got.Replicas, variant.chart.replicas)
			assert.FileExists(t, filepath.Join(s.dir, got.SafetyBackup))
			for i := range variant.chart.replicas + 1 {
				found, err := redisserver.TakeDigest(t.Context(), r.reconnect(t, i))
				require.NoError(t, err)
				require.NoError(t, want.Diff(found), "pod %d", i)
			}
			s.run("restore", "status").exits(0)
			s.run("health", "ping").exits(0)
			// What is written now survives a restart: the server goes on with these files.
			require.NoError(t, r.reconnect(t, 0).Set(t.Context(), "after", "the restore", 0).Err())
			require.NoError(t, r.reconnect(t, 0).Save(t.Context()).Err())
			r.restartPod(t, 0)
			assert.Equal(t, "the restore", r.reconnect(t, 0).Get(t.Context(), "after").Val())
			// The safety backup has what was replaced.
			s.run("restore", "rdb", got.SafetyBackup, "--replace", "--yes").exits(0)
			assert.Positive(t, r.reconnect(t, 0).DBSize(t.Context()).Val())
		})
	}
}

// notedTimes are keys that differ between a primary and its replica, and after an AOF was
// replayed: each server notes by itself when it saw a consumer of a stream.
const notedTimes = "stream:"

var (
	aofOn      = []string{"appendonly yes", "repl-diskless-sync-delay 0"}
	partsOfAOF = []string{"appendonlydir/appendonly.aof.1.base.rdb", "appendonlydir/appendonly.aof.manifest"}
)

// restartPod ends a pod as a drained node does, and returns when it is Ready again.
func (r *release) restartPod(t *testing.T, ordinal int) {
	t.Helper()
	uid := r.pod(t, ordinal).UID
	require.NoError(t, r.env.CoreV1().Pods(r.namespace).Delete(t.Context(), r.podName(ordinal), metav1.DeleteOptions{}))
	eventually(t, "a new "+r.podName(ordinal), func(ctx context.Context) error {
		pod, err := r.getPod(ctx, ordinal)
		if err == nil && pod.UID == uid {
			err = errors.New("it is the old one")
		}
		return err
	})
	r.awaitReady(t)
}

func (e *environment) makeClaim(t *testing.T, namespace, name string) {
	t.Helper()
	_, err := e.CoreV1().PersistentVolumeClaims(namespace).Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("64Mi")}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// Older servers' snapshots restore into newer ones; the other way is refused before
// anything is touched.
func TestRestoreAcrossVersions(t *testing.T) {
	for _, target := range []struct {
		image string
		from  []string
		newer string // is refused
	}{
		{"redis:7.0.15", []string{redisserver.Redis60, redisserver.Redis70}, redisserver.Redis80},
		{"redis:8.0.2", []string{redisserver.Redis60, redisserver.Redis70}, ""},
		{"valkey:8.1.1", []string{redisserver.Redis60, redisserver.Redis70}, redisserver.Redis80},
	} {
		t.Run(target.image, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			r := e.install(t, e.namespace(t, "versions"), chart{files: []string{"standalone.yaml"}, image: target.image, config: quickSync})
			s := r.session(t)
			for _, version := range target.from {
				file := saved(t, version)
				got := decode[restored](s.run("restore", "rdb", file, "--replace", "--yes", "--verify", "full", "-o", "json").exits(0))
				assert.True(t, got.Comparison.Equal, version)
			}
			if target.newer == "" {
				return
			}
			uid := r.pod(t, 0).UID
			s.run("restore", "rdb", saved(t, target.newer), "--replace", "--yes").exits(9).says("RDB version 12", "would not start")
			assert.Equal(t, uid, r.pod(t, 0).UID, "the pod was not touched")
		})
	}
}

// saved returns an RDB file of a server of that version.
func saved(t *testing.T, version string) string {
	t.Helper()
	server := redisserver.Start(t, redisserver.Options{Version: version})
	require.NoError(t, redisserver.Fill(t.Context(), server.Client(), 3, 600))
	require.NoError(t, server.Client().Save(t.Context()).Err())
	return filepath.Join(server.Dir, "dump.rdb")
}

// A server that cannot load the backup gets its former data back.
func TestRestoreThatCannotLoad(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "unloadable"), chart{files: []string{"replica-password.yaml"}, replicas: 1, password: randomPassword(), config: quickSync})
	s := r.session(t)
	client := r.redis(t, 0)
	require.NoError(t, redisserver.Fill(t.Context(), client, 1, 300))
	want, err := redisserver.TakeDigest(t.Context(), client, notedTimes)
	require.NoError(t, err)
	file := filepath.Join(s.dir, s.run("backup", "rdb", "-o", "jsonpath={.file}").exits(0).lines()[0])
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	data[len(data)/2] ^= 0xff
	damaged := filepath.Join(t.TempDir(), "damaged.rdb")
	require.NoError(t, os.WriteFile(damaged, data, 0o600))

	uid := r.pod(t, 0).UID
	s.run("restore", "rdb", damaged, "--replace", "--yes").exits(5).says("backup-not-verified", "--allow-unverified")
	assert.Equal(t, uid, r.pod(t, 0).UID, "the pod was not touched")
	failed := s.run("restore", "rdb", damaged, "--replace", "--yes", "--allow-unverified")
	failed.exits(1).says("does not start with the restored files", "the release serves its former data")
	r.awaitReady(t)
	for i := range 2 {
		found, err := redisserver.TakeDigest(t.Context(), r.reconnect(t, i), notedTimes)
		require.NoError(t, err)
		require.NoError(t, want.Diff(found), "pod %d", i)
	}
	s.run("restore", "status").exits(0)
}

// After a promotion the Services lead to another pod. A restore starts with the first
// one, and sends the clients there.
func TestRestoreAfterAPromotion(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "promoted"), chart{files: []string{"replica-password.yaml"}, replicas: 1, password: randomPassword(), config: quickSync})
	s := r.session(t)
	require.NoError(t, r.redis(t, 0).Set(t.Context(), "old", "1", 0).Err())
	s.run("backup", "rdb").exits(0)
	s.run("promote", r.podName(1), "--yes").exits(0)
	require.NoError(t, r.redis(t, 1).Set(t.Context(), "new", "1", 0).Err())
	s.run("restore", "rdb", "latest", "--replace", "--yes").exits(0)
	s.run("replication", "info").exits(0).shows(r.podName(0) + " primary")
	s.run("replication", "check").exits(0)
	s.run("failover", "status").exits(0).shows("observed  " + r.podName(0))
	assert.Equal(t, []any{"1", nil}, r.reconnect(t, 0).MGet(t.Context(), "old", "new").Val())
}

// What stands in the way is told all at once, and nothing is touched.
func TestRestoreRefusals(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "refused"), chart{files: []string{"replica.yaml"}, replicas: 1, config: quickSync})
	other := e.install(t, e.namespace(t, "refused"), chart{files: []string{"no-persistence.yaml"}, replicas: 1, config: quickSync})
	s := r.session(t)
	require.NoError(t, r.redis(t, 0).Set(t.Context(), "key", "1", 0).Err())
	file := filepath.Join(s.dir, s.run("backup", "rdb", "-o", "jsonpath={.file}").exits(0).lines()[0])

	r.patch(t, `{"metadata": {"labels": {"argocd.argoproj.io/instance": "shop"}}}`)
	s.run("restore", "rdb", "latest", "--yes").exits(5).says(
		"target-not-empty", "--replace", "managed-by-controller", "Argo CD application shop", "--allow-managed", "nothing was changed")
	refused := other.session(t).run("restore", "rdb", file, "--method", "volume", "--yes")
	refused.exits(5).says("no-volume", "--method live")
	// Without a volume the data goes into the running servers.
	o := other.session(t)
	o.run("restore", "rdb", file, "--yes").exits(5).says("other-release", "--allow-other-release")
	o.run("restore", "rdb", file, "--yes", "--allow-other-release").exits(0)
	assert.Equal(t, "1", other.redis(t, 0).Get(t.Context(), "key").Val())
	s.run("health").shows("healthy")
}

// Whenever redisctl is killed, what it leaves tells how to go on or back, and either
// works.
func TestKilledRestore(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "killed"), chart{
		files: []string{"replica-password.yaml"}, replicas: 1, password: randomPassword(), config: aofOn,
	})
	s := r.session(t)
	client := r.redis(t, 0)
	require.NoError(t, redisserver.Fill(t.Context(), client, 1, 400))
	old, err := redisserver.TakeDigest(t.Context(), client, notedTimes)
	require.NoError(t, err)
	first := decode[struct{ ID string }](s.run("backup", "rdb", "-o", "json").exits(0)).ID
	require.NoError(t, client.FlushAll(t.Context()).Err())
	require.NoError(t, redisserver.Fill(t.Context(), client, 2, 400))
	fresh, err := redisserver.TakeDigest(t.Context(), client, notedTimes)
	require.NoError(t, err)
	second := decode[struct{ ID string }](s.run("backup", "rdb", "-o", "json").exits(0)).ID

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	// The release holds have, and want is restored over it.
	have, want, backup, next := fresh, old, first, second
	for i := range proofRuns(4) {
		signal, after := syscall.SIGKILL, []string{"resume", "abort"}[i%2]
		if i%4 == 3 {
			signal = syscall.SIGINT
		}
		delay := time.Duration(random.Int64N(int64(20 * time.Second)))
		t.Run(fmt.Sprintf("%02d %s after %s, then %s", i, signal, delay.Round(time.Millisecond), after), func(t *testing.T) {
			s := s.in(t)
			restore := s.start("restore", "rdb", backup, "--replace", "--no-safety-backup", "--yes")
			// The moment is random on purpose; nothing is waited for.
			<-time.After(delay)
			_ = restore.cmd.Process.Signal(signal) // it may be done
			killed := restore.wait()
			if s.run("restore", "status").code == 0 {
				t.Logf("nothing is unfinished: exit code %d", killed.code)
			} else {
				s.run("health").exits(10).shows("unfinished-restore")
				// The lock of a killed process ends by itself.
				eventually(t, "restore "+after, func(context.Context) error {
					if done := s.run("restore", after, "--yes"); done.code != 0 {
						return fmt.Errorf("%s", done)
					}
					return nil
				})
			}
			r.awaitReady(t)
			found, err := redisserver.TakeDigest(t.Context(), r.reconnect(t, 0), notedTimes)
			require.NoError(t, err)
			if want.Diff(found) != nil {
				require.NoError(t, have.Diff(found), "it holds neither what was there nor what was restored")
			} else {
				have, want, backup, next = want, have, next, backup
			}
			s.run("restore", "status").exits(0)
			s.run("replication", "check").exits(0)
		})
	}
}

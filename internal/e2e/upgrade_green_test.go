package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// beside returns the second release that an upgrade has made beside r.
func (r *release) beside(t *testing.T) *release {
	t.Helper()
	second := &release{
		env: r.env, namespace: r.namespace, name: r.name + "-green", workload: r.name + "-green-redis",
		password: r.password, clients: map[int]*goredis.Client{},
	}
	t.Cleanup(func() {
		for _, client := range second.clients {
			_ = client.Close() // the test is over
		}
	})
	return second
}

// selects returns the pod that a Service of the release is pinned to, and the release
// whose pods it selects.
func (r *release) selects(t *testing.T, service string) (pod, instance string) {
	t.Helper()
	s, err := r.env.CoreV1().Services(r.namespace).Get(t.Context(), service, metav1.GetOptions{})
	require.NoError(t, err)
	return s.Spec.Selector["statefulset.kubernetes.io/pod-name"], s.Spec.Selector["app.kubernetes.io/instance"]
}

// TestUpgradeBlueGreen: a second release takes the clients over and gives them back while
// eight of them write through the first one's Service.
func TestUpgradeBlueGreen(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	c := persistences["aof"]
	c.image, c.replicas, c.password = "redis:7.0.15", 1, randomPassword()
	r := e.install(t, e.namespace(t, "blue-green"), c)
	s := r.session(t)
	fillFlat(t, r.redis(t, 0), 2000, 100)
	uid := r.pod(t, 0).UID
	clients := redisserver.StartClientsOf(t, []string{r.clientAddress(t)}, r.password, 8)
	clients.AwaitWrites(100)
	clients.Silence()
	apply := []string{"upgrade", "apply", "--strategy", "blue-green", "--to", "8.0.2", "--no-trial"}

	s.run("upgrade", "cutover", "--yes").exits(5).says("there is no second release")
	s.run(append(apply, "--dry-run")...).exits(0).shows("cache-green", "follow")
	s.run(append(apply, "--yes")...).exits(0).shows("cache-green follows " + r.podName(0))
	second := r.beside(t)
	second.awaitReady(t)
	s.run("upgrade", "status").exits(10).shows("ready", second.podName(0), "8.0.2")
	s.run(append(apply, "--yes")...).exits(5).says("there is a second release already")
	s.run("upgrade", "failback", "--yes").exits(5).says("no cutover was made")
	clients.AwaitWrites(100)
	t.Logf("while the second release came up, no write for %s at most", clients.Silence())

	s.run("upgrade", "cutover", "--dry-run").exits(0).shows("pause writes")
	over := decode[switched](s.run("upgrade", "cutover", "--yes", "-o", "json").exits(0))
	clients.AwaitWrites(100)
	t.Logf("cutover: no server took writes for %.0f ms, none through the Service for %s at most", over.WriteGapMilliseconds, clients.Silence())
	assert.Equal(t, second.podName(0), over.To)
	assert.ElementsMatch(t, []string{r.workload, r.workload + "-master"}, over.Services)
	for _, service := range over.Services {
		pod, instance := r.selects(t, service)
		assert.Equal(t, []string{second.podName(0), "cache-green"}, []string{pod, instance})
	}
	s.run("upgrade", "status").exits(10).shows("serving", "failback")
	s.run("upgrade", "abort", "--yes").exits(5).says("cache-green serves")
	s.run("replication", "heal", "--yes").exits(5).says("served-elsewhere")

	back := decode[switched](s.run("upgrade", "failback", "--yes", "-o", "json").exits(0))
	clients.AwaitWrites(100)
	t.Logf("failback: no server took writes for %.0f ms, none through the Service for %s at most", back.WriteGapMilliseconds, clients.Silence())
	assert.Equal(t, r.podName(0), back.To)
	for _, service := range back.Services {
		pod, instance := r.selects(t, service)
		assert.Equal(t, []string{r.podName(0), "cache"}, []string{pod, instance})
	}
	assert.Equal(t, uid, r.pod(t, 0).UID, "the first release's pod")

	s.run("upgrade", "cutover", "--yes").exits(0)
	clients.AwaitWrites(100)
	clients.Stop()
	lost, err := clients.Lost(t.Context(), second.redis(t, 0))
	require.NoError(t, err)
	assert.Empty(t, lost, "lost of %d acknowledged writes", clients.Acknowledged())

	// The first release's pod restarts, and is a primary of its own: no way back.
	r.deletePod(t, 0)
	r.awaitRestarted(t, 0)
	r.awaitReady(t)
	s.run("upgrade", "failback", "--yes").exits(5).says("does not have everything", "would be lost")
	s.run("upgrade", "finish", "--yes").exits(0).shows("cache-redis-master", "helm uninstall deletes them")
	s.run("upgrade", "status").exits(0)
}

// TestUpgradeBlueGreenStandalone: a server without replicas, whose second release follows the
// address of its pod.
func TestUpgradeBlueGreenStandalone(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	r := e.install(t, e.namespace(t, "blue-green-alone"), chart{
		image: "redis:6.0.16", files: []string{"standalone.yaml"}, config: append([]string{"maxmemory 0"}, quickSync...),
	})
	s := r.session(t)
	clients := redisserver.StartClientsOf(t, []string{r.clientAddress(t)}, r.password, 8)
	clients.AwaitWrites(100)
	s.run("upgrade", "apply", "--strategy", "blue-green", "--to", "7.0.15", "--no-trial", "--yes").exits(0)
	second := r.beside(t)
	s.run("upgrade", "cutover", "--dry-run").exits(0)
	// 6.0 can follow 7.0 as long as it needs no full copy, which it cannot load: whether it
	// does, the cutover is complete.
	cutover := s.run("upgrade", "cutover", "--yes", "-o", "json", "-v").exits(0)
	t.Logf("cutover: no server took writes for %.0f ms", decode[switched](cutover).WriteGapMilliseconds)
	clients.AwaitWrites(100)
	s.run("health").exits(10).shows("served-elsewhere")
	if strings.Contains(cutover.stderr, "no way back to "+r.podName(0)) {
		s.run("upgrade", "failback", "--yes").exits(5).says("does not have everything")
	}
	clients.Stop()
	lost, err := clients.Lost(t.Context(), second.redis(t, 0))
	require.NoError(t, err)
	assert.Empty(t, lost, "lost of %d acknowledged writes", clients.Acknowledged())
	s.run("upgrade", "finish", "--yes").exits(0)
	second.session(t).run("health").exits(0)
}

// TestUpgradeBlueGreenAborted: before the cutover nothing of the second release remains,
// whether it was ready or interrupted, or its image is bad.
func TestUpgradeBlueGreenAborted(t *testing.T) {
	t.Parallel()
	e := setup(t)
	c := persistences["rdb"]
	c.image, c.replicas, c.password = "redis:7.0.15", 1, randomPassword()
	r := e.install(t, e.namespace(t, "blue-green-abort"), c)
	s := r.session(t)
	fillFlat(t, r.redis(t, 0), 500, 100)
	uid := r.pod(t, 0).UID
	apply := []string{"upgrade", "apply", "--strategy", "blue-green", "--to", "8.0.2", "--no-trial", "--yes"}

	s.run(apply...).exits(0)
	s.run("upgrade", "abort", "--yes").exits(0).shows("data-cache-green-redis-0")
	r.assertAlone(t)

	running := s.start(apply...)
	running.while("the second release is being installed", func(ctx context.Context) error {
		set, err := r.statefulSet(ctx)
		if err == nil && set.Annotations[operation.NoteGreen] == "" {
			err = errors.New("nothing is recorded yet")
		}
		return err
	})
	require.NoError(t, running.cmd.Process.Kill())
	running.wait()
	var last *result
	eventually(t, "the lock of a process that was killed", func(context.Context) error {
		if last = s.run("upgrade", "resume", "--yes"); last.code != 0 {
			return fmt.Errorf("%s", last)
		}
		return nil
	})
	if strings.Contains(last.stdout, "cache-green follows") {
		s.run("upgrade", "abort", "--yes").exits(0)
	}
	r.assertAlone(t)

	s.run("upgrade", "apply", "--strategy", "blue-green", "--image", "docker.io/library/redis:9.9.9", "--no-trial", "--yes",
		"--pull-timeout", "3s").exits(1).says("9.9.9", "was removed again")
	r.assertAlone(t)
	assert.Equal(t, uid, r.pod(t, 0).UID, "the first release's pod")
	s.run("upgrade", "status").exits(0)
	s.run("replication", "check").exits(0)
}

// assertAlone asserts that nothing of a second release is in the namespace.
func (r *release) assertAlone(t *testing.T) {
	t.Helper()
	for _, kind := range []string{"statefulsets", "services", "configmaps", "persistentvolumeclaims", "pods"} {
		eventually(t, "the "+kind+" of the second release are gone", func(context.Context) error {
			out, err := r.kubectl(t, "get", kind, "-l", "app.kubernetes.io/instance="+r.name+"-green", "-o", "name")
			if err == nil && strings.TrimSpace(out) != "" {
				err = fmt.Errorf("%s", out)
			}
			return err
		})
	}
	out, err := r.helm(t, "list")
	require.NoError(t, err)
	assert.NotContains(t, out, r.name+"-green")
}

// TestUpgradeBlueGreenKilled kills redisctl at random moments of cutovers and failbacks.
// resume leads to one primary that the Services select, and nothing is lost.
func TestUpgradeBlueGreenKilled(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	c := persistences["aof"]
	c.image, c.replicas, c.password = "redis:7.0.15", 1, randomPassword()
	r := e.install(t, e.namespace(t, "blue-green-kill"), c)
	s := r.session(t)
	clients := redisserver.StartClientsOf(t, []string{r.clientAddress(t)}, r.password, 8)
	s.run("upgrade", "apply", "--strategy", "blue-green", "--to", "8.0.2", "--no-trial", "--yes").exits(0)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	sides := map[string]*release{"ready": r, "serving": r.beside(t)}
	serving := "ready"
	for range proofRuns(4) {
		command := map[string]string{"ready": "cutover", "serving": "failback"}[serving]
		running := s.start("upgrade", command, "--yes")
		running.while("the "+command+" has begun", func(ctx context.Context) error {
			set, err := r.statefulSet(ctx)
			if err == nil && set.Annotations[operation.NoteCutover] == "" {
				err = errors.New("not yet")
			}
			return err
		})
		delay := time.Duration(random.Int64N(int64(1500 * time.Millisecond)))
		// The moment is random on purpose; nothing is waited for.
		<-time.After(delay)
		_ = running.cmd.Process.Kill() // or it was done
		running.wait()
		var last *result
		eventually(t, "the interrupted "+command+" to be resumed", func(context.Context) error {
			if last = s.run("upgrade", "resume", "--yes"); last.code != 0 {
				return fmt.Errorf("%s", last)
			}
			return nil
		})
		status := decode[struct {
			Green struct {
				Record    struct{ Phase string }
				Primaries []string
			}
		}](s.run("upgrade", "status", "-o", "json").exits(10))
		serving = status.Green.Record.Phase
		require.Contains(t, sides, serving)
		assert.Equal(t, []string{sides[serving].podName(0)}, status.Green.Primaries)
		pod, _ := r.selects(t, r.workload)
		assert.Equal(t, sides[serving].podName(0), pod)
		clients.AwaitWrites(20)
		t.Logf("%s killed after %s: %s", command, delay, serving)
	}
	clients.Stop()
	lost, err := clients.Lost(t.Context(), sides[serving].redis(t, 0))
	require.NoError(t, err)
	assert.Empty(t, lost, "lost of %d acknowledged writes", clients.Acknowledged())
}

// TestUpgradeDumpRestore: from Redis 8 to Valkey, which cannot load its RDB, and back, while
// eight clients write through the Service.
func TestUpgradeDumpRestore(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	c := persistences["rdb"]
	c.image, c.replicas, c.password = "redis:8.0.2", 1, randomPassword()
	r := e.install(t, e.namespace(t, "dump-restore"), c)
	s := r.session(t)
	fillFlat(t, r.redis(t, 0), 40000, 100)
	require.NoError(t, redisserver.Fill(t.Context(), r.redis(t, 0), 3, 200), "values of all types")
	require.NoError(t, r.redis(t, 0).Del(t.Context(), "hash:field-ttl").Err(), "fields that expire are not in Valkey 8")
	clients := redisserver.StartClientsOf(t, []string{r.clientAddress(t)}, r.password, 8)
	clients.AwaitWrites(100)
	clients.Silence()
	apply := []string{"upgrade", "apply", "--strategy", "dump-restore", "--image", "docker.io/library/valkey:8.1.1", "--no-trial"}

	s.run(append(apply, "--dry-run")...).exits(0).shows("restore the backup, and compare every key")
	s.run(append(apply, "--yes")...).exits(0).shows("cache-green has the", "all compared", "copied in")
	t.Logf("while the second release came up and got its first copy, no write for %s at most", clients.Silence())
	second := r.beside(t)
	s.run("upgrade", "status").exits(10).shows("ready", "valkey")

	s.run("upgrade", "cutover", "--dry-run").exits(0).shows("writes-wait", "pause writes", "refuse writes from then on")
	over := decode[switched](s.run("upgrade", "cutover", "--yes", "-o", "json").exits(0))
	clients.AwaitWrites(100)
	t.Logf("cutover: writes waited for %.1f s, none through the Service for %s at most", over.WriteGapMilliseconds/1000, clients.Silence())
	for _, service := range over.Services {
		pod, instance := r.selects(t, service)
		assert.Equal(t, []string{second.podName(0), "cache-green"}, []string{pod, instance})
	}
	err := r.redis(t, 0).Set(t.Context(), "x", "y", 0).Err()
	require.ErrorContains(t, err, "READONLY", "the first release takes no writes")
	s.run("upgrade", "status").exits(10).shows("serving", "failback")
	s.run("health").exits(10).shows("served-elsewhere", "cache-green")
	s.run("replication", "heal", "--yes").exits(5).says("served-elsewhere")

	// Nothing is switched when the copy takes longer than writes may wait.
	s.run("upgrade", "failback", "--yes", "--copy-pause", "300ms").exits(7).says("takes writes")
	clients.AwaitWrites(100)
	clients.Silence()
	back := decode[switched](s.run("upgrade", "failback", "--yes", "-o", "json").exits(0))
	clients.AwaitWrites(100)
	t.Logf("failback: writes waited for %.1f s, none through the Service for %s at most", back.WriteGapMilliseconds/1000, clients.Silence())
	assert.Equal(t, r.podName(0), back.To)

	// Killed at the cutover: resume leads to one side, and nothing is lost.
	running := s.start("upgrade", "cutover", "--yes")
	running.while("the cutover has begun", func(ctx context.Context) error {
		set, err := r.statefulSet(ctx)
		if err == nil && set.Annotations[operation.NoteCutover] == "" {
			err = errors.New("not yet")
		}
		return err
	})
	require.NoError(t, running.cmd.Process.Kill())
	running.wait()
	eventually(t, "the interrupted cutover to be resumed", func(context.Context) error {
		if last := s.run("upgrade", "resume", "--yes"); last.code != 0 {
			return fmt.Errorf("%s", last)
		}
		return nil
	})
	s.run("upgrade", "status").exits(10).shows("ready")
	clients.AwaitWrites(100)

	s.run("upgrade", "cutover", "--yes").exits(0)
	clients.AwaitWrites(100)
	clients.Stop()
	lost, err := clients.Lost(t.Context(), second.redis(t, 0))
	require.NoError(t, err)
	assert.Empty(t, lost, "lost of %d acknowledged writes", clients.Acknowledged())
	s.run("upgrade", "finish", "--yes").exits(0)
	s.run("health").exits(0).shows("served-elsewhere", "cache-green")
	second.session(t).run("health").exits(0)
}

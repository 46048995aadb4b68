package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// upgraded is what the tests read of the result of an upgrade.
type upgraded struct {
	Outcome, Strategy        string
	From, To                 string
	FormerRevision, Revision int
	Backup, Primary          string
	Pods                     []struct {
		Name, Version            string
		DownSeconds, SyncSeconds float64
	}
	HandOvers []struct {
		From, To             string
		WriteGapMilliseconds float64
	}
	WriteGapMilliseconds float64
}

// persistences are the ways of keeping data, as redis.conf says it. An upgrade has to save
// the data by all of them.
var persistences = map[string]chart{
	"rdb":  {files: []string{"replica-password.yaml"}, config: append([]string{"maxmemory 0"}, quickSync...)},
	"aof":  {files: []string{"replica-password.yaml"}, config: append([]string{"maxmemory 0", "appendonly yes"}, quickSync...)},
	"none": {files: []string{"replica-password.yaml", "no-persistence.yaml"}, config: append([]string{"maxmemory 0", `save ""`}, quickSync...)},
}

// TestUpgradeRolling upgrades releases while eight clients write through the Service.
// REDISCTL_PROOF=1 tries every pair of versions with every way of keeping data.
func TestUpgradeRolling(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	for i, pair := range [][2]string{{"redis:6.0.16", "redis:7.0.15"}, {"redis:7.0.15", "redis:8.0.2"}, {"redis:7.0.15", "valkey:8.1.1"}} {
		for j, kept := range []string{"rdb", "aof", "none"} {
			if i != j && proofRuns(1) == 1 {
				continue
			}
			t.Run(fmt.Sprintf("%s to %s %s", pair[0], pair[1], kept), func(t *testing.T) {
				t.Parallel()
				c := persistences[kept]
				c.image, c.replicas, c.password = pair[0], 2, randomPassword()
				testUpgradeRolling(t, e.install(t, e.namespace(t, "upgrade"), c), pair[1], i == 0)
			})
		}
	}
}

func testUpgradeRolling(t *testing.T, r *release, image string, failback bool) {
	s := r.session(t)
	_, version, _ := strings.Cut(image, ":")
	fillFlat(t, r.redis(t, 0), 2000, 100)
	clients := redisserver.StartClientsOf(t, []string{r.clientAddress(t)}, r.password, 8)
	clients.AwaitWrites(100)
	clients.Silence()
	args := []string{"upgrade", "apply", "--image", "docker.io/library/" + image, "--yes", "-o", "json"}
	if failback {
		args = append(args, "--failback")
	}
	result := decode[upgraded](s.run(args...).exits(0))
	clients.AwaitWrites(100)
	primary := 1
	if failback {
		primary = 0
	}
	t.Logf("no server took writes for %.0f ms in %d hand-overs, none through the Service for %s at most",
		result.WriteGapMilliseconds, len(result.HandOvers), clients.Silence())
	clients.Stop()
	lost, err := clients.Lost(t.Context(), r.redis(t, ordinal(t, result.Primary)))
	require.NoError(t, err)
	assert.Empty(t, lost, "lost of %d acknowledged writes", clients.Acknowledged())

	assert.Equal(t, "upgraded", result.Outcome)
	assert.Equal(t, r.podName(2), result.Pods[0].Name, "replicas first")
	assert.Equal(t, r.podName(0), result.Pods[len(result.Pods)-1].Name, "the old primary last")
	for _, pod := range result.Pods {
		assert.Equal(t, version, lastWord(pod.Version))
	}
	s.run("backup", "verify", strings.TrimSuffix(filepath.Base(result.Backup), ".manifest.json")).exits(0)
	if failback {
		assert.Equal(t, r.podName(primary), result.Primary)
	}
	r.assertUpgraded(t, image)
	s.run("replication", "check").exits(0)
	s.run("upgrade", "status").exits(0).shows("no upgrade is unfinished")
	out, err := r.helm(t, "get", "values", r.name)
	require.NoError(t, err)
	assert.Contains(t, out, version)
	for i := range 3 {
		keys, err := r.redis(t, i).Exists(t.Context(), "flat:0", "flat:1999").Result()
		require.NoError(t, err)
		assert.EqualValues(t, 2, keys)
	}
}

func lastWord(text string) string { return text[strings.LastIndex(text, " ")+1:] }

// assertUpgraded asserts that every pod runs the image, that Helm says so, and that
// nothing of an upgrade is left at the workload.
func (r *release) assertUpgraded(t *testing.T, image string) {
	t.Helper()
	set, err := r.statefulSet(t.Context())
	require.NoError(t, err)
	assert.Equal(t, appsv1.RollingUpdateStatefulSetStrategyType, set.Spec.UpdateStrategy.Type)
	assert.NotContains(t, set.Annotations, operation.NoteUpgrade)
	r.awaitReady(t)
	for _, pod := range r.pods(t) {
		for _, c := range pod.Spec.Containers {
			if c.Name == "redis" {
				assert.Equal(t, "docker.io/library/"+image, c.Image, pod.Name)
			}
		}
	}
	out, err := r.helm(t, "list", "--filter", "^"+r.name+"$")
	require.NoError(t, err)
	assert.Contains(t, out, "deployed")
}

// TestUpgradeBadImage: a new image that is no good is found at the first pod, which comes
// back by itself; the primary is not touched.
func TestUpgradeBadImage(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	for name, c := range map[string]struct {
		image string
		kept  string
		// unknown is a directive that the new server does not know.
		unknown string
		says    string
	}{
		"cannot be pulled":         {image: "redis:9.9.9", kept: "rdb", says: "9.9.9"},
		"crash-loops":              {image: "redis-exporter-standin:1.0", kept: "rdb", says: "executable file not found"},
		"cannot read the data":     {image: "redis:6.0.16", kept: "rdb", says: "Can't handle RDB format version"},
		"does not know the config": {image: "redis:6.0.16", kept: "none", unknown: "latency-tracking yes", says: "latency-tracking"},
		"never gets in sync":       {image: "redis:6.0.16", kept: "none", says: "Can't handle RDB format version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			installed := persistences[c.kept]
			installed.image, installed.replicas, installed.password = "redis:7.0.15", 1, randomPassword()
			if c.unknown != "" {
				installed.config = append([]string{c.unknown}, installed.config...)
			}
			r := e.install(t, e.namespace(t, "bad-image"), installed)
			s := r.session(t)
			fillFlat(t, r.redis(t, 0), 500, 100)
			require.NoError(t, r.redis(t, 0).Do(t.Context(), "WAIT", 1, 30_000).Err())
			if c.kept == "rdb" { // what the replica has on its disk is of the newer version
				s.run("backup", "rdb", "--method", "bgsave", "--pod", r.podName(1)).exits(0)
			}
			uid := r.pod(t, 0).UID
			clients := redisserver.StartClientsOf(t, []string{r.clientAddress(t)}, r.password, 8)
			clients.AwaitWrites(100)
			clients.Silence()
			failed := s.run("upgrade", "apply", "--image", "docker.io/library/"+c.image, "--yes", "-o", "json", "--no-trial",
				"--allow-downgrade", "--pull-timeout", "5s", "--start-timeout", "40s").exits(1).says(c.says, r.podName(1), "the primary was not touched")
			clients.AwaitWrites(100)
			t.Logf("no write through the Service for %s at most\n%s", clients.Silence(), failed.stderr)
			assert.Equal(t, uid, r.pod(t, 0).UID, "the primary's pod")
			clients.Stop()
			lost, err := clients.Lost(t.Context(), r.redis(t, 0))
			require.NoError(t, err)
			assert.Empty(t, lost)
			r.assertUpgraded(t, "redis:7.0.15")
			s.run("replication", "check").exits(0)
			s.run("upgrade", "status").exits(0)
		})
	}
}

// TestUpgradeKilled kills redisctl at a random moment of an upgrade, and of going on with
// it. The documented way leads to its end.
func TestUpgradeKilled(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	c := persistences["aof"]
	c.image, c.replicas, c.password = "redis:7.0.15", 1, randomPassword()
	r := e.install(t, e.namespace(t, "upgrade-kill"), c)
	s := r.session(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	runs := 3
	if proofRuns(1) > 1 {
		runs = 30
	}
	// An upgrade that was done before does not count; how long one takes is learnt.
	window, killed := 20*time.Second, 0
	for i := 0; killed < runs && i < 3*runs && !t.Failed(); i++ {
		delay := time.Duration(random.Int64N(int64(window)))
		t.Run(fmt.Sprintf("%02d after %s", i, delay.Round(time.Millisecond)), func(t *testing.T) {
			if testUpgradeKilled(t, r, s.in(t), delay, i) {
				killed++
			} else {
				window = delay
			}
		})
	}
	t.Logf("killed %d times", killed)
	assert.Equal(t, runs, killed)
}

// testUpgradeKilled reports whether the upgrade was not done before.
func testUpgradeKilled(t *testing.T, r *release, s *session, delay time.Duration, round int) bool {
	primary := func() int {
		return ordinal(t, s.run("replication", "primary", "-o", "name").exits(0).lines()[0])
	}
	require.NoError(t, r.redis(t, primary()).FlushAll(t.Context()).Err())
	fillFlat(t, r.redis(t, primary()), 500, 100)
	clients := redisserver.StartClientsOf(t, []string{r.clientAddress(t)}, r.password, 8)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s\n%s", s.run("health", "-o", "wide"), s.run("upgrade", "status"))
		}
	})
	// The image stays: what is upgraded again and again is an annotation of the pods.
	apply := s.start("upgrade", "apply", "--set-string", fmt.Sprintf("podAnnotations.round=%d", round+1), "--yes", "--no-trial", "--no-backup", "--failback")
	// The moment is random on purpose; nothing is waited for.
	<-time.After(delay)
	done := errors.Is(apply.cmd.Process.Signal(syscall.SIGKILL), os.ErrProcessDone)
	killed := apply.wait()
	var last *result
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, poll(ctx, func(context.Context) error {
		last = s.run("upgrade", "resume", "--yes") // its lock outlives a process that was killed
		if last.code != 0 && last.code != 5 {      // there was none
			return fmt.Errorf("exit code %d", last.code)
		}
		if last = s.run("replication", "check"); last.code != 0 {
			return fmt.Errorf("exit code %d", last.code)
		}
		return nil
	}), "after %s\nthe way forward ends here: %s", killed, last)
	clients.AwaitWrites(10)
	clients.Stop()
	lost, err := clients.Lost(t.Context(), r.redis(t, primary()))
	require.NoError(t, err)
	assert.Empty(t, lost, "lost of %d acknowledged writes", clients.Acknowledged())
	r.assertUpgraded(t, "redis:7.0.15")
	s.run("upgrade", "status").exits(0)
	t.Logf("killed after %s (done before: %t): %s", delay, done, firstLineOf(last.stdout))
	return !done
}

func firstLineOf(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// TestUpgradeOvertaken: somebody else changes the release meanwhile.
func TestUpgradeOvertaken(t *testing.T) {
	t.Parallel()
	e := setup(t)
	c := persistences["aof"]
	c.image, c.replicas, c.password = "redis:7.0.15", 1, randomPassword()
	r := e.install(t, e.namespace(t, "overtaken"), c)
	s := r.session(t)
	apply := s.start("upgrade", "apply", "--to", "8.0.2", "--yes", "--no-trial", "--no-backup")
	apply.while("Helm has made a revision", func(ctx context.Context) error {
		set, err := r.statefulSet(ctx)
		if err != nil {
			return err
		}
		if !strings.Contains(set.Annotations[operation.NoteUpgrade], `"phase":"rolling"`) {
			return errors.New("not yet")
		}
		return nil
	})
	uid := r.pod(t, 0).UID
	out, err := r.upgrade(t, "--set", "podAnnotations.by=another")
	require.NoError(t, err, out)
	apply.wait().exits(1).says("somebody else has changed the release", "upgrade status")
	assert.Equal(t, uid, r.pod(t, 0).UID, "the primary's pod")
	s.run("upgrade", "status").exits(10).shows("phase", "rolling")
	s.run("health").exits(10)
	s.run("upgrade", "resume", "--yes").exits(1).says("somebody else has changed the release")
	s.run("upgrade", "abort", "--forget", "--yes").exits(0)
	r.awaitReady(t)
	s.run("upgrade", "status").exits(0)
}

// TestUpgradeInPlace: a server without replicas restarts with all its data, whatever it
// keeps it in.
func TestUpgradeInPlace(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	for name, config := range map[string][]string{
		"save points": nil, "aof": {"appendonly yes"}, "saves only when told": {`save ""`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := e.install(t, e.namespace(t, "in-place"), chart{
				image: "redis:6.0.16", files: []string{"standalone.yaml"}, config: append([]string{"maxmemory 0"}, config...),
			})
			s := r.session(t)
			clients := redisserver.StartClientsOf(t, []string{r.clientAddress(t)}, r.password, 8)
			clients.AwaitWrites(100)
			s.run("upgrade", "apply", "--to", "7.0.15", "--yes", "--no-trial").exits(5).says("--allow-downtime")
			result := decode[upgraded](s.run("upgrade", "apply", "--to", "7.0.15", "--yes", "--no-trial", "--allow-downtime", "-o", "json").exits(0))
			clients.AwaitWrites(100)
			clients.Stop()
			lost, err := clients.Lost(t.Context(), r.redis(t, 0))
			require.NoError(t, err)
			assert.Empty(t, lost, "lost of %d acknowledged writes", clients.Acknowledged())
			assert.Equal(t, "in-place", result.Strategy)
			assert.Positive(t, result.Pods[0].DownSeconds)
			t.Logf("down for %.1f s", result.Pods[0].DownSeconds)
			r.assertUpgraded(t, "redis:7.0.15")
		})
	}
}

// TestUpgradeRollback: back to the former revision, with a hand-over; and a new version of
// the chart, whose workload has to be made anew, and back.
func TestUpgradeRollback(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	c := persistences["rdb"]
	c.image, c.replicas, c.password = "redis:7.0.15", 1, randomPassword()
	r := e.install(t, e.namespace(t, "rollback"), c)
	s := r.session(t)
	clients := redisserver.StartClientsOf(t, []string{r.clientAddress(t)}, r.password, 8)
	clients.AwaitWrites(100)
	chart := filepath.Join(t.TempDir(), "redis")
	require.NoError(t, os.CopyFS(chart, os.DirFS(e.chart())))
	file := filepath.Join(chart, "Chart.yaml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(text), "version: 1.0.0", "version: 1.1.0", 1)), 0o600))

	s.run("upgrade", "apply", "--chart", chart, "--yes", "--no-trial").exits(5).says("spec.volumeClaimTemplates", "--recreate-workload")
	result := decode[upgraded](s.run("upgrade", "apply", "--chart", chart, "--recreate-workload", "--failback", "--yes", "--no-trial", "-o", "json").exits(0))
	assert.Equal(t, 2, result.Revision)
	out, err := r.helm(t, "list")
	require.NoError(t, err)
	assert.Contains(t, out, "redis-1.1.0")
	s.run("upgrade", "rollback", "--list").exits(0).shows("redis-1.0.0", "redis-1.1.0", "superseded")
	s.run("upgrade", "rollback", "7").exits(2).says("there is no revision 7")
	result = decode[upgraded](s.run("upgrade", "rollback", "--recreate-workload", "--yes", "--no-trial", "-o", "json").exits(0))
	assert.Equal(t, 3, result.Revision)
	out, err = r.helm(t, "history", r.name)
	require.NoError(t, err)
	assert.Contains(t, out, "Rollback to 1")
	clients.AwaitWrites(100)
	clients.Stop()
	lost, err := clients.Lost(t.Context(), r.redis(t, ordinal(t, result.Primary)))
	require.NoError(t, err)
	assert.Empty(t, lost, "lost of %d acknowledged writes", clients.Acknowledged())
	r.assertUpgraded(t, "redis:7.0.15")
}

// TestUpgradeRollbackOfAStuckPod: `helm upgrade` with an image that does not exist leaves a
// replica down, and Helm's revision deployed, or failed when it has waited. The way back
// replaces that pod only.
func TestUpgradeRollbackOfAStuckPod(t *testing.T) {
	t.Parallel()
	e := setup(t)
	c := persistences["rdb"]
	c.image, c.replicas, c.password = "redis:7.0.15", 2, randomPassword()
	r := e.install(t, e.namespace(t, "stuck"), c)
	s := r.session(t)
	untouched := []types.UID{r.pod(t, 0).UID, r.pod(t, 1).UID}
	clients := redisserver.StartClientsOf(t, []string{r.clientAddress(t)}, r.password, 8)
	clients.AwaitWrites(100)
	for _, c := range []struct {
		status    string
		flags     []string
		failed    bool
		revisions int
	}{
		{status: "deployed", revisions: 3},
		{status: "failed", flags: []string{"--wait", "--timeout", "5s"}, failed: true, revisions: 5},
	} {
		out, err := r.upgrade(t, append(c.flags, "--set", "image.tag=7.0.98")...)
		require.Equal(t, c.failed, err != nil, out)
		stuck := r.podName(2)
		eventually(t, stuck+" is stuck", func(ctx context.Context) error {
			pod, err := e.CoreV1().Pods(r.namespace).Get(ctx, stuck, metav1.GetOptions{})
			if err == nil && !strings.HasSuffix(pod.Spec.Containers[0].Image, "7.0.98") {
				err = errors.New("it is the former one")
			}
			return err
		})
		s.run("upgrade", "rollback", "--list").exits(0).shows(c.status)
		s.run("upgrade", "rollback", "--dry-run", "--no-trial").exits(5).says("pod-down", "--allow-unhealthy")
		result := decode[upgraded](s.run("upgrade", "rollback", "--allow-unhealthy", "--yes", "--no-trial", "-o", "json").exits(0))
		assert.Equal(t, c.revisions, result.Revision)
		require.Len(t, result.Pods, 1)
		assert.Equal(t, stuck, result.Pods[0].Name)
		assert.Empty(t, result.HandOvers)
		r.assertUpgraded(t, "redis:7.0.15")
	}
	clients.Stop()
	lost, err := clients.Lost(t.Context(), r.redis(t, 0))
	require.NoError(t, err)
	assert.Empty(t, lost)
	assert.Equal(t, untouched, []types.UID{r.pod(t, 0).UID, r.pod(t, 1).UID}, "the pods that were never replaced")
}

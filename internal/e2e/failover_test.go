package e2e_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// switched is what the tests read of the result of a promotion.
type switched struct {
	From, To, Primary    string
	Offset, TargetOffset int64
	WriteGapMilliseconds float64
	Changed              bool
	Followers, Services  []string
	FullResyncs          int64
	ServiceWrites        []struct{ Service, Via, Skipped string }
	OldPrimary           string
	Losses               []struct{ Instance string }
	Backups              []string
}

// clientAddress returns where clients reach the release's Service.
func (r *release) clientAddress(t *testing.T) string {
	t.Helper()
	r.env.onNode(t)
	service, err := r.env.CoreV1().Services(r.namespace).Get(t.Context(), r.workload, metav1.GetOptions{})
	require.NoError(t, err)
	return net.JoinHostPort(service.Spec.ClusterIP, "6379")
}

// addresses returns where clients reach the pods themselves.
func (r *release) addresses(t *testing.T) []string {
	t.Helper()
	r.env.onNode(t)
	var list []string
	for _, pod := range r.pods(t) {
		list = append(list, net.JoinHostPort(pod.Status.PodIP, "6379"))
	}
	return list
}

// ledgers are clients that write through the Service and directly.
type ledgers struct{ through, direct *redisserver.Clients }

// startLedgers starts eight clients, half of them behind the Service.
func (r *release) startLedgers(t *testing.T) ledgers {
	t.Helper()
	return ledgers{
		through: redisserver.StartClientsOf(t, []string{r.clientAddress(t)}, r.password, 4),
		direct:  redisserver.StartClientsOf(t, r.addresses(t), r.password, 4),
	}
}

// nothingLost stops the clients and looks every acknowledged write up.
func (l ledgers) nothingLost(t *testing.T, primary *goredis.Client) {
	t.Helper()
	for name, clients := range map[string]*redisserver.Clients{"through the Service": l.through, "direct": l.direct} {
		clients.Stop()
		lost, err := clients.Lost(t.Context(), primary)
		require.NoError(t, err)
		assert.Empty(t, lost, "lost of %d acknowledged writes %s", clients.Acknowledged(), name)
	}
}

func TestFailover(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	r := e.install(t, e.namespace(t, "failover"), chart{
		files: []string{"replica-password.yaml"}, password: randomPassword(), config: quickSync,
	})
	s := r.session(t)
	status := func(t *testing.T, primary int) {
		t.Helper()
		s.in(t).run("failover", "status").exits(0).shows("intended  "+r.podName(primary), "observed  "+r.podName(primary))
		s.in(t).run("replication", "check").exits(0)
	}

	t.Run("a dry run changes nothing", func(t *testing.T) {
		s.in(t).run("failover", "promote", r.podName(1), "--dry-run").exits(0).
			shows("pause writes for 5s at most: "+r.podName(0), "service "+r.workload+"-master")
		s.in(t).run("failover", "promote", r.podName(1)).exits(5).says("--yes", "nothing was changed")
		assert.Equal(t, "master", r.info(t, 0)["role"])
	})
	t.Run("back and forth under load", func(t *testing.T) {
		clients := r.startLedgers(t)
		for round, to := range []int{1, 2, 0} {
			clients.through.Silence()
			result := decode[switched](s.in(t).run("failover", "promote", r.podName(to), "--yes", "-o", "json").exits(0))
			clients.through.AwaitWrites(100)
			clients.direct.AwaitWrites(100)
			t.Logf("promotion %d: write gap %.1f ms, none through the Service for %s", round+1, result.WriteGapMilliseconds, clients.through.Silence())
			assert.True(t, result.Changed)
			assert.GreaterOrEqual(t, result.TargetOffset, result.Offset)
			assert.Len(t, result.Followers, 2)
			assert.Zero(t, result.FullResyncs)
			assert.Equal(t, []string{r.workload, r.workload + "-master"}, result.Services)
			require.Len(t, result.ServiceWrites, 2)
			assert.Empty(t, result.ServiceWrites[0].Skipped)
			status(t, to)
		}
		clients.nothingLost(t, r.redis(t, 0))
		s.in(t).run("failover", "failback", "--yes").exits(0).shows("nothing to do: " + r.podName(0))
	})
	t.Run("permissions", func(t *testing.T) { testFailoverPermissions(t, r) })
	t.Run("one of eight at once", func(t *testing.T) { testOneOfEight(t, r, s.in(t)) })
	t.Run("the promoted pod restarts", func(t *testing.T) {
		s.in(t).run("promote", r.podName(1), "--yes").exits(0)
		clients := r.startLedgers(t)
		clients.through.Stop()
		clients.direct.Stop()
		r.deletePod(t, 1)
		r.awaitRestarted(t, 1)
		s.in(t).run("health").exits(10).shows("[no-primary]", "redisctl replication heal")
		healed := decode[switched](s.in(t).run("replication", "heal", "--yes", "-o", "json").exits(0))
		assert.Empty(t, healed.Losses)
		primary := ordinal(t, healed.Primary)
		clients.nothingLost(t, r.redis(t, primary))
		status(t, primary)
		s.in(t).run("replication", "heal").exits(0).shows("nothing to heal")
	})
	t.Run("the first pod restarts after a promotion", func(t *testing.T) {
		s.in(t).run("promote", r.podName(1), "--yes").exits(0)
		clients := r.startLedgers(t)
		clients.direct.Stop() // which would write to the second primary, too
		r.deletePod(t, 0)
		r.awaitRestarted(t, 0)
		s.in(t).run("health").exits(10).shows("[two-primaries]")
		plan := s.in(t).run("replication", "heal", "--dry-run").exits(0)
		plan.shows("demote: follow " + r.podName(1) + ": " + r.podName(0))
		s.in(t).run("replication", "heal", "--yes").exits(0).shows("demoted    " + r.podName(0))
		clients.nothingLost(t, r.redis(t, 1))
		status(t, 1)
	})
	t.Run("the second primary has taken writes", func(t *testing.T) {
		r.deletePod(t, 0)
		r.awaitRestarted(t, 0)
		require.NoError(t, r.redis(t, 0).Set(t.Context(), "only:here", "x", 0).Err())
		require.NoError(t, r.redis(t, 1).Set(t.Context(), "only:there", "y", 0).Err())
		s.in(t).run("replication", "heal", "--yes").exits(5).
			says("1 keys are only there", "only:here", "--keep "+r.podName(1), "nothing was changed")
		assert.Equal(t, "master", r.info(t, 0)["role"])
		result := decode[switched](s.in(t).run("replication", "heal", "--keep", r.podName(1), "--yes", "-o", "json").exits(0))
		require.Len(t, result.Losses, 1)
		require.Len(t, result.Backups, 1)
		s.in(t).run("backup", "verify", result.Backups[0]).exits(0)
		value, err := r.redis(t, 0).Get(t.Context(), "only:there").Result()
		require.NoError(t, err)
		assert.Equal(t, "y", value)
		status(t, 1)
	})
	t.Run("a Service was put back", func(t *testing.T) {
		_, err := e.CoreV1().Services(r.namespace).Patch(t.Context(), r.workload, types.MergePatchType,
			[]byte(`{"spec":{"selector":{"statefulset.kubernetes.io/pod-name":"`+r.podName(0)+`"}}}`), metav1.PatchOptions{})
		require.NoError(t, err)
		s.in(t).run("failover", "status").exits(10)
		s.in(t).run("replication", "heal", "--yes").exits(0).shows("services   "+r.workload, "a write through "+r.workload)
		status(t, 1)
	})
	t.Run("a replica follows the wrong one", func(t *testing.T) {
		r.follow(t, 2, 0)
		s.in(t).run("health").exits(10).shows("[chained-replica]", "redisctl replication resync "+r.podName(2))
		s.in(t).run("replication", "resync", r.podName(2), "--yes").exits(0)
		s.in(t).run("replication", "resync", r.podName(2), "--yes").exits(0).shows("nothing to do")
		s.in(t).run("replication", "resync", r.podName(2), "--full", "--yes").exits(0).shows("full")
		s.in(t).run("replication", "resync", r.podName(1), "--yes").exits(5)
		s.in(t).run("replication", "lag", "--watch", "--for", "2s", "-o", "json").exits(0)
		status(t, 1)
	})
	t.Run("failback", func(t *testing.T) {
		s.in(t).run("failover", "failback", "--yes").exits(0).shows("primary    " + r.podName(0))
		status(t, 0)
	})
}

// What is missing is named before anything is changed, or whatever was is undone.
func testFailoverPermissions(t *testing.T, r *release) {
	as := func(t *testing.T, role ...permission) *session {
		return r.session(t).with("KUBECONFIG", r.env.operator(t, r.namespace, role))
	}
	unchanged := func(t *testing.T) {
		t.Helper()
		r.session(t).run("failover", "status").exits(0).shows("observed  " + r.podName(0))
		require.NoError(t, r.redis(t, 0).Set(t.Context(), "still", "writable", 0).Err())
	}
	t.Run("all", func(t *testing.T) {
		s := as(t, operatorRole...)
		s.run("failover", "promote", r.podName(1), "--yes").exits(0).shows("a write through " + r.workload)
		s.run("failover", "failback", "--yes").exits(0)
	})
	t.Run("no exec", func(t *testing.T) {
		s := as(t, without("pods/exec")...)
		s.run("failover", "promote", r.podName(1), "--yes").exits(0).shows("not tried").says("pods/exec")
		s.run("failover", "failback", "--yes").exits(0)
	})
	t.Run("no record", func(t *testing.T) {
		as(t, append(without("statefulsets"), "get,list statefulsets")...).run("failover", "promote", r.podName(1), "--yes").
			exits(8).says("patch statefulsets", "nothing was changed")
		unchanged(t)
	})
	t.Run("no Services", func(t *testing.T) {
		as(t, append(without("services"), "get,list services")...).run("failover", "promote", r.podName(1), "--yes").
			exits(8).says("patch services")
		unchanged(t)
	})
	t.Run("no lock", func(t *testing.T) {
		as(t, without("leases")...).run("failover", "promote", r.podName(1), "--yes").exits(8).says("leases")
		unchanged(t)
	})
}

// TestPromotionsOfEveryVersion hands the primary round while eight clients write, half of
// them through the Service.
func TestPromotionsOfEveryVersion(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	for _, image := range []string{"redis:6.0.16", "redis:7.0.15", "redis:8.0.2", "valkey:8.1.1"} {
		t.Run(image, func(t *testing.T) {
			r := e.install(t, e.namespace(t, "promote"), chart{
				image: image, files: []string{"replica-password.yaml"}, replicas: 1, password: randomPassword(), config: quickSync,
			})
			testPromotions(t, r, proofRuns(2))
		})
	}
}

func testPromotions(t *testing.T, r *release, promotions int) {
	s := r.session(t)
	// Nothing may be evicted: it would look like a loss.
	r.configure(t, "maxmemory", "0", 0, 1)
	clients := r.startLedgers(t)
	var gaps, silences []time.Duration
	for i := range promotions {
		clients.through.Silence()
		result := decode[switched](s.run("failover", "promote", r.podName((i+1)%2), "--yes", "-o", "json").exits(0))
		clients.through.AwaitWrites(100)
		clients.direct.AwaitWrites(100)
		gaps = append(gaps, time.Duration(result.WriteGapMilliseconds*float64(time.Millisecond)))
		silences = append(silences, clients.through.Silence())
	}
	clients.nothingLost(t, r.redis(t, promotions%2))
	gap, silence := median(gaps), median(silences)
	t.Logf("%d promotions, %d writes acknowledged through the Service and %d directly, none lost; median write gap %s (longest %s), through the Service %s (longest %s)",
		promotions, clients.through.Acknowledged(), clients.direct.Acknowledged(), gap, slices.Max(gaps), silence, slices.Max(silences))
	if promotions >= 50 { // the proof, on a machine with nothing else to do
		assert.LessOrEqual(t, gap, 250*time.Millisecond)
	}
}

func median(durations []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(durations))[len(durations)/2].Round(100 * time.Microsecond)
}

// testOneOfEight starts eight promotions at once: one proceeds.
func testOneOfEight(t *testing.T, r *release, s *session) {
	commands := make([]*command, 8)
	for i := range commands {
		commands[i] = s.start("promote", r.podName(1), "--yes")
	}
	codes := map[int]int{}
	for _, c := range commands {
		codes[c.wait().code]++
	}
	assert.Equal(t, map[int]int{0: 1, 6: 7}, codes, "exit codes")
	s.run("failover", "failback", "--yes").exits(0)
}

// ordinal returns the number at the end of a pod's name.
func ordinal(t *testing.T, pod string) int {
	t.Helper()
	n, err := strconv.Atoi(pod[strings.LastIndex(pod, "-")+1:])
	require.NoError(t, err)
	return n
}

// awaitRestarted waits until a deleted pod is back and its server answers, and lets
// the test's own client find it.
func (r *release) awaitRestarted(t *testing.T, ordinal int) {
	t.Helper()
	eventually(t, r.podName(ordinal)+" back", func(ctx context.Context) error {
		pod, err := r.getPod(ctx, ordinal)
		if err != nil {
			return err
		}
		if pod.DeletionTimestamp != nil {
			return errors.New("it is still being deleted")
		}
		return r.redis(t, ordinal).Ping(ctx).Err()
	})
}

// The primary is gone, in each of the ways that it can be.
func TestForcedFailover(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	r := e.install(t, e.namespace(t, "force"), chart{
		files: []string{"replica-password.yaml"}, password: randomPassword(), config: append([]string{"repl-timeout 5"}, quickSync...),
	})
	s := r.session(t)
	t.Run("not while it answers", func(t *testing.T) {
		s.in(t).run("failover", "force", "--yes").exits(5).says("[primary-answers]", "--allow-alive", "nothing was changed")
	})
	t.Run("its process hangs", func(t *testing.T) {
		clients := redisserver.StartClientsOf(t, []string{r.clientAddress(t)}, r.password, 4)
		uid := r.pod(t, 0).UID
		r.hang(t, 0)
		dry := s.in(t).run("failover", "force", "--dry-run", "--timeout", "2s").exits(0)
		dry.shows("delete the pod", "promote; lost is what was acknowledged in the last")
		result := decode[switched](s.in(t).run("failover", "force", "--yes", "-o", "json", "--timeout", "2s").exits(0))
		assert.Equal(t, r.podName(0), result.From)
		assert.Equal(t, "follows", result.OldPrimary)
		assert.NotEqual(t, uid, r.pod(t, 0).UID, "the process that hung is gone")
		clients.AwaitWrites(100)
		clients.Stop()
		s.in(t).run("failover", "status").exits(0).shows("observed  " + result.To)
		r.awaitReady(t) // the kubelet probes the new pod after Redis has answered
		s.in(t).run("replication", "check").exits(0)
	})
	t.Run("its pod cannot run", func(t *testing.T) {
		s.in(t).run("failover", "failback", "--yes").exits(0)
		// A volume that does not exist keeps the new pod from starting.
		r.breakPod(t, 0)
		result := decode[switched](s.in(t).run("failover", "force", "--yes", "-o", "json", "--timeout", "2s", "--return", "3s").exits(0))
		assert.Equal(t, "down", result.OldPrimary)
		s.in(t).run("failover", "status").exits(0).shows("observed  " + result.To)
		r.mendPod(t, 0)
		s.in(t).run("replication", "heal", "--yes").exits(0).shows("demoted    " + r.podName(0))
		s.in(t).run("replication", "check").exits(0)
		s.in(t).run("failover", "failback", "--yes").exits(0)
	})
}

// breakPod deletes a pod and keeps the next one of that name from being scheduled.
func (r *release) breakPod(t *testing.T, ordinal int) {
	t.Helper()
	// Only a pod that is deleted gets the new template.
	r.patch(t, `{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null},"template":{"spec":{"nodeSelector":{"exists":"nowhere"}}}}}`)
	r.deletePod(t, ordinal)
	eventually(t, r.podName(ordinal)+" pending", func(ctx context.Context) error {
		pod, err := r.getPod(ctx, ordinal)
		if err == nil && (pod.DeletionTimestamp != nil || pod.Spec.NodeName != "") {
			err = errors.New("it is on a node")
		}
		return err
	})
}

// mendPod undoes breakPod.
func (r *release) mendPod(t *testing.T, ordinal int) {
	t.Helper()
	r.patch(t, `{"spec":{"template":{"spec":{"nodeSelector":null}}}}`)
	r.deletePod(t, ordinal)
	r.awaitRestarted(t, ordinal)
}

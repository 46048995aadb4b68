package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// proofRuns is how often a random fault is tried: REDISCTL_PROOF=1 asks for the whole
// proof, which takes most of an hour.
func proofRuns(short int) int {
	if os.Getenv("REDISCTL_PROOF") == "1" {
		return 50
	}
	return short
}

// TestKilledFailover kills redisctl, the old primary or the target at a random moment of
// a planned switch. A success has one writable primary with every acknowledged write;
// whatever else is left, the documented way leads there.
func TestKilledFailover(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	// With an AOF, a server that is killed has what it acknowledged.
	r := e.install(t, e.namespace(t, "kill"), chart{
		files: []string{"replica-password.yaml"}, password: randomPassword(), replicas: 2,
		config: append([]string{"appendonly yes"}, quickSync...),
	})
	s := r.session(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	victims := []string{"redisctl", "target", "old primary", interrupted}
	for i := range proofRuns(len(victims)) {
		victim := victims[i%len(victims)]
		delay := time.Duration(random.Int64N(int64(1500 * time.Millisecond)))
		t.Run(fmt.Sprintf("%02d %s after %s", i, victim, delay.Round(time.Millisecond)), func(t *testing.T) {
			testKilled(t, r, s.in(t), victim, delay)
		})
	}
}

// interrupted stands for redisctl, ended with Ctrl-C instead of SIGKILL.
const interrupted = "redisctl by Ctrl-C"

func testKilled(t *testing.T, r *release, s *session, victim string, delay time.Duration) {
	old := ordinal(t, s.run("replication", "primary", "-o", "name").exits(0).lines()[0])
	target := (old + 1) % 3
	servers := map[string]int{"old primary": r.serverProcess(t, old), "target": r.serverProcess(t, target)}
	// What earlier runs wrote would sooner or later be evicted.
	require.NoError(t, r.redis(t, old).FlushAll(t.Context()).Err())
	clients := r.startLedgers(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s\n%s", s.run("health", "-o", "wide"), s.run("failover", "status"))
		}
	})

	promote := s.start("promote", r.podName(target), "--yes", "-o", "json")
	// The moment is random on purpose; nothing is waited for.
	<-time.After(delay)
	pid, isServer := servers[victim]
	if !isServer {
		pid = promote.cmd.Process.Pid
	}
	signal := syscall.SIGKILL
	if victim == interrupted {
		signal = syscall.SIGINT
	}
	err := syscall.Kill(pid, signal)
	if isServer {
		require.NoError(t, err)
	} else if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		t.Log("redisctl was done")
	}
	result := promote.wait()
	if result.code == 0 && !isServer {
		s.run("failover", "status").exits(0).shows("observed  " + r.podName(target))
	}
	if victim == interrupted {
		// Before the switch it is undone, after it completed: nothing is left to do.
		assert.Contains(t, []int{0, 130}, result.code, "%s", result)
		s.run("failover", "status").exits(0)
		s.run("replication", "check").exits(0)
	}
	// Direct clients would write to a restarted pod 0 before anybody can demote it.
	clients.direct.Stop()
	if isServer {
		r.sparePatience(t, map[string]int{"old primary": old, "target": target}[victim])
	}
	for i := range 3 {
		r.awaitRestarted(t, i)
	}
	goOn(t, r, s, result)
	clients.through.AwaitWrites(10)
	primary := ordinal(t, s.run("replication", "primary", "-o", "name").exits(0).lines()[0])
	clients.nothingLost(t, r.redis(t, primary))
	s.run("replication", "check").exits(0)
}

// sparePatience deletes the pod that was killed, if that was so often that the kubelet
// would wait for minutes before it starts its container again. No other pod: while pod 0
// is a second primary, a restart of the promoted one would discard its data.
func (r *release) sparePatience(t *testing.T, ordinal int) {
	t.Helper()
	const often = 2
	for _, status := range r.pod(t, ordinal).Status.ContainerStatuses {
		if status.Name == "redis" && status.RestartCount > often {
			r.deletePod(t, ordinal)
		}
	}
}

// goOn follows the documentation until the release is well.
func goOn(t *testing.T, r *release, s *session, promoted *result) {
	t.Helper()
	var last *result
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, poll(ctx, func(context.Context) error {
		// An unfinished switch first; its lock outlives a process that was killed.
		last = s.run("failover", "resume")
		if last.code == 0 || last.code == 5 { // there was none, or data is at stake
			last = s.run("replication", "heal", "--yes")
		}
		if last.code == 0 {
			last = s.run("replication", "check")
		}
		if last.code != 0 {
			return fmt.Errorf("exit code %d", last.code)
		}
		return nil
	}), "after %s\nthe way forward ends here: %s", promoted, last)
}

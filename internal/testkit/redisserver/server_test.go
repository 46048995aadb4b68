package redisserver_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStart(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := redisserver.Start(t, redisserver.Options{Version: version, Password: `p "w\`})
			require.NoError(t, s.Client().Set(t.Context(), "k", "v", 0).Err())
			pid := s.PID()
			s.Stop()
			assert.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, "the process must be gone")
		})
	}
}

func TestTLS(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := redisserver.Start(t, redisserver.Options{Version: version, TLS: true})
			require.NoError(t, s.Client().Ping(t.Context()).Err())
		})
	}
}

func TestSignalStopsAndContinues(t *testing.T) {
	s := redisserver.Start(t, redisserver.Options{Version: redisserver.Versions(t)[1]})
	s.Signal(syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Error(t, s.Client().Ping(ctx).Err())
	s.Signal(syscall.SIGCONT)
	require.NoError(t, s.Client().Ping(t.Context()).Err())
}

// A replica is an independent copy, so it shows that Fill writes what Compare
// finds equal, whatever the order in each server's hash tables.
func TestFillAndCompare(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			primary := redisserver.Start(t, redisserver.Options{Version: version, Password: "pw"})
			require.NoError(t, redisserver.Fill(ctx, primary.Client(), 1, 2000))
			replica := redisserver.Start(t, redisserver.Options{Version: version, Password: "pw", ReplicaOf: primary})
			replica.WaitInSync()
			require.NoError(t, redisserver.Compare(ctx, primary.Client(), replica.Client()))

			for name, change := range map[string][]any{
				"value":    {"HSET", "hash:00000006", "field-0", "changed"},
				"ttl":      {"PEXPIRE", "hash:00000006", 5_000_000},
				"new key":  {"SET", "new", 1},
				"gone key": {"DEL", "text:00000001"},
			} {
				before, err := redisserver.TakeDigest(ctx, primary.Client())
				require.NoError(t, err)
				require.NoError(t, primary.Client().Do(ctx, change...).Err())
				after, err := redisserver.TakeDigest(ctx, primary.Client())
				require.NoError(t, err)
				assert.Error(t, before.Diff(after), "a changed %s must be found", name)
			}
		})
	}
}

func TestWriterKeepsALedger(t *testing.T) {
	s := redisserver.Start(t, redisserver.Options{Version: redisserver.Versions(t)[1]})
	w := redisserver.StartWriter(t, s.Client(), "a")
	acknowledged, err := w.Stop()
	require.NoError(t, err)
	require.Positive(t, acknowledged)
	lost, err := w.Lost(t.Context(), s.Client())
	require.NoError(t, err)
	require.Empty(t, lost)

	require.NoError(t, s.Client().Del(t.Context(), redisserver.WriterPrefix+"a:0").Err())
	lost, err = w.Lost(t.Context(), s.Client())
	require.NoError(t, err)
	require.Equal(t, []int{0}, lost)
}

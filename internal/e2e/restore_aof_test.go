package e2e_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// aofPlan is what the tests read of a plan of `restore aof`.
type aofPlan struct {
	Cut struct {
		Kept, Dropped struct {
			Commands int64
			Names    []struct {
				Name  string
				Count int64
			}
			First []struct {
				File   string
				Offset int64
				Key    string
			}
		}
	}
}

// A FLUSHALL is undone from the append-only file, which is then what the server goes on
// with.
func TestRestoreAOFUndoesAFlushAll(t *testing.T) {
	for _, variant := range []struct {
		name  string
		chart chart
		files []string
		timed bool
	}{
		{
			"redis 7.0 replica", chart{
				files: []string{"replica-password.yaml"}, replicas: 1, config: append([]string{"aof-timestamp-enabled yes"}, aofOn...),
			}, []string{
				"appendonlydir/appendonly.aof.1.base.rdb", "appendonlydir/appendonly.aof.1.incr.aof", "appendonlydir/appendonly.aof.manifest",
			}, true,
		},
		{"redis 6.0 standalone", chart{files: []string{"standalone.yaml"}, image: "redis:6.0.16", config: aofOn}, []string{"appendonly.aof"}, false},
	} {
		t.Run(variant.name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			if variant.chart.replicas > 0 {
				variant.chart.password = randomPassword()
			}
			r := e.install(t, e.namespace(t, "restore-aof"), variant.chart)
			s := r.session(t)
			client := r.redis(t, 0)
			require.NoError(t, redisserver.Fill(t.Context(), client, 1, 800))
			want, err := redisserver.TakeDigest(t.Context(), client, notedTimes)
			require.NoError(t, err)
			// The accident comes in a later second than what is to come back.
			good := client.Time(t.Context()).Val().Truncate(time.Second)
			require.Eventually(t, func() bool { return client.Time(t.Context()).Val().Truncate(time.Second).After(good) }, patience, 50*time.Millisecond)
			require.NoError(t, client.FlushAll(t.Context()).Err())
			require.NoError(t, client.Set(t.Context(), "after:flushall", "a secret value", 0).Err())
			s.run("backup", "aof", "--pod", r.podName(0)).exits(0)

			// Of the other kinds, latest is not meant.
			s.run("backup", "config").exits(0)
			s.run("restore", "aof", "latest", "--dry-run", "--before", "FLUSHALL").exits(5).says("target-not-empty")
			text := s.run("restore", "aof", "latest", "--dry-run", "--before", "flushall", "--replace").exits(0).
				shows("FLUSHALL", "after:flushall", "scale to 0")
			assert.NotContains(t, text.stdout, "a secret value")
			plan := decode[aofPlan](s.run("restore", "aof", "latest", "--dry-run", "--before", "FLUSHALL", "--replace", "-o", "json").exits(0))
			require.NotEmpty(t, plan.Cut.Dropped.First)
			s.run("restore", "aof", "latest", "--dry-run", "--replace", "--before", "SWAPDB").exits(5).says("it has no command")
			if !variant.timed {
				s.run("restore", "aof", "latest", "--dry-run", "--replace", "--until", "10m").exits(5).says("it has no timestamps")
			}

			check := func(got restored) {
				t.Helper()
				assert.Equal(t, "restored", got.Outcome)
				assert.Equal(t, variant.files, got.Files)
				assert.True(t, got.Comparison.Equal)
				assert.Len(t, got.Replicas, variant.chart.replicas)
				for i := range variant.chart.replicas + 1 {
					found, err := redisserver.TakeDigest(t.Context(), r.reconnect(t, i), notedTimes)
					require.NoError(t, err)
					require.NoError(t, want.Diff(found), "pod %d", i)
				}
			}
			restore := func(cut ...string) restored {
				t.Helper()
				line := append([]string{"restore", "aof", "latest", "--replace", "--yes", "-o", "json"}, cut...)
				return decode[restored](s.run(line...).exits(0).quiet())
			}
			got := restore("--before", "FLUSHALL")
			check(got)
			assert.FileExists(t, filepath.Join(s.dir, got.SafetyBackup))

			// What is written now survives a restart: the server goes on with these files.
			require.NoError(t, r.reconnect(t, 0).Set(t.Context(), "after", "the restore", 0).Err())
			r.restartPod(t, 0)
			assert.Equal(t, "the restore", r.reconnect(t, 0).Get(t.Context(), "after").Val())

			// The same point by its place, and by time.
			place := plan.Cut.Dropped.First[0]
			check(restore("--until-offset", fmt.Sprintf("%s:%d", place.File, place.Offset)))
			if variant.timed {
				check(restore("--until", good.UTC().Format(time.RFC3339)))
			} else {
				check(restore("--until-command", strconv.FormatInt(plan.Cut.Kept.Commands, 10)))
			}
			s.run("restore", "status").exits(0)
			s.run("health", "ping").exits(0)
		})
	}
}

// Servers that start without an append-only file would ignore one.
func TestRestoreAOFNeedsAppendOnly(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "restore-aof-off"), chart{files: []string{"standalone.yaml"}})
	s := r.session(t)
	// Until the next start only.
	r.configure(t, "appendonly", "yes", 0)
	require.NoError(t, r.redis(t, 0).Set(t.Context(), "key", "value", 0).Err())
	s.run("backup", "aof").exits(0)
	s.run("restore", "aof", "latest", "--replace", "--yes").exits(5).says("aof-off", "appendonly no", "restore rdb")
	assert.Equal(t, "value", r.redis(t, 0).Get(t.Context(), "key").Val())
}

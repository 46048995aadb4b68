package failover_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

type pauser struct{ redisconn.Connector }

func (p pauser) Pause(ctx context.Context, d *operation.Deployment, i operation.Instance, limit time.Duration) (failover.Paused, error) {
	return p.PauseWrites(ctx, d, i, limit)
}

// nothing stands for what plain addresses do not have.
type nothing struct{}

func (nothing) Pin(context.Context, *operation.Deployment, string, string, string) error { return nil }
func (nothing) AwaitEndpoint(context.Context, *operation.Deployment, string, string) error {
	return nil
}
func (nothing) Note(context.Context, *operation.Deployment, string) (string, error)      { return "", nil }
func (nothing) SetNotes(context.Context, *operation.Deployment, map[string]string) error { return nil }
func (nothing) Lock(ctx context.Context, _ *operation.Deployment) (context.Context, func(), error) {
	return ctx, func() {}, nil
}

// TestPlannedSwitchLosesNothing: eight writers go on writing to the old primary
// while the role moves; what it acknowledged is on the new primary.
func TestPlannedSwitchLosesNothing(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			old := redisserver.Start(t, redisserver.Options{Version: version, Password: "secret", Config: []string{"masterauth secret"}})
			replicas := []*redisserver.Server{
				redisserver.Start(t, redisserver.Options{Version: version, Password: "secret", ReplicaOf: old}),
				redisserver.Start(t, redisserver.Options{Version: version, Password: "secret", ReplicaOf: old}),
			}
			for _, r := range replicas {
				r.WaitInSync()
			}
			writers := make([]*redisserver.Writer, 8)
			for i := range writers {
				writers[i] = redisserver.StartWriter(t, old.Client(), strconv.Itoa(i))
			}

			connector := redisconn.Connector{
				Dial: redisconn.DialInstance,
				Credentials: func(context.Context, *operation.Deployment) (string, string, error) {
					return "", "secret", nil
				},
			}
			ctx := t.Context()
			d, err := redisconn.Addresses{}.Resolve(ctx, operation.Target{Addresses: []string{old.Addr, replicas[0].Addr, replicas[1].Addr}})
			require.NoError(t, err)
			op := failover.Failover{
				Connector: connector, Pauser: pauser{connector}, Traffic: nothing{}, Notes: nothing{}, Locker: nothing{},
				Reporter: operation.DiscardReporter{}, Now: time.Now, By: "test",
			}
			plan, err := op.Plan(ctx, d, failover.DefaultOptions())
			require.NoError(t, err)
			assert.Empty(t, plan.Blockers())
			result, err := op.Apply(ctx, plan)
			require.NoError(t, err)

			promoted := replicas[0]
			if plan.To == replicas[1].Addr {
				promoted = replicas[1]
			}
			total := 0
			for _, w := range writers {
				n, _ := w.Stop() // it ended with READONLY or a dropped connection
				total += n
				lost, err := w.Lost(ctx, promoted.Client())
				require.NoError(t, err)
				assert.Empty(t, lost)
			}
			assert.Positive(t, total)
			assert.GreaterOrEqual(t, result.TargetOffset, result.Offset)
			assert.Len(t, result.Followers, 2)
			t.Logf("%d writes, gap %.1f ms, %d partial and %d full resynchronisations",
				total, result.WriteGapMS, result.PartialResyncs, result.FullResyncs)
		})
	}
}

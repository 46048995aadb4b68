package resync_test

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/resync"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// trio is a primary with two replicas, each of 1000 keys.
func trio(t *testing.T, version string) (primary, one, two *redisserver.Server) {
	t.Helper()
	primary = redisserver.Start(t, redisserver.Options{Version: version, Password: "secret", Config: []string{"masterauth secret"}})
	one = redisserver.Start(t, redisserver.Options{Version: version, Password: "secret", ReplicaOf: primary})
	two = redisserver.Start(t, redisserver.Options{Version: version, Password: "secret", ReplicaOf: primary})
	require.NoError(t, redisserver.Fill(t.Context(), primary.Client(), 1, 1000))
	one.WaitInSync()
	two.WaitInSync()
	return primary, one, two
}

// run plans and applies.
func run(t *testing.T, o resync.Options, servers ...*redisserver.Server) (*resync.Plan, resync.Result, error) {
	t.Helper()
	connector := redisconn.Connector{
		Dial:        redisconn.DialInstance,
		Credentials: func(context.Context, *operation.Deployment) (string, string, error) { return "", "secret", nil },
		DialTimeout: 5 * time.Second, Timeout: 5 * time.Second,
	}
	var addresses []string
	for _, s := range servers {
		addresses = append(addresses, s.Addr)
	}
	d, err := redisconn.Addresses{}.Resolve(t.Context(), operation.Target{Addresses: addresses})
	require.NoError(t, err)
	op := resync.Operation{Connector: connector, Atomic: connector, Notes: nothing{}, Locker: nothing{}, Reporter: operation.DiscardReporter{}}
	plan, err := op.Plan(t.Context(), d, o)
	require.NoError(t, err)
	result, err := op.Apply(t.Context(), plan)
	return plan, result, err
}

func options(s *redisserver.Server) resync.Options {
	o := resync.DefaultOptions()
	o.Instance = s.Addr
	return o
}

func follow(t *testing.T, s *redisserver.Server, host, port string) {
	t.Helper()
	require.NoError(t, s.Client().Do(t.Context(), "REPLICAOF", host, port).Err())
}

func port(s *redisserver.Server) string { return s.Addr[strings.LastIndex(s.Addr, ":")+1:] }

// TestPartial: a replica that follows somebody else gets only what it lacks.
func TestPartial(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			primary, one, two := trio(t, version)
			plan, result, err := run(t, options(two), primary, one, two)
			require.NoError(t, err)
			assert.Equal(t, resync.KindNone, plan.Expect, "in sync: nothing is done")
			assert.Equal(t, resync.KindNone, result.Kind)
			assert.Zero(t, result.DurationSeconds)

			follow(t, two, "127.0.0.1", "1") // nobody listens there
			require.NoError(t, primary.Client().Set(t.Context(), "late", "1", 0).Err())
			plan, result, err = run(t, options(two), primary, one, two)
			require.NoError(t, err)
			assert.Equal(t, resync.KindPartial, plan.Expect)
			assert.Equal(t, resync.KindPartial, result.Kind)
			assert.Equal(t, int64(1), result.PartialResyncs)
			assert.GreaterOrEqual(t, result.Offset, result.PrimaryOffset)
			assert.Greater(t, result.Offset, result.OffsetBefore)
			assert.Equal(t, "1", two.Client().Get(t.Context(), "late").Val())

			// The primary hands over; two is left chained behind it.
			follow(t, one, "NO", "ONE")
			follow(t, primary, "127.0.0.1", port(one))
			primary.WaitFor("the link", func(ctx context.Context) bool {
				return strings.Contains(primary.Client().Info(ctx, "replication").Val(), "master_link_status:up")
			})
			plan, result, err = run(t, options(two), primary, one, two)
			require.NoError(t, err)
			assert.Equal(t, one.Addr, plan.Primary)
			assert.Equal(t, resync.KindPartial, plan.Expect, plan.Reason)
			assert.Equal(t, resync.KindPartial, result.Kind)
		})
	}
}

// TestFull: everything is copied although nothing is missing, and no write to the
// replica succeeds meanwhile: it is never a primary that clients can see.
func TestFull(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			primary, one, two := trio(t, version)
			ctx, stop := context.WithCancel(t.Context())
			var tried, accepted atomic.Int64
			done := make(chan struct{})
			for range 4 {
				conn, err := two.Dial(ctx)
				require.NoError(t, err)
				go func() {
					defer func() { done <- struct{}{} }()
					defer func() { _ = conn.Close() }()
					replies := bufio.NewReader(conn)
					command := "AUTH secret"
					for ctx.Err() == nil {
						_, err := fmt.Fprintf(conn, "%s\r\n", command)
						reply, err2 := replies.ReadString('\n')
						if err != nil || err2 != nil {
							return // tried stays low
						}
						if command == "SET stray 1" {
							tried.Add(1)
							if strings.HasPrefix(reply, "+OK") {
								accepted.Add(1)
							}
						}
						command = "SET stray 1"
					}
				}()
			}
			for range 5 {
				o := options(two)
				o.Full = true
				plan, result, err := run(t, o, primary, one, two)
				require.NoError(t, err)
				assert.Equal(t, resync.KindFull, plan.Expect)
				assert.Equal(t, resync.KindFull, result.Kind)
				assert.Equal(t, []int64{0, 1}, []int64{result.PartialResyncs, result.FullResyncs})
			}
			stop()
			for range 4 {
				<-done
			}
			assert.Greater(t, tried.Load(), int64(1000))
			assert.Zero(t, accepted.Load(), "writes that the replica accepted, of %d", tried.Load())
			require.NoError(t, redisserver.Compare(t.Context(), primary.Client(), two.Client()))
		})
	}
}

// TestOwnData: data that the primary never had is replaced only when told so.
func TestOwnData(t *testing.T) {
	primary, one, two := trio(t, redisserver.Redis60)
	follow(t, two, "NO", "ONE")
	require.NoError(t, two.Client().Set(t.Context(), "only here", "1", 0).Err())
	follow(t, two, "127.0.0.1", "1")

	o := options(two)
	_, _, err := run(t, o, primary, one, two)
	assert.Equal(t, operation.Refused, operation.KindOf(err))
	assert.ErrorContains(t, err, "[diverged]; override with --allow-data-loss")
	assert.Equal(t, "1", two.Client().Get(t.Context(), "only here").Val())

	o.AllowDataLoss = true
	plan, result, err := run(t, o, primary, one, two)
	require.NoError(t, err)
	assert.Equal(t, resync.KindFull, plan.Expect)
	assert.Equal(t, resync.KindFull, result.Kind)
	assert.Empty(t, two.Client().Get(t.Context(), "only here").Val())
}

// TestStall: a link that does not come up is an error that says what is going on.
func TestStall(t *testing.T) {
	primary, one, two := trio(t, redisserver.Redis70)
	require.NoError(t, two.Client().ConfigSet(t.Context(), "masterauth", "wrong").Err())
	o := options(two)
	o.Full, o.Stall = true, 300*time.Millisecond
	keys := two.Client().DBSize(t.Context()).Val()
	_, _, err := run(t, o, primary, one, two)
	assert.Equal(t, operation.TimedOut, operation.KindOf(err))
	assert.ErrorContains(t, err, "the link is down")
	assert.Equal(t, keys, two.Client().DBSize(t.Context()).Val(), "until a copy arrives it keeps what it has")

	// The reason is gone: nothing has to be changed, only to be waited for.
	require.NoError(t, two.Client().ConfigSet(t.Context(), "masterauth", "secret").Err())
	o = options(two)
	plan, result, err := run(t, o, primary, one, two)
	require.NoError(t, err)
	if plan.Expect != resync.KindNone { // Redis tries once a second, and may have been faster
		assert.False(t, plan.Changes())
		assert.Equal(t, resync.KindFull, result.Kind)
	}
	assert.Equal(t, keys, two.Client().DBSize(t.Context()).Val())
}

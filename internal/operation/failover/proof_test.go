package failover_test

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/testkit/faultproxy"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// REDISCTL_PROOF=1 runs the proofs at full length, on a machine with nothing else to
// do. Without it they are short, and say nothing about time.
func proof() bool { return os.Getenv("REDISCTL_PROOF") == "1" }

// planned returns the operation on plain servers.
func planned(connector operation.Connector, p failover.Pauser) failover.Failover {
	return failover.Failover{
		Connector: connector, Pauser: p, Traffic: nothing{}, Notes: nothing{}, Locker: nothing{},
		Reporter: operation.DiscardReporter{}, Now: time.Now, By: "test",
	}
}

func plainConnector() redisconn.Connector {
	return redisconn.Connector{
		Dial: redisconn.DialInstance,
		Credentials: func(context.Context, *operation.Deployment) (string, string, error) {
			return "", "", nil
		},
	}
}

func resolve(t *testing.T, addresses ...string) *operation.Deployment {
	t.Helper()
	d, err := redisconn.Addresses{}.Resolve(t.Context(), operation.Target{Addresses: addresses})
	require.NoError(t, err)
	return d
}

// promote plans and applies one switch.
func promote(t *testing.T, op failover.Failover, d *operation.Deployment, o failover.Options) failover.Result {
	t.Helper()
	plan, err := op.Plan(t.Context(), d, o)
	require.NoError(t, err)
	result, err := op.Apply(t.Context(), plan)
	require.NoError(t, err)
	return result
}

// TestFiftyPromotions hands the primary's role round among three servers while
// clients keep writing to whichever is the primary: none of the writes that any of
// them acknowledged may be missing in the end.
func TestFiftyPromotions(t *testing.T) {
	promotions := 5
	if proof() {
		promotions = 50
	}
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) { testPromotions(t, version, promotions) })
	}
}

func testPromotions(t *testing.T, version string, promotions int) {
	servers := []*redisserver.Server{redisserver.Start(t, redisserver.Options{Version: version})}
	for range 2 {
		servers = append(servers, redisserver.Start(t, redisserver.Options{Version: version, ReplicaOf: servers[0]}))
	}
	// A link that is up may yet be silent for a second: that something has come
	// through it shows that it is not.
	require.NoError(t, servers[0].Client().Set(t.Context(), "first", "1", 0).Err())
	var addresses []string
	for i, s := range servers {
		addresses = append(addresses, s.Addr)
		if i > 0 {
			s.WaitInSync()
		}
	}
	clients := redisserver.StartClients(t, servers, 8)
	connector := plainConnector()
	op, d := planned(connector, pauser{connector}), resolve(t, addresses...)
	o := failover.DefaultOptions()
	if version == redisserver.Redis60 {
		o.Pause = 500 * time.Millisecond // there, a switch takes longer than the pause
	}
	var gaps, silences []time.Duration
	var full int64
	for i := range promotions {
		o.To = addresses[(i+1)%len(addresses)]
		clients.Silence()
		result := promote(t, op, d, o)
		assert.Len(t, result.Followers, 2)
		clients.AwaitWrites(1000) // on the new primary
		gaps = append(gaps, time.Duration(result.WriteGapMS*float64(time.Millisecond)))
		silences = append(silences, clients.Silence())
		full += result.FullResyncs
	}
	clients.Stop()
	primary := servers[promotions%len(servers)]
	lost, err := clients.Lost(t.Context(), primary.Client())
	require.NoError(t, err)
	assert.Empty(t, lost, "acknowledged writes that are lost")
	t.Logf("%d promotions, %d acknowledged writes, %d lost; write gap median %s, longest %s; "+
		"no client's write acknowledged for median %s, longest %s; %d full resynchronisations",
		promotions, clients.Acknowledged(), len(lost), median(gaps), slices.Max(gaps),
		median(silences), slices.Max(silences), full)
	if proof() {
		assert.LessOrEqual(t, median(gaps), 250*time.Millisecond)
	}
}

func median(durations []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(durations))[len(durations)/2].Round(100 * time.Microsecond)
}

// TestLedgerHasTeeth: the ledger notices when a switch leaves out the pause, or the
// wait for the target. The replica hears its primary 100 ms late, so that either
// mistake costs writes every time, and not only sometimes: where replication is
// fast, the wait is over before it has begun.
func TestLedgerHasTeeth(t *testing.T) {
	redisserver.Versions(t)
	for name, test := range map[string]struct {
		op    func(redisconn.Connector) failover.Failover
		loses bool
	}{
		"as it is":          {func(c redisconn.Connector) failover.Failover { return planned(c, pauser{c}) }, false},
		"without the pause": {func(c redisconn.Connector) failover.Failover { return planned(c, unpaused{pauser{c}}) }, true},
		"without the wait":  {func(c redisconn.Connector) failover.Failover { return planned(hasty{c}, pauser{c}) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			old := redisserver.Start(t, redisserver.Options{})
			late := faultproxy.Start(t, old.Addr, faultproxy.Options{ToClient: faultproxy.Faults{Latency: 100 * time.Millisecond}})
			target := redisserver.Start(t, redisserver.Options{
				Config: []string{"replicaof " + strings.Replace(late.Addr, ":", " ", 1)},
			})
			target.WaitFor("the link", func(ctx context.Context) bool {
				info, err := target.Client().Info(ctx, "replication").Result()
				return err == nil && strings.Contains(info, "master_link_status:up")
			})
			clients := redisserver.StartClients(t, []*redisserver.Server{old, target}, 8)
			connector := plainConnector()
			connector.Dial = func(ctx context.Context, d *operation.Deployment, i operation.Instance) (net.Conn, error) {
				if i.Name == late.Addr { // only replication is late
					return old.Dial(ctx)
				}
				return redisconn.DialInstance(ctx, d, i)
			}
			promote(t, test.op(connector), resolve(t, late.Addr, target.Addr), failover.DefaultOptions())
			clients.AwaitWrites(100)
			clients.Stop()
			lost, err := clients.Lost(t.Context(), target.Client())
			require.NoError(t, err)
			assert.Equal(t, test.loses, len(lost) > 0, "%d of %d acknowledged writes are lost", len(lost), clients.Acknowledged())
			t.Logf("%d of %d acknowledged writes are lost", len(lost), clients.Acknowledged())
		})
	}
}

// unpaused is a Pauser that lets writes go on.
type unpaused struct{ pauser }

func (u unpaused) Pause(ctx context.Context, d *operation.Deployment, i operation.Instance, limit time.Duration) (failover.Paused, error) {
	p, err := u.pauser.Pause(ctx, d, i, limit)
	if err != nil {
		return nil, err
	}
	return p, p.Resume(ctx)
}

// hasty connects to servers that claim to have received everything already, so that
// nothing is waited for.
type hasty struct{ operation.Connector }

func (h hasty) Connect(ctx context.Context, d *operation.Deployment, i operation.Instance) (operation.Server, error) {
	s, err := h.Connector.Connect(ctx, d, i)
	return hastyServer{s}, err
}

type hastyServer struct{ operation.Server }

func (s hastyServer) Info(ctx context.Context, sections ...string) (redis.Info, error) {
	info, err := s.Server.Info(ctx, sections...)
	if err != nil || !slices.Equal(sections, []string{"replication"}) || info.Get("role") != "slave" {
		return info, err
	}
	var text strings.Builder
	for _, field := range info.Sections()[0].Fields {
		if strings.HasSuffix(field.Name, "_repl_offset") {
			field.Value = "999999999999999"
		}
		text.WriteString(field.Name + ":" + field.Value + "\n")
	}
	return redis.ParseInfo(text.String())
}

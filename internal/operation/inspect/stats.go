package inspect

import (
	"context"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// StatsSample is what the servers did since the sample before. Its JSON form is part of
// redisctl's interface (docs/json-output.md).
type StatsSample struct {
	Time      time.Time       `json:"time"`
	Namespace string          `json:"namespace,omitempty"`
	Release   string          `json:"release,omitempty"`
	Name      string          `json:"name"`
	Instances []StatsInstance `json:"instances"`
}

// StatsInstance is one instance in a StatsSample.
type StatsInstance struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"`
	// Rates is nil when the instance did not answer, now or before, or was restarted
	// in between.
	Rates *Rates `json:"rates,omitempty"`
	// Clients are connected now, Memory is used_memory in bytes now.
	Clients int64 `json:"clients"`
	Memory  int64 `json:"memoryUsed"`
}

// Rates are differences of INFO's counters between two samples, per second. The commands
// include redisctl's own INFO, one for each sample.
type Rates struct {
	// Seconds between the two samples.
	Seconds     float64 `json:"seconds"`
	Commands    float64 `json:"commandsPerSecond"`
	Connections float64 `json:"connectionsPerSecond"`
	// In and Out are bytes on the network, with replication.
	In  float64 `json:"inBytesPerSecond"`
	Out float64 `json:"outBytesPerSecond"`
	// Hits and Misses are lookups of keys by commands that read.
	Hits   float64 `json:"hitsPerSecond"`
	Misses float64 `json:"missesPerSecond"`
	// HitRatio is hits / lookups, 0 to 1; nil when nothing was looked up.
	HitRatio *float64 `json:"hitRatio,omitempty"`
	Expired  float64  `json:"expiredPerSecond"`
	Evicted  float64  `json:"evictedPerSecond"`
}

// StatsWatch samples the servers' counters, over connections that it keeps. Use
// NewStatsWatch.
type StatsWatch struct {
	connections *Connections
	resolve     func(context.Context) (*operation.Deployment, error)
	deployment  *operation.Deployment
	timeout     time.Duration
	now         func() time.Time
	last        map[string]counters
	stale       bool
}

// counters are an instance's INFO and when it arrived.
type counters struct {
	at   time.Time
	info redis.Info
}

// NewStatsWatch returns a StatsWatch of d. resolve looks the deployment up again, which
// is done after a sample in which an instance did not answer. Close the StatsWatch.
func NewStatsWatch(
	connector operation.Connector, d *operation.Deployment,
	resolve func(context.Context) (*operation.Deployment, error), timeout time.Duration, now func() time.Time,
) *StatsWatch {
	return &StatsWatch{
		connections: NewConnections(connector), resolve: resolve, deployment: d, timeout: timeout, now: now,
		last: make(map[string]counters),
	}
}

// Sample asks all instances. The rates of the first sample are nil: there is nothing to
// compare with. An instance that does not answer is part of the sample; the error is not
// nil only when ctx ended, or when the first sample has no answer at all.
func (w *StatsWatch) Sample(ctx context.Context) (StatsSample, error) {
	if w.stale {
		// What was known before is better than nothing while the API is away.
		if d, err := w.resolve(ctx); err == nil {
			w.deployment = d
		}
	}
	first := len(w.last) == 0
	var mu sync.Mutex
	arrived := make(map[string]time.Time)
	answers := Each(ctx, named{w.connections, func(name string) {
		mu.Lock()
		defer mu.Unlock()
		arrived[name] = w.now()
	}}, w.deployment, w.timeout, func(ctx context.Context, s operation.Server) (redis.Info, error) {
		return s.Info(ctx)
	})
	if ctx.Err() != nil {
		return StatsSample{}, context.Cause(ctx) // half of the answers would be missing
	}
	if err := Failure(answers); first && err != nil && operation.KindOf(err) != operation.Partial {
		return StatsSample{}, err
	}
	w.stale = false
	sample := StatsSample{
		Time: w.now().UTC().Truncate(time.Millisecond), Namespace: w.deployment.Namespace, Release: w.deployment.Release, Name: w.deployment.Name,
	}
	for _, a := range answers {
		i := StatsInstance{Name: a.Instance, Error: a.Error}
		if a.Err != nil {
			w.stale = true
			w.connections.Drop(a.Instance)
			delete(w.last, a.Instance)
		} else {
			now := counters{at: arrived[a.Instance], info: a.Value}
			i.Rates = rates(w.last[a.Instance], now)
			i.Clients, i.Memory = a.Value.Int("connected_clients"), a.Value.Int("used_memory")
			w.last[a.Instance] = now
		}
		sample.Instances = append(sample.Instances, i)
	}
	return sample, nil
}

// Close closes the connections.
func (w *StatsWatch) Close() { w.connections.Close() }

// named tells when an instance's INFO arrived: the instances answer at different times.
type named struct {
	*Connections
	arrived func(name string)
}

// Connect implements operation.Connector.
func (n named) Connect(ctx context.Context, d *operation.Deployment, i operation.Instance) (operation.Server, error) {
	s, err := n.Connections.Connect(ctx, d, i)
	if err != nil {
		return nil, err
	}
	return noting{s, func() { n.arrived(i.Name) }}, nil
}

type noting struct {
	operation.Server
	arrived func()
}

// Info implements operation.Server.
func (n noting) Info(ctx context.Context, sections ...string) (redis.Info, error) {
	info, err := n.Server.Info(ctx, sections...)
	n.arrived()
	return info, err
}

// rates compares two samples of one server. Counters that went back (CONFIG RESETSTAT)
// and another run ID (a restart) leave nothing to compare.
func rates(before, now counters) *Rates {
	seconds := now.at.Sub(before.at).Seconds()
	if before.at.IsZero() || seconds <= 0 || before.info.Get("run_id") != now.info.Get("run_id") ||
		now.info.Int("total_commands_processed") < before.info.Int("total_commands_processed") {
		return nil
	}
	per := func(name string) float64 {
		return float64(max(0, now.info.Int(name)-before.info.Int(name))) / seconds
	}
	r := &Rates{
		Seconds: seconds, Commands: per("total_commands_processed"), Connections: per("total_connections_received"),
		In:   per("total_net_input_bytes") + per("total_net_repl_input_bytes"),
		Out:  per("total_net_output_bytes") + per("total_net_repl_output_bytes"),
		Hits: per("keyspace_hits"), Misses: per("keyspace_misses"), Expired: per("expired_keys"), Evicted: per("evicted_keys"),
	}
	if lookups := r.Hits + r.Misses; lookups > 0 {
		ratio := r.Hits / lookups
		r.HitRatio = &ratio
	}
	return r
}

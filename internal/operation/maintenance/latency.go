package maintenance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
)

// ProbeOptions say how long and how often servers are asked.
type ProbeOptions struct {
	For, Interval time.Duration
}

// Latencies is how fast the instances of a deployment answer.
type Latencies struct {
	Namespace string         `json:"namespace,omitempty"`
	Release   string         `json:"release,omitempty"`
	Name      string         `json:"name"`
	Instances []InstanceTime `json:"instances"`
}

// InstanceTime is how fast one instance answers. All times are µs as they were measured
// here: they contain the way through the cluster.
type InstanceTime struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"`
	// Asked counts the PINGs, Failed those without an answer.
	Asked  int   `json:"asked"`
	Failed int   `json:"failed"`
	Min    int64 `json:"minMicroseconds"`
	P50    int64 `json:"p50Microseconds"`
	P95    int64 `json:"p95Microseconds"`
	P99    int64 `json:"p99Microseconds"`
	Max    int64 `json:"maxMicroseconds"`
	// Samples in the order of asking; -1 for one without an answer.
	Samples []int64 `json:"samplesMicroseconds"`
}

// Probe sends PINGs to every instance for some time, all instances at once. When ctx ends
// it returns what was measured until then, together with the error.
func (m Maintenance) Probe(ctx context.Context, d *operation.Deployment, o ProbeOptions) (Latencies, error) {
	l := Latencies{Namespace: d.Namespace, Release: d.Release, Name: d.Name, Instances: make([]InstanceTime, len(d.Instances))}
	errs := make([]inspect.Answer[struct{}], len(d.Instances))
	begin := time.Now()
	ended, cancel := context.WithDeadline(ctx, begin.Add(o.For))
	defer cancel()
	var wg sync.WaitGroup
	for n, i := range d.Instances {
		wg.Go(func() {
			samples, err := m.probe(ended, d, i, o.Interval)
			l.Instances[n] = Percentiles(samples)
			l.Instances[n].Name = i.Name
			if err != nil {
				l.Instances[n].Error = err.Error()
			}
			errs[n] = inspect.Answer[struct{}]{Instance: i.Name, Err: err}
		})
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	for tick := time.NewTicker(time.Second); ; {
		select {
		case <-tick.C:
			m.Reporter.Progress(operation.Progress{Done: int64(time.Since(begin).Seconds()), Total: int64(math.Ceil(o.For.Seconds())), Unit: "s"})
			continue
		case <-finished:
			tick.Stop()
		}
		break
	}
	if ctx.Err() != nil {
		return l, context.Cause(ctx)
	}
	return l, inspect.Failure(errs)
}

// probe asks one instance until ctx ends. An instance that answers at least once has no
// error.
func (m Maintenance) probe(ctx context.Context, d *operation.Deployment, i operation.Instance, interval time.Duration) ([]int64, error) {
	if err := i.Down(); err != nil {
		return nil, err
	}
	server, err := m.Connector.Connect(ctx, d, i)
	if err != nil {
		return nil, err
	}
	defer func() { _ = server.Close() }() // the answers are here
	var samples []int64
	var last error
	answered := false
	for ticker := time.NewTicker(interval); ; {
		took, err := server.Ping(ctx)
		switch {
		case err == nil:
			samples, answered = append(samples, took.Microseconds()), true
		case ctx.Err() == nil:
			samples, last = append(samples, -1), err
		case !answered && last == nil: // it was still being waited for
			samples, last = append(samples, -1), err
		}
		select {
		case <-ctx.Done():
			ticker.Stop()
			if answered {
				return samples, nil
			}
			return samples, last
		case <-ticker.C:
		}
	}
}

// Percentiles sums samples in µs up; those below 0 were not answered. A percentile is the
// smallest sample that so many of them do not exceed (the nearest-rank method).
func Percentiles(samples []int64) InstanceTime {
	t := InstanceTime{Samples: samples, Asked: len(samples)}
	sorted := slices.DeleteFunc(slices.Clone(samples), func(v int64) bool { return v < 0 })
	t.Failed = len(samples) - len(sorted)
	if len(sorted) == 0 {
		return t
	}
	slices.Sort(sorted)
	rank := func(share float64) int64 { return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)] }
	t.Min, t.P50, t.P95, t.P99, t.Max = sorted[0], rank(0.50), rank(0.95), rank(0.99), sorted[len(sorted)-1]
	return t
}

// Spikes is what the latency monitor of one instance has noted.
type Spikes struct {
	// ThresholdMilliseconds is from what time on events are noted; 0 for none. It is left
	// out when the server does not tell its configuration.
	ThresholdMilliseconds *int64      `json:"thresholdMilliseconds,omitempty"`
	Events                []SpikeKind `json:"events"`
}

// SpikeKind is what was noted of one kind of event.
type SpikeKind struct {
	// Event as the server names it: command, fork, aof-fsync-always, expire-cycle, ….
	Event string `json:"event"`
	// Last and the times below are in ms; Max is the longest of all time.
	Last    int64     `json:"lastMilliseconds"`
	LastAt  time.Time `json:"lastTime"`
	Max     int64     `json:"maxMilliseconds"`
	History []Spike   `json:"history"`
}

// Spike is the longest event within one second.
type Spike struct {
	Time         time.Time `json:"time"`
	Milliseconds int64     `json:"milliseconds"`
}

// LatencyHistory asks every instance what its latency monitor has noted: of one event, or
// of all when event is empty.
func (m Maintenance) LatencyHistory(ctx context.Context, d *operation.Deployment, event string) []inspect.Answer[Spikes] {
	return inspect.Each(ctx, m.Connector, d, m.Timeout, func(ctx context.Context, s operation.Server) (Spikes, error) {
		return spikes(ctx, s, event)
	})
}

func spikes(ctx context.Context, s operation.Server, event string) (Spikes, error) {
	found := Spikes{ThresholdMilliseconds: intSetting(ctx, s, "latency-monitor-threshold")}
	reply, err := s.Do(ctx, "LATENCY", "LATEST")
	if err != nil {
		return found, err
	}
	latest, _ := reply.([]any)
	for _, entry := range latest {
		fields, _ := entry.([]any)
		const required = 4
		if len(fields) < required {
			return found, errors.New("unexpected reply to LATENCY LATEST")
		}
		kind := SpikeKind{Event: fmt.Sprint(fields[0]), LastAt: unix(fields[1]), Last: number(fields[2]), Max: number(fields[3])}
		if event != "" && kind.Event != event {
			continue
		}
		if kind.History, err = spikeHistory(ctx, s, kind.Event); err != nil {
			return found, err
		}
		found.Events = append(found.Events, kind)
	}
	slices.SortFunc(found.Events, func(a, b SpikeKind) int { return cmp.Compare(a.Event, b.Event) })
	return found, nil
}

func spikeHistory(ctx context.Context, s operation.Server, event string) ([]Spike, error) {
	reply, err := s.Do(ctx, "LATENCY", "HISTORY", event)
	if err != nil {
		return nil, err
	}
	var history []Spike
	entries, _ := reply.([]any)
	for _, entry := range entries {
		if pair, _ := entry.([]any); len(pair) == 2 {
			history = append(history, Spike{Time: unix(pair[0]), Milliseconds: number(pair[1])})
		}
	}
	return history, nil
}

func number(v any) int64 {
	n, _ := v.(int64)
	return n
}

func unix(v any) time.Time { return time.Unix(number(v), 0).UTC() }

// Histogram is how long one command took on one instance since its start, or since
// CONFIG RESETSTAT.
type Histogram struct {
	Command string `json:"command"`
	Calls   int64  `json:"calls"`
	// P50, P95 and P99 are upper bounds in µs: the server counts in steps of powers of two.
	P50     int64    `json:"p50Microseconds"`
	P95     int64    `json:"p95Microseconds"`
	P99     int64    `json:"p99Microseconds"`
	Max     int64    `json:"maxMicroseconds"`
	Buckets []Bucket `json:"buckets"`
}

// Bucket counts the calls that took at most so long, and longer than the bucket before.
type Bucket struct {
	UpTo  int64 `json:"upToMicroseconds"`
	Calls int64 `json:"calls"`
}

// Histograms are those of one instance, the command with the highest p99 first.
type Histograms struct {
	Commands []Histogram `json:"commands"`
}

// LatencyHistogram asks every instance for LATENCY HISTOGRAM (7.0+) of commands; none
// means all that were called. An error matching operation.ErrNoCommand says that a server
// is too old, or has the command disabled.
func (m Maintenance) LatencyHistogram(ctx context.Context, d *operation.Deployment, commands []string) []inspect.Answer[Histograms] {
	return inspect.Each(ctx, m.Connector, d, m.Timeout, func(ctx context.Context, s operation.Server) (Histograms, error) {
		args := []any{"LATENCY", "HISTOGRAM"}
		for _, c := range commands {
			args = append(args, c)
		}
		reply, err := s.Do(ctx, args...)
		if err != nil {
			return Histograms{}, err
		}
		return parseHistograms(reply)
	})
}

// parseHistograms reads [command, [calls, n, histogram_usec, [µs, cumulative, …]], …].
func parseHistograms(reply any) (Histograms, error) {
	pairs, _ := reply.([]any)
	var all Histograms
	for n := 0; n+1 < len(pairs); n += 2 {
		fields, _ := pairs[n+1].([]any)
		const calls, buckets = 1, 3
		if len(fields) <= buckets {
			return all, errors.New("unexpected reply to LATENCY HISTOGRAM")
		}
		h := Histogram{Command: fmt.Sprint(pairs[n]), Calls: number(fields[calls])}
		steps, _ := fields[buckets].([]any)
		before := int64(0)
		for s := 0; s+1 < len(steps); s += 2 {
			upTo, total := number(steps[s]), number(steps[s+1])
			h.Buckets = append(h.Buckets, Bucket{UpTo: upTo, Calls: total - before})
			h.Max, before = upTo, total
		}
		h.P50, h.P95, h.P99 = h.below(0.50), h.below(0.95), h.below(0.99)
		all.Commands = append(all.Commands, h)
	}
	slices.SortFunc(all.Commands, func(a, b Histogram) int {
		return cmp.Or(cmp.Compare(b.P99, a.P99), cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Command, b.Command))
	})
	return all, nil
}

// below returns the bound of the bucket that holds a percentile.
func (h Histogram) below(share float64) int64 {
	rank, seen := int64(math.Ceil(share*float64(h.Calls))), int64(0)
	for _, b := range h.Buckets {
		if seen += b.Calls; seen >= rank {
			return b.UpTo
		}
	}
	return h.Max
}

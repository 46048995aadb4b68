package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/replication"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// Baseline is how a release was at one moment, before it was upgraded. It is kept in an
// annotation, and so it is small: less than 4 KiB for 16 databases and 10 instances.
type Baseline struct {
	Time time.Time `json:"time"`
	// Image is what the workload asked for, Target what it was upgraded to; empty for
	// plain addresses.
	Image  string `json:"image,omitempty"`
	Target string `json:"target,omitempty"`
	Chart  string `json:"chart,omitempty"`
	// Revision is Helm's; 0 when it is not known.
	Revision int `json:"revision,omitempty"`
	// Primary is empty for independent servers.
	Primary string `json:"primary,omitempty"`
	// Instances are all of them, in the deployment's order.
	Instances []BaselineInstance `json:"instances"`
}

// BaselineInstance is what one instance was like.
type BaselineInstance struct {
	Name string `json:"name"`
	// Version is nil when the instance did not answer.
	Version *redis.Version `json:"version,omitempty"`
	// Data is that of the primary and of independent servers; replicas have theirs from
	// the primary.
	Data *BaselineData `json:"data,omitempty"`
}

// BaselineData is what a server held, and how it answered.
type BaselineData struct {
	// Keys are those of the databases that hold some.
	Keys []redis.DBKeys `json:"keys"`
	// Memory is used_memory, in bytes.
	Memory int64 `json:"memory"`
	// Evicted counts keys since the server's start.
	Evicted      int64   `json:"evicted,omitempty"`
	OpsPerSecond int64   `json:"opsPerSecond"`
	Latency      Latency `json:"latency"`
	AOF          bool    `json:"aof"`
	// Save are the save points as the server writes them ("900 1 300 10"); empty for none.
	Save string `json:"save,omitempty"`
}

// Latency is how long a number of PINGs took, one after the other over one open
// connection, in microseconds.
type Latency struct {
	P50 int64 `json:"p50Microseconds"`
	P99 int64 `json:"p99Microseconds"`
	Max int64 `json:"maxMicroseconds"`
}

// Pings is how many PINGs a Latency is made of: two of them are slower than its P99.
const Pings = 200

// TakeBaseline asks for what t does not tell. The caller sets Revision and Target. The
// error is that of the primary, or of an independent server, which did not answer; a
// replica that does not is recorded without a version. timeout, at least 10 s, bounds
// each server's answers all together.
func TakeBaseline(
	ctx context.Context, connector operation.Connector, t *topology.Topology, now time.Time, timeout time.Duration,
) (Baseline, error) {
	d := t.Deployment
	b := Baseline{Time: now.UTC().Truncate(time.Second), Chart: d.Chart, Instances: make([]BaselineInstance, len(t.Members))}
	if d.Workload != nil {
		b.Image = d.Workload.Image
	}
	if !t.Independent() {
		primary, err := replication.Primary(t)
		if err != nil {
			return Baseline{}, err
		}
		b.Primary = primary.Name
	}
	for i := range t.Members {
		m := &t.Members[i]
		b.Instances[i].Name = m.Name
		if m.Err == nil {
			b.Instances[i].Version = &m.Version
		}
		if b.Primary != "" && m.Name != b.Primary {
			continue
		}
		if m.Err != nil {
			return Baseline{}, m.Err
		}
		data, err := TakeData(ctx, connector, d, m, Pings, timeout)
		if err != nil {
			return Baseline{}, err
		}
		b.Instances[i].Data = &data
	}
	return b, nil
}

// measurePatience is how long the answers of one server may take at least: on a slow link
// the PINGs take longer than the one answer that a timeout is meant for.
const measurePatience = 10 * time.Second

// TakeData asks the server m what it holds, and with pings that are more than 0 how quickly
// it answers. What m tells already is not asked again.
func TakeData(
	ctx context.Context, connector operation.Connector, d *operation.Deployment, m *topology.Member, pings int, timeout time.Duration,
) (BaselineData, error) {
	ctx, cancel := context.WithTimeout(ctx, max(timeout, measurePatience))
	defer cancel()
	server, err := connector.Connect(ctx, d, m.Instance)
	if err != nil {
		return BaselineData{}, err
	}
	defer func() { _ = server.Close() }() // the answers are here
	data := BaselineData{
		Keys:         append([]redis.DBKeys{}, m.Info.Keyspace()...),
		Memory:       m.Info.Memory().Used,
		Evicted:      m.Info.Int("evicted_keys"),
		OpsPerSecond: m.Info.Int("instantaneous_ops_per_sec"),
		AOF:          m.Info.Persistence().AOFEnabled,
	}
	if data.Save, err = savePoints(ctx, server, d); err == nil && pings > 0 {
		data.Latency, err = measure(ctx, server, pings)
	}
	return data, err
}

// savePoints returns those of the server; the chart's own where CONFIG is disabled.
func savePoints(ctx context.Context, server operation.Server, d *operation.Deployment) (string, error) {
	values, err := server.ConfigGet(ctx, "save")
	switch {
	case err == nil:
		return values["save"], nil
	case errors.Is(err, operation.ErrNoCommand), operation.KindOf(err) == operation.Denied:
		return configuredSave(d.Config), nil
	default:
		return "", err
	}
}

// configuredSave returns the save points of a redis.conf, which may be several lines.
func configuredSave(c redis.Config) string {
	var points []string
	for _, line := range c.Directives() {
		if line.Name == "save" {
			points = append(points, line.Args...)
		}
	}
	return strings.Join(points, " ")
}

// measure sends PINGs over a connection that is open already.
func measure(ctx context.Context, server operation.Server, pings int) (Latency, error) {
	if _, err := server.Ping(ctx); err != nil { // opens the connection
		return Latency{}, err
	}
	took := make([]time.Duration, pings)
	for i := range took {
		var err error
		if took[i], err = server.Ping(ctx); err != nil {
			return Latency{}, err
		}
	}
	slices.Sort(took)
	at := func(percent int) int64 { return took[(pings*percent+99)/100-1].Microseconds() } // nearest rank
	return Latency{P50: at(50), P99: at(99), Max: at(100)}, nil
}

// Data returns what the instance of that name held; nil when that was not recorded.
func (b Baseline) Data(name string) *BaselineData {
	for i := range b.Instances {
		if b.Instances[i].Name == name {
			return b.Instances[i].Data
		}
	}
	return nil
}

// ErrNoBaseline matches the error of LoadBaseline when nothing was recorded.
var ErrNoBaseline = errors.New("it was not recorded how the release was before an upgrade")

// SaveBaseline records b in the place of what was recorded before.
func SaveBaseline(ctx context.Context, notes operation.Notes, d *operation.Deployment, b Baseline) error {
	return operation.SaveNote(ctx, notes, d, operation.NoteUpgraded, b)
}

// LoadBaseline returns what was recorded before the last upgrade, or an error matching
// ErrNoBaseline.
func LoadBaseline(ctx context.Context, notes operation.Notes, d *operation.Deployment) (Baseline, error) {
	text, err := notes.Note(ctx, d, operation.NoteUpgraded)
	if err != nil {
		return Baseline{}, err
	}
	if text == "" {
		return Baseline{}, ErrNoBaseline
	}
	var b Baseline
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		return Baseline{}, &operation.Error{
			Kind: operation.Failed, Object: d.String(), Phase: "reading the state before the upgrade",
			Err: fmt.Errorf("the annotation %s cannot be read: %w", operation.NoteUpgraded, err),
		}
	}
	return b, nil
}

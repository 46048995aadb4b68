package resync_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/resync"
)

const headless = ".cache-redis-headless.prod.svc.cluster.local"

// nothing stands for a place without notes and locks.
type nothing struct{ failover string }

func (n nothing) Note(context.Context, *operation.Deployment, string) (string, error) {
	return n.failover, nil
}
func (nothing) SetNotes(context.Context, *operation.Deployment, map[string]string) error { return nil }
func (nothing) Lock(ctx context.Context, _ *operation.Deployment) (context.Context, func(), error) {
	return ctx, func() {}, nil
}

type fields = map[string]string

// scene is a release with a primary that keeps a backlog, and two replicas in sync.
func scene() (*operation.Deployment, operationtest.Fleet) {
	return operationtest.Deployment(3), operationtest.Fleet{
		"cache-redis-0": operationtest.Primary("10.0.0.11", "10.0.0.12").Set(fields{
			"repl_backlog_active": "1", "repl_backlog_first_byte_offset": "501", "repl_backlog_histlen": "500",
		}),
		"cache-redis-1": operationtest.Replica("cache-redis-0" + headless),
		"cache-redis-2": operationtest.Replica("cache-redis-0" + headless),
	}
}

func plan(t *testing.T, d *operation.Deployment, fleet operationtest.Fleet, change func(*resync.Options)) (*resync.Plan, error) {
	t.Helper()
	o := resync.DefaultOptions()
	o.Instance, o.Timeout = "cache-redis-2", time.Second
	if change != nil {
		change(&o)
	}
	op := resync.Operation{Connector: fleet, Notes: nothing{}, Locker: nothing{}, Reporter: operation.DiscardReporter{}}
	return op.Plan(context.Background(), d, o)
}

func codes(findings []operation.Finding) []string {
	found := []string{}
	for _, f := range findings {
		code := f.Code
		if f.Blocks() {
			code += "!"
		}
		found = append(found, code)
	}
	return found
}

// TestExpectation: what the primary will answer, and what is found on the way.
// A code with an exclamation mark blocks.
func TestExpectation(t *testing.T) {
	a, b, c := strings.Repeat("a", 40), strings.Repeat("b", 40), strings.Repeat("c", 40)
	// promoted is a primary that goes on from history a, at offset 900, with history b.
	promoted := fields{"master_replid": b, "master_replid2": a, "second_repl_offset": "901"}
	elsewhere := func(more fields) fields {
		all := fields{"master_host": "10.9.9.9", "master_link_status": "down"}
		for k, v := range more {
			all[k] = v
		}
		return all
	}
	for name, s := range map[string]struct {
		primary, replica fields
		kind             resync.Kind
		reason           string
		findings         []string
	}{
		"in sync":                        {nil, nil, resync.KindNone, "in sync", []string{}},
		"by IP address":                  {nil, fields{"master_host": "10.0.0.10"}, resync.KindPartial, "has all that follows offset 1000", []string{}},
		"a replica's replica":            {nil, fields{"master_host": "cache-redis-1" + headless}, resync.KindPartial, "has all that follows offset 1000", []string{}},
		"behind, within the backlog":     {nil, elsewhere(fields{"slave_repl_offset": "500"}), resync.KindPartial, "has all that follows offset 500", []string{}},
		"behind the backlog":             {nil, elsewhere(fields{"slave_repl_offset": "499"}), resync.KindFull, "begins 1 bytes too late", []string{"full-resync"}},
		"no backlog":                     {fields{"repl_backlog_active": "0"}, elsewhere(nil), resync.KindFull, "keeps no backlog", []string{"full-resync"}},
		"before the promotion":           {promoted, elsewhere(fields{"slave_repl_offset": "900"}), resync.KindPartial, "offset 900", []string{}},
		"one byte after the promotion":   {promoted, elsewhere(fields{"slave_repl_offset": "901"}), resync.KindFull, "1 bytes of the history aaaaaaaa from after the point", []string{"diverged!", "full-resync"}},
		"a history of its own":           {nil, elsewhere(fields{"master_replid": c}), resync.KindFull, "a history of its own (cccccccc)", []string{"diverged!", "full-resync"}},
		"a history of its own, no data":  {nil, elsewhere(fields{"master_replid": c, "db0": ""}), resync.KindFull, "a history of its own", []string{"full-resync"}},
		"ahead of the primary":           {nil, elsewhere(fields{"slave_repl_offset": "1001"}), resync.KindFull, "1 bytes more of the history aaaaaaaa", []string{"diverged!", "full-resync"}},
		"follows, the link is down":      {nil, fields{"master_link_status": "down"}, resync.KindPartial, "offset 1000", []string{}},
		"follows, but is another server": {nil, fields{"master_replid": c, "master_link_status": "down"}, resync.KindFull, "a history of its own", []string{"diverged", "full-resync"}},
		"already copying":                {nil, fields{"master_link_status": "down", "master_sync_in_progress": "1"}, resync.KindFull, "in progress", []string{"full-resync"}},
		"loading":                        {nil, elsewhere(fields{"loading": "1"}), resync.KindPartial, "offset 1000", []string{"loading!"}},
		"older":                          {nil, elsewhere(fields{"redis_version": "6.0.16"}), resync.KindPartial, "offset 1000", []string{"older-version"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, fleet := scene()
			fleet["cache-redis-0"].Set(s.primary)
			fleet["cache-redis-1"].Set(fields{"master_replid": fleet["cache-redis-0"].Info["master_replid"]})
			fleet["cache-redis-2"].Set(s.replica)
			p, err := plan(t, d, fleet, nil)
			require.NoError(t, err)
			assert.Equal(t, s.kind, p.Expect)
			assert.Contains(t, p.Reason, s.reason)
			assert.Equal(t, s.findings, codes(p.Findings))
			assert.Equal(t, s.kind == resync.KindNone, len(p.Steps) == 0)
		})
	}
}

func TestAllowDataLoss(t *testing.T) {
	d, fleet := scene()
	fleet["cache-redis-2"].Set(fields{"master_host": "10.9.9.9", "master_replid": "c"})
	p, err := plan(t, d, fleet, nil)
	require.NoError(t, err)
	assert.ErrorContains(t, p.Refusal(), "--allow-data-loss")
	p, err = plan(t, d, fleet, func(o *resync.Options) { o.AllowDataLoss = true })
	require.NoError(t, err)
	assert.NoError(t, p.Refusal())
}

// TestFullIsNeverSilent: the plan says what copying everything costs, and whom.
func TestFullIsNeverSilent(t *testing.T) {
	d, fleet := scene()
	full := func(o *resync.Options) { o.Full = true }
	p, err := plan(t, d, fleet, full)
	require.NoError(t, err)
	assert.Equal(t, []string{"full-resync"}, codes(p.Findings))
	assert.True(t, p.Changes())

	fleet["cache-redis-1"].Set(fields{"master_host": "cache-redis-2" + headless})
	p, err = plan(t, d, fleet, full)
	require.NoError(t, err)
	assert.Equal(t, []string{"full-resync", "chained-replica", "no-other-replica"}, codes(p.Findings))
}

func TestPassword(t *testing.T) {
	d, fleet := scene()
	fleet["cache-redis-2"].Set(fields{"master_host": "10.9.9.9"})
	fleet["cache-redis-0"].Config["requirepass"] = "x"
	p, err := plan(t, d, fleet, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{"no-masterauth!"}, codes(p.Findings))
	fleet["cache-redis-2"].Config["masterauth"] = "x"
	p, err = plan(t, d, fleet, nil)
	require.NoError(t, err)
	assert.Empty(t, p.Findings)
}

func TestIntendedPrimaryAndUnfinishedFailover(t *testing.T) {
	d, fleet := scene()
	fleet["cache-redis-2"].Set(fields{"master_host": "10.9.9.9"})
	d.Workload.Annotations = map[string]string{operation.NotePrimary: "cache-redis-1"}
	p, err := plan(t, d, fleet, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{"primary-not-intended"}, codes(p.Findings))

	op := resync.Operation{Connector: fleet, Notes: nothing{"{}"}, Locker: nothing{}, Reporter: operation.DiscardReporter{}}
	o := resync.DefaultOptions()
	o.Instance = "cache-redis-2"
	p, err = op.Plan(context.Background(), d, o)
	require.NoError(t, err)
	assert.Equal(t, []string{"unfinished-failover!", "primary-not-intended"}, codes(p.Findings))
}

// TestRefusals: there is nothing sensible to follow.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		instance string
		spoil    func(operationtest.Fleet)
		kind     operation.Kind
		says     string
	}{
		"the primary": {"cache-redis-0", nil, operation.Refused, "it would follow itself"},
		"nobody":      {"nobody", nil, operation.Usage, "cache-redis-0, cache-redis-1, cache-redis-2"},
		"no answer":   {"cache-redis-2", func(f operationtest.Fleet) { f["cache-redis-2"].Hang = true }, operation.Refused, "no answer"},
		"no primary": {"cache-redis-2", func(f operationtest.Fleet) {
			f["cache-redis-0"].Err = operation.Errorf(operation.Failed, "connection refused")
		}, operation.Refused, "no answer from cache-redis-0"},
		"two primaries":        {"cache-redis-2", func(f operationtest.Fleet) { f["cache-redis-1"] = operationtest.Primary() }, operation.Refused, "cache-redis-0, cache-redis-1"},
		"one of two primaries": {"cache-redis-1", func(f operationtest.Fleet) { f["cache-redis-1"] = operationtest.Primary() }, operation.Refused, "cache-redis-0, cache-redis-1"},
	} {
		t.Run(name, func(t *testing.T) {
			d, fleet := scene()
			if c.spoil != nil {
				c.spoil(fleet)
			}
			_, err := plan(t, d, fleet, func(o *resync.Options) { o.Instance, o.Timeout = c.instance, 50*time.Millisecond })
			assert.Equal(t, c.kind, operation.KindOf(err))
			assert.ErrorContains(t, err, c.says)
		})
	}
}

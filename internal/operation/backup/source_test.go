package backup

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// state is one in which an instance can be found.
type state string

const (
	primary    state = "primary"
	loading    state = "loading primary"
	inSync     state = "replica in sync"
	loadingToo state = "loading replica"
	linkDown   state = "replica, link down"
	syncing    state = "replica, syncing"
	foreign    state = "replica of a server outside"
	silent     state = "no answer"
)

var states = []state{primary, loading, inSync, loadingToo, linkDown, syncing, foreign, silent}

// member makes an instance in the given state.
func member(t require.TestingT, d *operation.Deployment, n int, s state, behind int64, silence time.Duration) topology.Member {
	m := topology.Member{Instance: d.Instances[n], Behind: -1}
	if s == silent {
		m.Err = operation.Errorf(operation.TimedOut, "pod %s: no answer", m.Name)
		return m
	}
	text := "loading:0\n"
	if s == loading || s == loadingToo {
		text = "loading:1\n"
	}
	info, err := redis.ParseInfo(text)
	require.NoError(t, err)
	m.Info = info
	m.Replication.Role = redis.RolePrimary
	if s == primary || s == loading {
		return m
	}
	m.Replication.Role = redis.RoleReplica
	m.Replication.Upstream = &redis.Upstream{Host: "10.0.0.10", Port: 6379, LinkUp: s != linkDown && s != syncing, SyncInProgress: s == syncing}
	m.Silence = silence
	if s != foreign {
		m.Behind = behind
	}
	return m
}

// TestChoiceOfTheSource draws deployments in every mixture of states and checks what
// must hold for each choice.
func TestChoiceOfTheSource(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drawn := rapid.SliceOfN(rapid.SampledFrom(append(states, inSync, inSync, inSync, inSync)), 1, 5).Draw(t, "states")
		d := operationtest.Deployment(len(drawn))
		top := topology.Topology{Deployment: d}
		primaries, usable := 0, 0
		best := int64(-1)
		for n, s := range drawn {
			behind := rapid.Int64Range(0, 3).Draw(t, "behind")
			silence := time.Duration(rapid.IntRange(0, 2).Draw(t, "silence")) * time.Second
			top.Members = append(top.Members, member(t, d, n, s, behind, silence))
			switch s {
			case primary, loading:
				primaries++
			case inSync:
				if usable++; best < 0 || behind < best {
					best = behind
				}
			}
		}
		source, findings, err := chooseSource(&top, Options{Method: MethodStream})

		if primaries > 1 {
			if operation.KindOf(err) != operation.Refused {
				t.Fatalf("a split brain must be refused: %v, %v", source, err)
			}
			return
		}
		if err != nil {
			if source != nil || usable > 0 {
				t.Fatalf("%v although there is a replica in sync", err)
			}
			return
		}
		s := drawn[source.Ordinal]
		switch {
		case usable > 0 && s != inSync:
			t.Fatalf("chose the %s although there is a replica in sync", s)
		case usable == 0 && s != primary:
			t.Fatalf("chose the %s", s)
		case s == inSync && source.Behind != best:
			t.Fatalf("chose a replica %d behind, the best is %d", source.Behind, best)
		case s == inSync && len(findings) > 0:
			t.Fatalf("nothing is to be said of a replica in sync: %v", findings)
		case s == primary && (len(findings) != 1 || findings[0].Code != "source-is-primary"):
			t.Fatalf("it must be said that the primary forks: %v", findings)
		}
		for _, m := range top.Members { // among equals, the one that was heard of last
			if s == inSync && drawn[m.Ordinal] == inSync && m.Behind == source.Behind && m.Silence < source.Silence {
				t.Fatalf("%s is as close and less silent", m.Name)
			}
		}
	})
}

// TestNamedSource: what the user names is taken or refused, never replaced.
func TestNamedSource(t *testing.T) {
	for _, c := range []struct {
		state   state
		options Options
		kind    operation.Kind // of the error, -1 for none
		code    string
		blocks  bool
	}{
		{primary, Options{}, -1, "", false},
		{inSync, Options{}, -1, "", false},
		{foreign, Options{}, -1, "", false},
		{linkDown, Options{Method: MethodBgsave}, -1, "source-is-stale", true},
		{linkDown, Options{Method: MethodBgsave, AllowStale: true}, -1, "source-is-stale", false},
		{linkDown, Options{Method: MethodStream}, -1, "source-is-stale", true},
		{linkDown, Options{Method: MethodStream, AllowStale: true}, -1, "source-is-stale", false},
		{syncing, Options{Method: MethodBgsave}, -1, "source-is-stale", true},
		{silent, Options{}, operation.TimedOut, "", false},
	} {
		t.Run(fmt.Sprint(c.state, c.options), func(t *testing.T) {
			d := operationtest.Deployment(2)
			top := topology.Topology{Deployment: d, Members: []topology.Member{
				member(t, d, 0, primary, 0, 0), member(t, d, 1, c.state, 0, 0),
			}}
			c.options.Instance = "cache-redis-1"
			source, findings, err := chooseSource(&top, c.options)
			if c.kind >= 0 {
				assert.Equal(t, c.kind, operation.KindOf(err))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "cache-redis-1", source.Name)
			if c.code == "" {
				assert.Empty(t, findings)
				return
			}
			require.Len(t, findings, 1)
			assert.Equal(t, c.code, findings[0].Code)
			assert.Equal(t, c.blocks, findings[0].Blocks())
			assert.NotEmpty(t, findings[0].Override+findings[0].Hint, "a way on")
		})
	}
	d := operationtest.Deployment(2)
	top := topology.Topology{Deployment: d, Members: []topology.Member{member(t, d, 0, primary, 0, 0), member(t, d, 1, inSync, 0, 0)}}
	_, _, err := chooseSource(&top, Options{Instance: "nobody"})
	assert.EqualError(t, err, `prod/cache has no instance "nobody"; it has cache-redis-0, cache-redis-1`)
	assert.Equal(t, operation.Usage, operation.KindOf(err))
}

// TestNoSource: the text names the reason of each instance, the kind that of the first
// failure.
func TestNoSource(t *testing.T) {
	for name, c := range map[string]struct {
		states []state
		kind   operation.Kind
		text   string
	}{
		"a single one that hangs is its own error": {
			[]state{silent}, operation.TimedOut, "pod cache-redis-0: no answer",
		},
		"everybody for a reason": {
			[]state{silent, loadingToo, linkDown, syncing}, operation.TimedOut,
			"prod/cache: choosing the source: no instance to take a snapshot from: pod cache-redis-0: no answer; " +
				"cache-redis-1 is loading its data set; cache-redis-2 is a replica whose link is down; cache-redis-3 is a replica whose link is syncing",
		},
		"loading": {
			[]state{loading}, operation.Failed,
			"prod/cache: choosing the source: no instance to take a snapshot from: cache-redis-0 is loading its data set",
		},
		"another history": {
			[]state{foreign}, operation.Failed,
			"prod/cache: choosing the source: no instance to take a snapshot from: cache-redis-0 has another history than 10.0.0.10:6379, which it follows",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := operationtest.Deployment(len(c.states))
			top := topology.Topology{Deployment: d}
			for n, s := range c.states {
				top.Members = append(top.Members, member(t, d, n, s, 0, 0))
			}
			_, _, err := chooseSource(&top, Options{})
			assert.EqualError(t, err, c.text)
			assert.Equal(t, c.kind, operation.KindOf(err))
		})
	}
}

func TestIndependentServersMustBeChosenAmong(t *testing.T) {
	d := operationtest.Deployment(2)
	d.Workload.ServiceName = d.Name // standalone mode
	top := topology.Topology{Deployment: d, Members: []topology.Member{member(t, d, 0, primary, 0, 0), member(t, d, 1, primary, 0, 0)}}
	_, _, err := chooseSource(&top, Options{})
	assert.Equal(t, operation.Usage, operation.KindOf(err))
	assert.ErrorContains(t, err, "cache-redis-0, cache-redis-1")
	source, _, err := chooseSource(&top, Options{Instance: "cache-redis-1"})
	require.NoError(t, err)
	assert.Equal(t, "cache-redis-1", source.Name)
}

// TestSourceWhosePrimaryIsSilent: when the primary hangs, its replica holds the best
// copy there is, and a backup of it must be possible.
func TestSourceWhosePrimaryIsSilent(t *testing.T) {
	unknown := func(d *operation.Deployment, n int, follows string) topology.Member {
		m := member(t, d, n, inSync, -1, 0)
		m.Follows = follows
		return m
	}
	release := operationtest.Deployment(3)
	addresses := &operation.Deployment{Name: "10.0.0.11:6379", Instances: release.Instances[1:2]}
	for name, c := range map[string]struct {
		top      topology.Topology
		want     string
		severity operation.Severity
		message  string
	}{
		"the primary hangs": {
			topology.Topology{Deployment: release, Members: []topology.Member{
				member(t, release, 0, silent, 0, 0), unknown(release, 1, "cache-redis-0"), member(t, release, 2, linkDown, 0, 0),
			}}, "cache-redis-1", operation.Warning,
			"how far it is behind is not known: its primary cache-redis-0 does not answer",
		},
		"a single address": {
			topology.Topology{Deployment: addresses, Members: []topology.Member{unknown(addresses, 0, "")}},
			"cache-redis-1", operation.Notice,
			"how far it is behind is not known: its primary 10.0.0.10:6379 was not listed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			source, findings, err := chooseSource(&c.top, Options{Method: MethodStream})
			require.NoError(t, err)
			assert.Equal(t, c.want, source.Name)
			require.Len(t, findings, 1)
			assert.Equal(t, operation.Finding{
				Code: "source-lag-unknown", Severity: c.severity, Subject: c.want, Message: c.message,
			}, findings[0])
		})
	}
	known := topology.Topology{Deployment: release, Members: []topology.Member{
		member(t, release, 0, silent, 0, 0), unknown(release, 1, "cache-redis-0"), member(t, release, 2, inSync, 9, 0),
	}}
	source, findings, err := chooseSource(&known, Options{})
	require.NoError(t, err)
	assert.Equal(t, "cache-redis-2", source.Name, "a known lag is better than an unknown one")
	assert.Empty(t, findings)

	promoted := topology.Topology{Deployment: release, Members: []topology.Member{
		member(t, release, 0, silent, 0, 0), member(t, release, 1, primary, 0, 0), unknown(release, 2, "cache-redis-0"),
	}}
	source, findings, err = chooseSource(&promoted, Options{})
	require.NoError(t, err)
	assert.Equal(t, "cache-redis-1", source.Name, "a replica that still follows the old primary lacks what the new one has")
	require.Len(t, findings, 1)
	assert.Equal(t, "source-is-primary", findings[0].Code)
}

package retention_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/redisctl/redisctl/internal/snapshot/retention"
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func at(text string) retention.Snapshot {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return retention.Snapshot{Created: t}
}

func kept(t require.TestingT, snapshots []retention.Snapshot, p retention.Policy) []int {
	decisions, err := retention.Decide(snapshots, p, now)
	require.NoError(t, err)
	require.Len(t, decisions, len(snapshots))
	kept := []int{}
	for i, d := range decisions {
		assert.NotEmpty(t, d.Reasons)
		if d.Keep {
			kept = append(kept, i)
		}
	}
	return kept
}

func TestRules(t *testing.T) {
	snapshots := []retention.Snapshot{
		at("2026-11-23T09:50:00Z"),      // 0
		at("2026-11-23T09:10:00Z"),      // 1: the same hour
		at("2026-11-23T01:30:00+02:00"), // 2: still the 22nd in UTC, a Sunday
		at("2026-11-22T03:00:00Z"),      // 3
		at("2026-11-16T03:00:00Z"),      // 4: a Monday
		at("2026-11-15T03:00:00Z"),      // 5
		at("2026-10-31T23:59:59Z"),      // 6
		at("2026-01-01T00:00:00Z"),      // 7: ISO week 2026-W01
		at("2025-12-31T23:00:00Z"),      // 8: ISO week 2026-W01 as well
		at("2025-12-28T23:00:00Z"),      // 9: 2025-W52
	}
	for name, test := range map[string]struct {
		policy retention.Policy
		want   []int
	}{
		"last":            {retention.Policy{Last: 3}, []int{0, 1, 2}},
		"hourly":          {retention.Policy{Hourly: 3}, []int{0, 2, 3}},
		"daily":           {retention.Policy{Daily: 3}, []int{0, 2, 4}},
		"weekly":          {retention.Policy{Weekly: 6}, []int{0, 2, 5, 6, 7, 9}},
		"monthly":         {retention.Policy{Monthly: 3}, []int{0, 6, 7}},
		"yearly":          {retention.Policy{Yearly: 9}, []int{0, 8}},
		"within":          {retention.Policy{Within: 31 * time.Hour}, []int{0, 1, 2, 3}},
		"union":           {retention.Policy{Last: 2, Yearly: 2}, []int{0, 1, 8}},
		"more than exist": {retention.Policy{Last: 99}, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, test.want, kept(t, snapshots, test.policy))
		})
	}
	decisions, err := retention.Decide(snapshots, retention.Policy{Last: 1, Daily: 2}, now)
	require.NoError(t, err)
	assert.Equal(t, []string{"last", "daily 2026-11-23"}, decisions[0].Reasons)
	assert.Equal(t, retention.Decision{Reasons: []string{"no rule keeps it"}}, decisions[1])
	assert.Equal(t, retention.Decision{Keep: true, Reasons: []string{"daily 2026-11-22"}}, decisions[2])
}

func TestWhatNoPolicyRemoves(t *testing.T) {
	verified := at("2026-11-01T00:00:00Z")
	verified.Verified = now
	older := at("2026-10-01T00:00:00Z")
	older.Verified = now.Add(time.Minute) // verified later, of older data
	damaged := at("2026-11-23T09:00:00Z")
	damaged.Condition = retention.Damaged
	held := at("2020-01-01T00:00:00Z")
	held.Condition, held.Hold = retention.Held, "it is not ours"
	snapshots := []retention.Snapshot{
		at("2026-11-24T00:00:00Z"), damaged, at("2026-11-22T00:00:00Z"), at("2026-11-21T00:00:00Z"), verified, older, held,
	}
	decisions, err := retention.Decide(snapshots, retention.Policy{Last: 1}, now)
	require.NoError(t, err)
	assert.Equal(t, []retention.Decision{
		{Keep: true, Reasons: []string{"from the future: a clock was wrong"}},
		{Keep: true, Reasons: []string{"not intact, which needs --damaged"}},
		{Keep: true, Reasons: []string{"last"}},
		{Reasons: []string{"no rule keeps it"}},
		{Keep: true, Reasons: []string{"the last verified one"}},
		{Reasons: []string{"no rule keeps it"}},
		{Keep: true, Reasons: []string{"it is not ours"}},
	}, decisions)
	assert.NotContains(t, kept(t, snapshots, retention.Policy{Last: 1, Damaged: true}), 1)
}

func TestPolicyIsRefused(t *testing.T) {
	for _, p := range []retention.Policy{{}, {Damaged: true}} {
		_, err := retention.Decide(nil, p, now)
		require.ErrorIs(t, err, retention.ErrKeepsNothing)
	}
	for _, p := range []retention.Policy{{Last: -1}, {Last: 1, Yearly: -1}, {Last: 1, Within: -1}} {
		_, err := retention.Decide(nil, p, now)
		require.ErrorContains(t, err, "negative")
	}
}

func policies() *rapid.Generator[retention.Policy] {
	return rapid.Custom(func(t *rapid.T) retention.Policy {
		n := rapid.IntRange(0, 4)
		p := retention.Policy{
			Last: n.Draw(t, "last"), Hourly: n.Draw(t, "hourly"), Daily: n.Draw(t, "daily"), Weekly: n.Draw(t, "weekly"),
			Monthly: n.Draw(t, "monthly"), Yearly: n.Draw(t, "yearly"),
			Within:  time.Duration(rapid.IntRange(0, 72).Draw(t, "within")) * time.Hour,
			Damaged: rapid.Bool().Draw(t, "damaged"),
		}
		if p.Check() != nil {
			p.Last = 1
		}
		return p
	})
}

func sets() *rapid.Generator[[]retention.Snapshot] {
	return rapid.Custom(func(t *rapid.T) []retention.Snapshot {
		n := rapid.IntRange(0, 40).Draw(t, "n")
		span := rapid.SampledFrom([]int{3 * 3600, 40 * 3600, 90 * 24 * 3600, 4 * 365 * 24 * 3600}).Draw(t, "span")
		list := make([]retention.Snapshot, n)
		for i := range list {
			age := time.Duration(rapid.IntRange(-span/20, span).Draw(t, "age")) * time.Second
			list[i].Created = now.Add(-age)
			list[i].Condition = rapid.SampledFrom([]retention.Condition{
				retention.Intact, retention.Intact, retention.Intact, retention.Damaged, retention.Held,
			}).Draw(t, "condition")
			list[i].Hold = "held"
			if rapid.IntRange(0, 4).Draw(t, "verified") == 0 {
				list[i].Verified = now
			}
		}
		return list
	})
}

// What must hold whatever the times and the policy are.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snapshots, policy := sets().Draw(t, "snapshots"), policies().Draw(t, "policy")
		keep := kept(t, snapshots, policy)

		var intact, verified []time.Time // of those that rules apply to
		for i, s := range snapshots {
			future := s.Created.After(now.Add(retention.Skew))
			switch {
			case s.Condition == retention.Held || future, s.Condition == retention.Damaged && !policy.Damaged:
				assert.Contains(t, keep, i, "not a candidate")
			case s.Condition == retention.Damaged:
				assert.NotContains(t, keep, i, "damaged ones go with Damaged")
			default:
				intact = append(intact, s.Created)
				if !s.Verified.IsZero() {
					verified = append(verified, s.Created)
				}
			}
		}
		newest := func(a, b time.Time) int { return b.Compare(a) }
		slices.SortFunc(intact, newest)
		slices.SortFunc(verified, newest)
		isKept := func(at time.Time, needVerified bool) bool {
			return slices.ContainsFunc(keep, func(i int) bool {
				s := snapshots[i]
				return s.Condition == retention.Intact && s.Created.Equal(at) && (!needVerified || !s.Verified.IsZero())
			})
		}
		for _, at := range intact[:min(len(intact), max(1, policy.Last))] {
			assert.True(t, isKept(at, false), "the newest, and as many as Last says")
		}
		if len(verified) > 0 {
			assert.True(t, isKept(verified[0], true), "the last verified one")
		}

		// Repeating it changes nothing.
		var rest []retention.Snapshot
		for _, i := range keep {
			rest = append(rest, snapshots[i])
		}
		assert.Len(t, kept(t, rest, policy), len(rest), "what was kept once is kept again")

		// The order of the input does not matter.
		shuffled := slices.Clone(snapshots)
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		assert.Len(t, kept(t, shuffled, policy), len(keep))

		// A policy that asks for more keeps all that one that asks for less does.
		more := policy
		more.Last, more.Daily, more.Within = more.Last+1, more.Daily+1, more.Within+time.Hour
		assert.Subset(t, kept(t, snapshots, more), keep)
	})
}

// Package retention decides which of the snapshots of one deployment are kept. It
// is a pure function of their times and a policy: it reads and removes nothing.
//
// # Rules
//
// As in other backup tools (restic's forget, borg's prune): going from the newest
// snapshot to the oldest, Last keeps the first n; Hourly keeps the newest one of
// each of the last n hours that have any, and Daily, Weekly, Monthly and Yearly do
// the same for days, ISO weeks, months and years. Hours and days without a snapshot
// do not count. Within keeps all that are at most so much older than the newest.
// A snapshot that any rule keeps is kept. All calendars are UTC, whatever the time
// zone of the machine: the same policy keeps the same snapshots everywhere.
//
// # What no policy removes
//
//   - the newest intact snapshot;
//   - the newest snapshot that was read back and verified;
//   - one from the future: a clock was wrong, so that nothing is known of its age.
//     It does not take the place of others either;
//   - one that is not a candidate, see Snapshot.Hold.
//
// Only intact snapshots count for the rules: a damaged one must not take the place
// of one that can be restored.
package retention

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Policy says how many snapshots are kept. The zero value keeps none, and is
// refused.
type Policy struct {
	// Last, Hourly, ... are how many snapshots each rule keeps; 0 switches it off.
	Last    int `json:"last,omitempty"`
	Hourly  int `json:"hourly,omitempty"`
	Daily   int `json:"daily,omitempty"`
	Weekly  int `json:"weekly,omitempty"`
	Monthly int `json:"monthly,omitempty"`
	Yearly  int `json:"yearly,omitempty"`
	// Within keeps everything that is at most so much older than the newest one.
	// It counts from the newest snapshot and not from now, so that it does not empty
	// a folder in which no new snapshots arrive.
	Within time.Duration `json:"-"`
	// Damaged also drops snapshots that are damaged or incomplete. Without it they
	// are kept, for whoever wants to know what happened to them.
	Damaged bool `json:"damaged,omitempty"`
}

// ErrKeepsNothing is the refusal of a policy without any rule.
var ErrKeepsNothing = errors.New("the policy keeps nothing")

// Check returns an error for a policy that keeps nothing (ErrKeepsNothing) or that
// has a negative number.
func (p Policy) Check() error {
	some := p.Within > 0
	for _, r := range p.rules() {
		if r.count < 0 {
			return fmt.Errorf("keep %s: %d is negative", r.name, r.count)
		}
		some = some || r.count > 0
	}
	switch {
	case p.Within < 0:
		return fmt.Errorf("keep within: %s is negative", p.Within)
	case !some:
		return ErrKeepsNothing
	}
	return nil
}

// Condition is what is known of a snapshot without reading its data.
type Condition int

// The conditions.
const (
	// Intact snapshots can be restored as far as one knows.
	Intact Condition = iota
	// Damaged ones cannot, or did not become complete.
	Damaged
	// Held ones are not ours to judge.
	Held
)

// Snapshot is one of those to decide about.
type Snapshot struct {
	Created   time.Time
	Condition Condition
	// Hold is why a Held one is kept.
	Hold string
	// Verified is when all of it was last read and found to be sound; zero for never.
	Verified time.Time
}

// Decision is what becomes of one snapshot.
type Decision struct {
	Keep bool
	// Reasons say why, at least one: the rules that keep it, or why it goes.
	Reasons []string
}

// Skew is how far in the future a snapshot may be before its time is taken for that
// of a wrong clock.
const Skew = 10 * time.Minute

// Decide returns a Decision for each snapshot, in their order, which does not
// matter. The snapshots are those of one deployment and of one kind. It fails if
// Check does.
func Decide(snapshots []Snapshot, policy Policy, now time.Time) ([]Decision, error) {
	if err := policy.Check(); err != nil {
		return nil, err
	}
	d := decisions{list: make([]Decision, len(snapshots))}
	var intact []int // indexes, the newest first
	for i, s := range snapshots {
		switch {
		case s.Condition == Held:
			d.keep(i, s.Hold)
		case s.Created.After(now.Add(Skew)):
			d.keep(i, "from the future: a clock was wrong")
		case s.Condition == Intact:
			intact = append(intact, i)
		case !policy.Damaged:
			d.keep(i, "not intact, which needs --damaged")
		default:
			d.list[i].Reasons = []string{"not intact"}
		}
	}
	slices.SortStableFunc(intact, func(a, b int) int {
		// Of two of the same age the verified one is worth more.
		return cmp.Or(snapshots[b].Created.Compare(snapshots[a].Created), snapshots[b].Verified.Compare(snapshots[a].Verified))
	})
	d.applyRules(snapshots, intact, policy)
	d.protect(snapshots, intact)
	for _, i := range intact {
		if !d.list[i].Keep {
			d.list[i].Reasons = []string{"no rule keeps it"}
		}
	}
	return d.list, nil
}

type decisions struct{ list []Decision }

func (d *decisions) keep(i int, reason string) {
	d.list[i].Keep = true
	d.list[i].Reasons = append(d.list[i].Reasons, reason)
}

// rule keeps the newest snapshot of each of count periods.
type rule struct {
	name   string
	count  int
	period func(t time.Time) string // nil: each snapshot is a period of its own
}

func (p Policy) rules() []rule {
	calendar := func(layout string) func(time.Time) string {
		return func(t time.Time) string { return t.Format(layout) }
	}
	return []rule{
		{"last", p.Last, nil},
		{"hourly", p.Hourly, calendar("2006-01-02T15")},
		{"daily", p.Daily, calendar("2006-01-02")},
		{"weekly", p.Weekly, func(t time.Time) string {
			year, week := t.ISOWeek()
			return fmt.Sprintf("%04d-W%02d", year, week)
		}},
		{"monthly", p.Monthly, calendar("2006-01")},
		{"yearly", p.Yearly, calendar("2006")},
	}
}

// applyRules keeps what the policy's rules keep of the intact snapshots.
func (d *decisions) applyRules(snapshots []Snapshot, intact []int, policy Policy) {
	for _, r := range policy.rules() {
		kept, last := 0, ""
		for _, i := range intact {
			if kept == r.count {
				break
			}
			if r.period == nil {
				kept++
				d.keep(i, r.name)
				continue
			}
			if period := r.period(snapshots[i].Created.UTC()); period != last {
				kept, last = kept+1, period
				d.keep(i, r.name+" "+period)
			}
		}
	}
	if policy.Within > 0 && len(intact) > 0 {
		oldest := snapshots[intact[0]].Created.Add(-policy.Within)
		for _, i := range intact {
			if !snapshots[i].Created.Before(oldest) {
				d.keep(i, "within")
			}
		}
	}
}

// protect keeps what no policy removes.
func (d *decisions) protect(snapshots []Snapshot, intact []int) {
	if len(intact) == 0 {
		return
	}
	d.keepAnyway(intact[0], "the newest")
	verified := slices.DeleteFunc(slices.Clone(intact), func(i int) bool { return snapshots[i].Verified.IsZero() })
	if len(verified) > 0 {
		// The newest data that is known to be sound; of equal age, what was verified last.
		d.keepAnyway(slices.MaxFunc(verified, func(a, b int) int {
			return cmp.Or(snapshots[a].Created.Compare(snapshots[b].Created), snapshots[a].Verified.Compare(snapshots[b].Verified))
		}), "the last verified one")
	}
}

// keepAnyway adds a reason only where there is no other: a table in which the newest
// one is always marked would hide what the rules do.
func (d *decisions) keepAnyway(i int, reason string) {
	if !d.list[i].Keep {
		d.keep(i, reason)
	}
}

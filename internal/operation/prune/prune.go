// Package prune removes the backups that a retention policy does not keep.
package prune

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/retention"
	"github.com/redisctl/redisctl/internal/storage"
)

// Options say what is pruned, and how.
type Options struct {
	// Filter selects the folders. Its other conditions must be empty: a policy that
	// sees only some of a folder's backups would keep the wrong ones.
	Filter snapshot.Filter
	Policy retention.Policy
}

// Prune is the use case. All fields are needed.
type Prune struct {
	Store    storage.Store
	Reporter operation.Reporter
	Now      func() time.Time
	// Version of redisctl, for the note that a removal has begun.
	Version string
}

// Plan is what `backup prune` is going to do.
type Plan struct {
	// Location is that of the store.
	Location string `json:"location"`
	// Groups are the backups of one kind in one folder, which the policy looks at
	// together, sorted by folder and kind.
	Groups []Group `json:"groups"`
	// Remove counts the backups to remove, Size their bytes.
	Remove int   `json:"remove"`
	Size   int64 `json:"sizeBytes"`

	options Options
	now     time.Time
}

// Group is a row of backups that replace each other in time.
type Group struct {
	Folder string        `json:"folder"`
	Kind   snapshot.Kind `json:"kind"`
	// Items are all backups of the group, the newest first.
	Items []Item `json:"items"`
}

// Item is one backup and what becomes of it.
type Item struct {
	ID        string         `json:"id"`
	CreatedAt time.Time      `json:"createdAt"`
	Size      int64          `json:"sizeBytes"`
	State     snapshot.State `json:"state"`
	// VerifiedAt is when it was last found to be sound.
	VerifiedAt *time.Time `json:"verifiedAt,omitempty"`
	Keep       bool       `json:"keep"`
	// Reasons say why.
	Reasons []string `json:"reasons"`

	entry snapshot.Entry
}

// Plan lists the store and decides. It only reads. Where part of the store cannot be
// listed it fails: what is not seen might be what has to be kept.
func (p Prune) Plan(ctx context.Context, o Options) (*Plan, error) {
	return p.planAt(ctx, o, p.Now())
}

func (p Prune) planAt(ctx context.Context, o Options, now time.Time) (*Plan, error) {
	if err := o.Policy.Check(); err != nil {
		return nil, operation.Errorf(operation.Usage, "%w", err)
	}
	entries, err := snapshot.List(ctx, p.Store, o.Filter)
	if err != nil {
		return nil, &operation.Error{
			Kind: operation.KindOf(err), Object: p.Store.Location(""), Phase: "listing", Err: err, Unchanged: "nothing was removed",
		}
	}
	plan := &Plan{Location: p.Store.Location(""), Groups: []Group{}, options: o, now: now}
	for _, e := range entries { // the newest first, and so are the items of each group
		g := plan.group(&e)
		g.Items = append(g.Items, newItem(&e))
	}
	slices.SortFunc(plan.Groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Folder, b.Folder), cmp.Compare(a.Kind, b.Kind))
	})
	for i := range plan.Groups {
		if err := plan.decide(plan.Groups[i].Items); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

func (p *Plan) group(e *snapshot.Entry) *Group {
	for i := range p.Groups {
		if g := &p.Groups[i]; g.Folder == e.Dir && g.Kind == e.Kind {
			return g
		}
	}
	p.Groups = append(p.Groups, Group{Folder: e.Dir, Kind: e.Kind})
	return &p.Groups[len(p.Groups)-1]
}

func newItem(e *snapshot.Entry) Item {
	i := Item{ID: e.ID, CreatedAt: e.Created, Size: e.Size, State: e.State(), entry: *e}
	if e.Verified != nil {
		i.VerifiedAt = &e.Verified.At
	}
	return i
}

// decide fills in what becomes of the items of one group.
func (p *Plan) decide(items []Item) error {
	candidates := make([]retention.Snapshot, len(items))
	for i := range items {
		candidates[i] = p.candidate(&items[i])
	}
	decisions, err := retention.Decide(candidates, p.options.Policy, p.now)
	if err != nil {
		return operation.Errorf(operation.Usage, "%w", err)
	}
	for i, d := range decisions {
		items[i].Keep, items[i].Reasons = d.Keep, d.Reasons
		if items[i].State == snapshot.Removing {
			items[i].Keep, items[i].Reasons = false, []string{"its removal was interrupted"}
		}
		if !items[i].Keep {
			p.Remove++
			p.Size += items[i].Size
		}
	}
	return nil
}

// candidate is what the policy is told of an item.
func (p *Plan) candidate(i *Item) retention.Snapshot {
	s := retention.Snapshot{Created: i.CreatedAt}
	if i.VerifiedAt != nil {
		s.Verified = *i.VerifiedAt
	}
	hold := ""
	switch i.State {
	case snapshot.Intact:
		return s
	case snapshot.Damaged:
		s.Condition = retention.Damaged
		return s
	case snapshot.Incomplete:
		// It looks like this also while it is being made.
		if i.CreatedAt.Before(p.now.Add(-storage.SweepAge)) {
			s.Condition = retention.Damaged
			return s
		}
		hold = "incomplete and younger than a day: it may still be running"
	case snapshot.Unsupported:
		hold = "made by a newer redisctl"
	case snapshot.Unreadable:
		hold = "its manifest could not be read"
	case snapshot.Foreign:
		hold = "not made by redisctl"
	case snapshot.Removing: // decided by decide
		hold = "removing"
	}
	s.Condition, s.Hold = retention.Held, hold
	return s
}

// Result is what `backup prune` has done.
type Result struct {
	Location string `json:"location"`
	// Removed lists what was removed, Failed what could not be.
	Removed []Removed `json:"removed"`
	Failed  []Removed `json:"failed"`
	// Kept counts the others, Size the bytes of the removed ones.
	Kept int   `json:"kept"`
	Size int64 `json:"sizeBytes"`
	// Swept names what interrupted backups had left behind.
	Swept []string `json:"swept"`
}

// Removed is one backup that was, or could not be, removed.
type Removed struct {
	ID     string `json:"id"`
	Folder string `json:"folder"`
	// Error says why it could not be removed completely. It is then no backup any more,
	// and the next prune finishes it, or it is untouched.
	Error string `json:"error,omitempty"`
}

// Apply removes what the plan does not keep, after it made sure that the same decision
// would be made now: a backup that protects another one's removal may have gone. Each
// backup is removed in such an order that an interruption leaves nothing that looks
// whole (snapshot.Remove). When some cannot be removed, the others are all the same,
// and the error is of kind Partial; the Result is complete in any case.
func (p Prune) Apply(ctx context.Context, plan *Plan) (*Result, error) {
	result := &Result{Location: plan.Location, Removed: []Removed{}, Failed: []Removed{}, Swept: []string{}}
	if err := p.recheck(ctx, plan); err != nil {
		return nil, err
	}
	var failure error
	for _, g := range plan.Groups {
		for i := range g.Items {
			item := &g.Items[i]
			if item.Keep {
				result.Kept++
				continue
			}
			r := Removed{ID: item.ID, Folder: g.Folder}
			p.Reporter.Step("removing %s/%s", g.Folder, item.ID)
			err := snapshot.Remove(ctx, p.Store, item.entry, snapshot.RemoveOptions{Version: p.Version, Now: p.Now()})
			if err != nil {
				r.Error = err.Error()
				result.Failed = append(result.Failed, r)
				failure = errors.Join(failure, err)
				continue
			}
			result.Removed = append(result.Removed, r)
			result.Size += item.Size
		}
	}
	p.sweep(ctx, plan, result)
	if failure == nil {
		return result, nil
	}
	kind := operation.KindOf(failure)
	if len(result.Removed) > 0 && kind != operation.Interrupted {
		kind = operation.Partial
	}
	return result, &operation.Error{Kind: kind, Object: plan.Location, Phase: "removing", Err: failure, Next: "run the command again"}
}

// recheck plans again, for the same time, and refuses when something that was to be
// removed would now be kept or is another one under the same name.
func (p Prune) recheck(ctx context.Context, plan *Plan) error {
	again, err := p.planAt(ctx, plan.options, plan.now)
	if err != nil {
		return err
	}
	going := make(map[string]string)
	for _, g := range again.Groups {
		for _, i := range g.Items {
			if !i.Keep {
				going[g.Folder+"/"+i.ID] = i.digest()
			}
		}
	}
	for _, g := range plan.Groups {
		for _, i := range g.Items {
			if digest, ok := going[g.Folder+"/"+i.ID]; !i.Keep && (!ok || digest != i.digest()) {
				return &operation.Error{
					Kind: operation.Refused, Object: i.ID, Phase: "re-checking the plan",
					Err: errors.New("it changed since the plan was made, or is needed now"), Unchanged: "nothing was removed",
					Next: "run the command again",
				}
			}
		}
	}
	return nil
}

// digest identifies the contents, as far as they are known.
func (i *Item) digest() string {
	if i.entry.Manifest == nil {
		return ""
	}
	return i.entry.Manifest.Digest
}

// sweep removes what backups that were killed have left of files that were never
// published. What was to be done is done by then, so that a failure is only told.
func (p Prune) sweep(ctx context.Context, plan *Plan, result *Result) {
	folders := make([]string, 0, len(plan.Groups))
	for _, g := range plan.Groups {
		folders = append(folders, g.Folder)
	}
	for _, dir := range slices.Compact(folders) {
		swept, err := p.Store.Sweep(ctx, dir, storage.SweepAge)
		result.Swept = append(result.Swept, swept...)
		if err != nil {
			p.Reporter.Warn("cleaning up after interrupted backups: %v", err)
		}
	}
}

// Summary says in words what the plan removes, for the question that is asked before.
func (p *Plan) Summary() string {
	noun := "backups"
	if p.Remove == 1 {
		noun = "backup"
	}
	return fmt.Sprintf("remove %d %s (%s) from %s", p.Remove, noun, operation.Bytes(p.Size), p.Location)
}

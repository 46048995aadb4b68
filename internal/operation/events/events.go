// Package events has what the cluster reports about the objects of a release.
package events

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Event is what a component of the cluster has reported, perhaps repeatedly. Its JSON form
// is part of redisctl's interface (docs/json-output.md).
type Event struct {
	// Time is when it was last reported, First when for the first time.
	Time  time.Time `json:"time"`
	First time.Time `json:"first"`
	Count int       `json:"count"`
	// Warning is false for what is as it should be.
	Warning bool   `json:"warning"`
	Reason  string `json:"reason"`
	// Object is kind/name: Pod/cache-redis-0.
	Object  string `json:"object"`
	Message string `json:"message"`
	Source  string `json:"source,omitempty"`
}

// Source reads events.
type Source interface {
	// Events returns the events of the release's objects that the cluster still has, an
	// hour's by default, those that say the same as one (Group).
	Events(ctx context.Context, d *operation.Deployment) ([]Event, error)
	// WatchEvents hands over every event from now on, until ctx ends or show fails.
	WatchEvents(ctx context.Context, d *operation.Deployment, show func(Event) error) error
}

// Sort puts warnings first, and of each kind the newest.
func Sort(list []Event) {
	slices.SortStableFunc(list, func(a, b Event) int {
		if a.Warning != b.Warning {
			if a.Warning {
				return -1
			}
			return 1
		}
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.Object, b.Object))
	})
}

// Group makes one event of those that say the same about the same object: the scheduler
// and the kubelet report anew what they have reported before. The order is kept.
func Group(list []Event) []Event {
	type said struct {
		object, reason, message string
		warning                 bool
	}
	at := make(map[said]int)
	var grouped []Event
	for _, e := range list {
		key := said{e.Object, e.Reason, e.Message, e.Warning}
		n, known := at[key]
		if !known {
			at[key] = len(grouped)
			grouped = append(grouped, e)
			continue
		}
		g := &grouped[n]
		g.Count += e.Count
		if e.Time.After(g.Time) {
			g.Time = e.Time
		}
		if e.First.Before(g.First) {
			g.First = e.First
		}
	}
	return grouped
}

// Since drops what is older than a time.
func Since(list []Event, since time.Time) []Event {
	return slices.DeleteFunc(list, func(e Event) bool { return e.Time.Before(since) })
}

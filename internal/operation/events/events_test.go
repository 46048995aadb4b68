package events_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/redisctl/redisctl/internal/operation/events"
)

func TestWhatSaysTheSameIsOneEvent(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 11, 24, 2, minute, 0, 0, time.UTC) }
	event := func(object string, first, last, count int) events.Event {
		return events.Event{Object: object, Reason: "FailedScheduling", Message: "no node", Warning: true, First: at(first), Time: at(last), Count: count}
	}
	assert.Equal(t,
		[]events.Event{event("Pod/a-0", 1, 9, 6), event("Pod/a-1", 2, 3, 1)},
		events.Group([]events.Event{event("Pod/a-0", 3, 4, 1), event("Pod/a-1", 2, 3, 1), event("Pod/a-0", 1, 2, 2), event("Pod/a-0", 5, 9, 3)}))
	assert.Empty(t, events.Group(nil))
}

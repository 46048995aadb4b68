package operation_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
)

// ticking is a server that knows nothing but what time it is, one answer after another.
type ticking struct {
	operation.Server
	answers [][]any
}

func (s *ticking) Do(context.Context, ...any) (any, error) {
	answer := s.answers[0]
	s.answers = s.answers[1:]
	return answer, nil
}

// LASTSAVE is read off a clock that may be a tick behind: a save right at the start of a
// second would count as one of the second before.
func TestPassLastSaveWaitsForTheCoarseClock(t *testing.T) {
	s := &ticking{answers: [][]any{{"1000", "990000"}, {"1001", "40"}, {"1001", "51000"}}}
	require.NoError(t, operation.PassLastSave(t.Context(), s, time.Unix(1000, 0)))
	assert.Empty(t, s.answers, "the time in which the next second is not sure")
}

func TestPassLastSaveEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &ticking{answers: [][]any{{"1000", "0"}}}
	require.ErrorIs(t, operation.PassLastSave(ctx, s, time.Unix(1000, 0)), context.Canceled)
}

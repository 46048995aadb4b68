package inspect_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
)

// TestOneHangingInstanceHoldsUpNobody: the others answer, and it is given up in time.
func TestOneHangingInstanceHoldsUpNobody(t *testing.T) {
	d := operationtest.Deployment(3)
	fleet := operationtest.Fleet{
		"cache-redis-0": operationtest.Primary(),
		"cache-redis-1": {Hang: true},
		"cache-redis-2": operationtest.Replica("10.0.0.10"),
	}
	answers := inspect.Info(context.Background(), fleet, d, 20*time.Millisecond)
	require.Len(t, answers, 3)
	for i, name := range []string{"cache-redis-0", "cache-redis-1", "cache-redis-2"} {
		assert.Equal(t, name, answers[i].Instance, "the order is the deployment's")
	}
	assert.NoError(t, answers[0].Err)
	assert.NoError(t, answers[2].Err)
	assert.Equal(t, "7.0.15", answers[2].Value.Get("redis_version"))
	assert.Equal(t, operation.TimedOut, operation.KindOf(answers[1].Err))
	assert.Equal(t, answers[1].Err.Error(), answers[1].Error)
}

// TestInstancesThatCannotAnswerAreNotAsked: connecting to a pod that is down would
// only wait for the time-out.
func TestInstancesThatCannotAnswerAreNotAsked(t *testing.T) {
	d := operationtest.Deployment(1)
	d.Instances[0].Pod = &operation.Pod{Phase: "Pending", Reason: "ImagePullBackOff", Message: "no such image"}
	answers := inspect.Ping(context.Background(), operationtest.Fleet{"cache-redis-0": {Hang: true}}, d, time.Hour)
	assert.ErrorIs(t, answers[0].Err, operation.ErrDown)
	assert.Equal(t, "pod cache-redis-0: not running: ImagePullBackOff: no such image", answers[0].Error)
}

func TestPing(t *testing.T) {
	d := operationtest.Deployment(1)
	answers := inspect.Ping(context.Background(), operationtest.Fleet{"cache-redis-0": operationtest.Primary()}, d, time.Second)
	require.NoError(t, answers[0].Err)
	assert.Equal(t, time.Millisecond, answers[0].Value)
}

// TestCauseOfATimeout: an operator reads this text.
func TestCauseOfATimeout(t *testing.T) {
	d := operationtest.Deployment(1)
	answers := inspect.Each(context.Background(), operationtest.Fleet{"cache-redis-0": operationtest.Primary()}, d, 10*time.Millisecond,
		func(ctx context.Context, _ operation.Server) (int, error) {
			<-ctx.Done()
			return 0, context.Cause(ctx)
		})
	assert.EqualError(t, answers[0].Err, "no answer within 10ms")
	assert.Equal(t, operation.TimedOut, operation.KindOf(answers[0].Err))
}

func TestFailure(t *testing.T) {
	ok := inspect.Answer[int]{Instance: "a"}
	hanging := inspect.Answer[int]{Instance: "b", Err: operation.Errorf(operation.TimedOut, "no answer")}
	denied := inspect.Answer[int]{Instance: "c", Err: operation.Errorf(operation.Denied, "NOAUTH")}
	for name, c := range map[string]struct {
		answers []inspect.Answer[int]
		kind    operation.Kind
		text    string
	}{
		"one of one":        {[]inspect.Answer[int]{hanging}, operation.TimedOut, "no answer"},
		"all":               {[]inspect.Answer[int]{denied, hanging}, operation.Denied, "NOAUTH"},
		"some":              {[]inspect.Answer[int]{ok, hanging, denied}, operation.Partial, "2 of 3 instances did not answer, the first: no answer"},
		"some, other order": {[]inspect.Answer[int]{hanging, ok}, operation.Partial, "1 of 2 instances did not answer, the first: no answer"},
	} {
		err := inspect.Failure(c.answers)
		assert.EqualError(t, err, c.text, name)
		assert.Equal(t, c.kind, operation.KindOf(err), name)
	}
	assert.NoError(t, inspect.Failure([]inspect.Answer[int]{ok, ok}))
	assert.NoError(t, inspect.Failure[int](nil))
}

// TestAnswerAsJSON: an error is text, and a failed answer has no value.
func TestAnswerAsJSON(t *testing.T) {
	text, err := json.Marshal([]inspect.Answer[int]{
		{Instance: "a", Value: 7},
		{Instance: "b", Err: errors.New("x"), Error: "x"},
	})
	require.NoError(t, err)
	assert.JSONEq(t, `[{"name":"a","value":7},{"name":"b","error":"x"}]`, string(text))
}

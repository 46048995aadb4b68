package operation_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
)

func TestKindOf(t *testing.T) {
	denied := operation.Errorf(operation.Denied, "NOAUTH")
	for _, c := range []struct {
		err  error
		want operation.Kind
	}{
		{nil, operation.Failed},
		{errors.New("x"), operation.Failed},
		{fmt.Errorf("outer: %w", denied), operation.Denied},
		{operation.Errorf(operation.Partial, "outer: %w", denied), operation.Partial}, // the outermost counts
		{fmt.Errorf("outer: %w", context.Canceled), operation.Interrupted},
		{context.DeadlineExceeded, operation.TimedOut},
		{operation.Errorf(operation.Failed, "%w", context.Canceled), operation.Failed},
	} {
		assert.Equal(t, c.want, operation.KindOf(c.err), "%v", c.err)
	}
}

func TestErrorText(t *testing.T) {
	cause := errors.New("no byte for 15s")
	for want, e := range map[string]*operation.Error{
		"no byte for 15s":                              {Err: cause},
		"pod prod/redis-1: no byte for 15s":            {Object: "pod prod/redis-1", Err: cause},
		"receiving: no byte for 15s":                   {Phase: "receiving", Err: cause},
		"pod prod/redis-1: receiving: no byte for 15s": {Object: "pod prod/redis-1", Phase: "receiving", Err: cause, Unchanged: "u", Next: "n"},
	} {
		assert.EqualError(t, e, want)
		assert.ErrorIs(t, e, cause)
	}
}

// TestRefusalReportsAllBlockersAtOnce, each with the way around it.
func TestRefusalReportsAllBlockersAtOnce(t *testing.T) {
	plan := operation.Plan{Operation: "backup rdb", Object: "prod/cache", Findings: []operation.Finding{
		{Code: "low-space", Severity: operation.Critical, Subject: "/backups", Message: "1 KiB free", Override: "--ignore-space"},
		{Code: "stale", Severity: operation.Critical, Subject: "redis-1", Message: "old data", Hint: "choose another"},
		{Code: "forced", Severity: operation.Critical, Subject: "redis-1", Message: "x", Override: "--force", Overridden: true},
		{Code: "slow", Severity: operation.Warning, Subject: "redis-1", Message: "y"},
	}}
	err := plan.Refusal()
	require.Error(t, err)
	assert.Equal(t, operation.Refused, operation.KindOf(err))
	assert.EqualError(t, err, "prod/cache: backup rdb: /backups: 1 KiB free [low-space]; override with --ignore-space\n"+
		"  redis-1: old data [stale]; choose another")
	plan.Findings = plan.Findings[2:]
	assert.NoError(t, plan.Refusal())
	assert.NoError(t, operation.Plan{}.Refusal())
}

func TestBytes(t *testing.T) {
	for n, want := range map[operation.Bytes]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 100 << 10: "100 KiB", 1<<20 - 1: "1024 KiB",
		1 << 20: "1.0 MiB", 1 << 40: "1.0 TiB", math.MaxInt64: "8.0 EiB", -1: "-1 B",
	} {
		assert.Equal(t, want, n.String(), "%d", int64(n))
	}
}

func TestDeploymentNames(t *testing.T) {
	release := operation.Deployment{Namespace: "prod", Release: "cache", Name: "cache-redis", Workload: &operation.Workload{Name: "cache-redis", ServiceName: "cache-redis-headless"}}
	assert.Equal(t, "prod/cache", release.String())
	assert.True(t, release.ReplicaMode())
	release.Workload.ServiceName = "cache-redis"
	assert.False(t, release.ReplicaMode())
	addresses := operation.Deployment{Name: "a:6379"}
	assert.Equal(t, "a:6379", addresses.String())
	assert.False(t, addresses.ReplicaMode())
}

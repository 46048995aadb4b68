package e2e_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// follow makes a server follow a pod, or nobody when that is negative.
func (r *release) follow(t *testing.T, ordinal, primary int) {
	t.Helper()
	client := r.redis(t, ordinal)
	if primary < 0 {
		require.NoError(t, client.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err())
		return
	}
	require.NoError(t, client.Do(t.Context(), "REPLICAOF", r.pod(t, primary).Status.PodIP, "6379").Err())
	r.awaitLink(t, ordinal)
}

// After promotions by hand, roles are what the servers say, and what no longer fits
// is named.
func TestPromotionByHand(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "promote"), chart{
		files: []string{"replica-password.yaml"}, password: randomPassword(), config: quickSync,
	})
	require.NoError(t, r.redis(t, 0).Set(t.Context(), "k", "v", 0).Err())
	require.NoError(t, r.redis(t, 0).Do(t.Context(), "WAIT", 2, 30_000).Err())
	s := r.session(t)
	report := func() healthReport {
		t.Helper()
		return decode[healthReport](s.run("health", "-o", "json").exits(10).quiet())
	}

	// Pod 1 is promoted and nothing else is done.
	r.follow(t, 1, -1)
	got := report()
	assert.Empty(t, got.Primary)
	split := named(t, got, "two-primaries", r.workload)
	assert.Contains(t, split.Message, r.podName(0))
	assert.Contains(t, split.Message, r.podName(1))
	s.run("health").exits(10).shows("[two-primaries]")
	s.run("replication", "check").exits(10).shows("[two-primaries]")
	s.run("replication", "primary").exits(10).says(r.podName(0), r.podName(1))
	s.run("backup", "rdb").exits(5).says(r.podName(0), r.podName(1), "--pod")
	assert.Equal(t, r.podName(1), backup(s, "--transfer", "disk", "--pod", r.podName(1)).Source.Instance)

	// The others follow it: sound replication, but clients are sent to pod 0.
	r.follow(t, 0, 1)
	r.follow(t, 2, 1)
	got = report()
	assert.Equal(t, r.podName(1), got.Primary)
	for _, service := range []string{r.workload, r.workload + "-master"} {
		f := named(t, got, "service-elsewhere", service)
		assert.Contains(t, f.Message, r.podName(0))
		assert.Contains(t, f.Message, r.podName(1))
	}
	named(t, got, "primary-not-first", r.podName(1))
	assert.Len(t, got.Findings, 3)
	s.run("replication", "primary").exits(0).shows(r.podName(1))
	s.run("replication", "info").shows("[service-elsewhere]", "└── "+r.podName(1)+" primary")
	s.run("replication", "role", r.podName(0)).exits(0).shows("replica", r.podName(1))
	m := backup(s, "--transfer", "disk")
	assert.Equal(t, "replica", m.Source.Role)
	assert.NotEqual(t, r.podName(1), m.Source.Instance)

	// Pod 2 follows a replica.
	r.follow(t, 2, 0)
	named(t, report(), "chained-replica", r.podName(2))
	s.run("replication", "info").shows("[chained-replica]")

	// Pod 2 follows a server that is no part of the release.
	require.NoError(t, r.redis(t, 2).Do(t.Context(), "REPLICAOF", "127.0.0.1", "6390").Err())
	eventually(t, "the lost link", func(ctx context.Context) error {
		fields, err := info(ctx, r.redis(t, 2))
		if err == nil && fields["master_link_status"] == "up" {
			err = errors.New("the link is still up")
		}
		return err
	})
	got = report()
	assert.Contains(t, named(t, got, "foreign-primary", r.podName(2)).Message, "127.0.0.1:6390")
	named(t, got, "link-down", r.podName(2))

	// Back to how the chart wants it.
	r.follow(t, 0, -1)
	r.follow(t, 1, 0)
	r.follow(t, 2, 0)
	s.run("health").exits(0).quiet()
}

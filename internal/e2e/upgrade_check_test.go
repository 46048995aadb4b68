package e2e_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// upgradeCheck is what a job reads of `upgrade check`.
type upgradeCheck struct {
	Ready  bool
	Target struct {
		Image, Version  string
		VersionObserved bool
	}
	Preview struct {
		PodsReplaced bool
	}
	Trial struct {
		Started           bool
		RDBVersion        int
		UnknownDirectives []string
		Seconds           float64
	}
	Volumes  []struct{ SizeBytes, FreeBytes int64 }
	Findings []finding
}

func (c upgradeCheck) named(t *testing.T, code string) finding {
	t.Helper()
	for _, f := range c.Findings {
		if f.Code == code {
			return f
		}
	}
	require.Fail(t, "no such finding", "%s of %+v", code, c.Findings)
	return finding{}
}

// What an upgrade would meet is found without touching the release, and nothing stays of
// looking for it.
func TestUpgradeCheck(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "upgrade-check"), chart{
		files: []string{"replica-password.yaml"}, replicas: 1, password: randomPassword(),
		// latency-tracking and enable-debug-command are of 7.0.
		config: append([]string{"appendonly yes", "latency-tracking yes", "enable-debug-command no", "rename-command FLUSHALL hidden_name"}, quickSync...),
	})
	s := r.session(t)
	backup(s)
	s.run("backup", "verify", "latest").exits(0)
	before := r.pods(t)
	check := func(s *session, args ...string) upgradeCheck {
		c := decode[upgradeCheck](s.run(append([]string{"upgrade", "check", "-o", "json"}, args...)...).exits(10).quiet())
		assert.False(t, c.Ready)
		return c
	}

	t.Run("upwards", func(t *testing.T) {
		s := s.in(t)
		c := decode[upgradeCheck](s.run("upgrade", "check", "--to", "8.0.2", "-o", "json").exits(0).quiet())
		assert.True(t, c.Ready)
		assert.Equal(t, "docker.io/library/redis:8.0.2", c.Target.Image)
		assert.Equal(t, "redis 8.0.2", c.Target.Version)
		assert.True(t, c.Target.VersionObserved)
		assert.True(t, c.Preview.PodsReplaced)
		assert.True(t, c.Trial.Started)
		assert.Equal(t, 12, c.Trial.RDBVersion)
		require.Len(t, c.Volumes, 2)
		assert.Positive(t, c.Volumes[0].FreeBytes)
		c.named(t, "way-back-needs-backup")
		c.named(t, "renamed-commands")
	})
	t.Run("Valkey", func(t *testing.T) {
		s.in(t).run("upgrade", "check", "--image", "docker.io/library/valkey:8.1.1").exits(0).shows("valkey 8.1.1", "writes RDB version 11", "product-changes")
	})
	t.Run("downwards", func(t *testing.T) {
		c := check(s.in(t), "--to", "6.0.16")
		assert.Equal(t, "--allow-downgrade", c.named(t, "data-unreadable").Override)
		assert.Equal(t, "--allow-failed-trial", c.named(t, "config-unknown").Override)
		assert.ElementsMatch(t, []string{"latency-tracking", "enable-debug-command"}, c.Trial.UnknownDirectives)
		assert.False(t, c.Trial.Started)
		assert.Equal(t, "redis 6.0.16", c.Target.Version)
		assert.True(t, c.Target.VersionObserved)
	})
	t.Run("no such image", func(t *testing.T) {
		c := check(s.in(t), "--to", "7.9.99")
		f := c.named(t, "image-unavailable")
		assert.Contains(t, f.Message, "ErrImagePull")
		assert.Contains(t, f.Message, "redis:7.9.99")
		assert.Less(t, c.Trial.Seconds, 30.0)
	})
	t.Run("interrupted", func(t *testing.T) {
		running := s.in(t).start("upgrade", "check", "--to", "7.9.99")
		pod := r.podNamed(t, trialPods, running)
		services, err := e.CoreV1().Services(r.namespace).List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		require.NotEmpty(t, services.Items)
		for _, service := range services.Items {
			assert.False(t, labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)), "Service %s sends clients to it", service.Name)
		}
		for _, v := range pod.Spec.Volumes {
			assert.Nil(t, v.PersistentVolumeClaim)
		}
		assert.NotContains(t, fmt.Sprint(pod), r.password)
		running.signal(os.Interrupt)
		running.wait().exits(130)
	})
	assert.Empty(t, r.podsNamed(t, trialPods), "no pod stays")
	for i, pod := range r.pods(t) {
		assert.Equal(t, before[i].UID, pod.UID)
		assert.Equal(t, before[i].Status.ContainerStatuses[0].RestartCount, pod.Status.ContainerStatuses[0].RestartCount)
	}
	assert.Equal(t, "1", r.info(t, 0)["connected_slaves"], "nothing else follows the primary")
}

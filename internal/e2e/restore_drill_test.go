package e2e_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// drillResult is what a job reads of `restore test`.
type drillResult struct {
	Backup, Kind, Problem string
	Passed                bool
	Server                struct{ Name, Version string }
	Commands              int64
	DBs                   []struct {
		DB   int
		Keys int64
	}
	Comparison *struct {
		KeysCompared, KeysOf, NotComparable int64
		Equal                               bool
	}
	Seconds struct{ Load, Total float64 }
}

// A backup is loaded into a pod of its own and compared, and nothing of that stays,
// whatever becomes of redisctl.
func TestRestoreTestInAPod(t *testing.T) {
	for _, image := range []string{"redis:7.0.15", "valkey:8.1.1"} {
		t.Run(image, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			r := e.install(t, e.namespace(t, "drill"), chart{
				files: []string{"replica-password.yaml"}, image: image, replicas: 1, password: randomPassword(),
				config: append([]string{"appendonly yes"}, quickSync...),
			})
			client := r.redis(t, 0)
			require.NoError(t, redisserver.Fill(t.Context(), client, 1, 1000))
			require.NoError(t, client.Do(t.Context(), "WAIT", 1, 30_000).Err())
			s := r.session(t)
			stored := backup(s)

			t.Run("snapshot", func(t *testing.T) { testDrillPod(t, r, s.in(t), stored) })
			t.Run("append-only file", func(t *testing.T) {
				s := s.in(t)
				m := decode[setManifest](s.run("backup", "aof", "-o", "json").exits(0).quiet())
				d := decode[drillResult](s.run("restore", "test", m.ID, "--in", "pod", "-o", "json").exits(0).quiet())
				assert.True(t, d.Passed)
				assert.Equal(t, "aof", d.Kind)
				assert.Nil(t, d.Comparison)
				assert.Positive(t, d.Commands)
				var keys int64
				for _, db := range d.DBs {
					keys += db.Keys
				}
				assert.EqualValues(t, 1001, keys)
				s.run("restore", "test", m.ID, "--in", "pod", "--image", "docker.io/library/redis:6.0.16").exits(9).says("6.0.16")
			})
			t.Run("interrupted", func(t *testing.T) { testDrillInterrupted(t, r, s.in(t)) })
			t.Run("killed", func(t *testing.T) { testDrillKilled(t, r, s.in(t)) })
		})
	}
}

func testDrillPod(t *testing.T, r *release, s *session, stored manifest) {
	running := s.start("restore", "test", "latest", "--in", "pod", "-o", "json")
	pod := r.podNamed(t, drillPods, running)
	services, err := r.env.CoreV1().Services(r.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, services.Items)
	for _, service := range services.Items {
		assert.False(t, labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)), "Service %s sends clients to it", service.Name)
	}
	assert.NotContains(t, fmt.Sprint(pod.Spec), r.password)
	assert.Equal(t, r.pod(t, 0).Spec.Containers[0].Image, pod.Spec.Containers[0].Image)

	d := decode[drillResult](running.wait().exits(0).quiet())
	assert.True(t, d.Passed)
	assert.Equal(t, "pod "+r.namespace+"/"+pod.Name, d.Server.Name)
	require.NotNil(t, d.Comparison)
	assert.True(t, d.Comparison.Equal)
	assert.EqualValues(t, 1001, d.Comparison.KeysCompared)
	assert.EqualValues(t, 1001, d.Comparison.KeysOf)
	assert.Zero(t, d.Comparison.NotComparable)
	assert.Positive(t, d.Seconds.Load)
	assert.Empty(t, r.podsNamed(t, drillPods), "the pod is removed")

	s.run("restore", "test", "latest", "--in", "pod", "--image", "docker.io/library/redis:8.0.2", "--memory", "200Mi").exits(0).
		shows("redis 8.0.2", "1001 of 1001 keys compared, all equal", "the backup can be restored")
	// Without a release, an image is enough.
	elsewhere := *s
	elsewhere.flags = []string{"-n", r.env.namespace(t, "drills")}
	elsewhere.run("restore", "test", stored.path(s), "--in", "pod").exits(2).says("--image")
	elsewhere.run("restore", "test", stored.path(s), "--in", "pod", "--image", "docker.io/library/valkey:8.1.1").exits(0).shows("valkey 8.1.1", "all equal")
}

func testDrillInterrupted(t *testing.T, r *release, s *session) {
	running := s.start("restore", "test", "latest", "--in", "pod")
	r.podNamed(t, drillPods, running)
	running.signal(os.Interrupt)
	running.wait().exits(130)
	assert.Empty(t, r.podsNamed(t, drillPods))
}

// testDrillKilled: a pod whose redisctl was killed ends by itself, and the next drill
// removes what is left of it.
func testDrillKilled(t *testing.T, r *release, s *session) {
	running := s.start("restore", "test", "latest", "--in", "pod", "--max-time", "15s")
	left := r.podNamed(t, drillPods, running)
	running.signal(os.Kill)
	running.wait()
	eventually(t, "the end of the pod", func(ctx context.Context) error {
		pod, err := r.env.CoreV1().Pods(r.namespace).Get(ctx, left.Name, metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodFailed {
			err = fmt.Errorf("it is %s", pod.Status.Phase)
		}
		return err
	})
	s.run("restore", "test", "latest", "--in", "pod").exits(0)
	eventually(t, "the removal of what is left", func(context.Context) error {
		if pods := r.podsNamed(t, drillPods); len(pods) > 0 {
			return fmt.Errorf("%s is there", pods[0].Name)
		}
		return nil
	})
}

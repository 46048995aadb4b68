package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// named returns the finding of a code about a subject.
func named(t *testing.T, report healthReport, code, subject string) finding {
	t.Helper()
	for _, f := range report.Findings {
		if f.Code == code && f.Subject == subject {
			return f
		}
	}
	require.Fail(t, "no finding", "%s about %s, found: %+v", code, subject, report.Findings)
	return finding{}
}

// A pod that does not run is named with the reason, and does not keep the others from
// answering.
func TestPodDown(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "down"), chart{
		files: []string{"replica-password.yaml"}, password: randomPassword(), config: quickSync,
	})
	s := r.session(t)

	down := func(what, pod, reason string) {
		t.Helper()
		var f finding
		eventually(t, what, func(context.Context) error {
			report := decode[healthReport](s.run("health", "-o", "json"))
			for _, f = range report.Findings {
				if f.Code == "pod-down" && f.Subject == pod && strings.Contains(f.Message, reason) {
					return nil
				}
			}
			return fmt.Errorf("findings: %+v", report.Findings)
		})
		report := decode[healthReport](s.run("health", "-o", "json").exits(10))
		assert.False(t, report.Healthy)
		named(t, report, "pod-down", pod)
		s.run("health").exits(10).shows(pod, "[pod-down]", reason, "kubectl describe pod")
		s.run("health", "ping").exits(3).shows(reason, "PONG").says("1 of 3 instances did not answer")
		s.run("replication", "check").exits(10).shows("not ready", pod)
		s.run("info", "server", "--pod", pod).exits(1).says(pod, reason)
	}

	// A configuration that Redis refuses. The rolling update stops at the last pod.
	last := r.podName(2)
	r.patch(t, `{"spec":{"template":{"spec":{"containers":[{"name":"redis","args":["/etc/redis/redis.conf","--no-such-directive","x"]}]}}}}`)
	down("a crash loop", last, "CrashLoopBackOff")
	assert.Equal(t, r.podName(1), backup(s, "--transfer", "disk").Source.Instance)
	s.run("backup", "rdb", "--pod", last).exits(1).says(last, "CrashLoopBackOff")

	// A node that does not exist.
	r.patch(t, `{"spec":{"template":{"spec":{"nodeSelector":{"no-such":"node"}}}}}`)
	r.deletePod(t, 2)
	down("an unschedulable pod", last, "Unschedulable")

	// A pod that may not be created.
	_, err := e.CoreV1().ResourceQuotas(r.namespace).Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "no-more-pods"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	r.deletePod(t, 2)
	down("a missing pod", last, "Missing")
	assert.Equal(t, r.podName(1), backup(s, "--transfer", "disk").Source.Instance)

	// The primary is gone as well: what the last replica has is old, and is only
	// taken when somebody says so.
	r.deletePod(t, 0)
	client := r.redis(t, 1)
	eventually(t, "the link to be down", func(ctx context.Context) error {
		fields, err := info(ctx, client)
		if err == nil && fields["master_link_status"] == "up" {
			err = errors.New("the link is up")
		}
		return err
	})
	report := decode[healthReport](s.run("health", "-o", "json").exits(10))
	named(t, report, "pod-down", r.podName(0))
	named(t, report, "no-primary", r.workload)
	named(t, report, "link-down", r.podName(1))
	named(t, report, "service-empty", r.workload)
	s.run("replication", "primary").exits(10).says("no instance says that it is the primary", r.podName(0))
	s.run("backup", "rdb").exits(1).says("no instance to take a snapshot from", "--allow-stale", "unchanged: ")
	s.run("backup", "rdb", "--pod", r.podName(1)).exits(5).says("source-is-stale", "--allow-stale", "unchanged: ")
	assert.Equal(t, "replica", backup(s, "--method", "bgsave", "--pod", r.podName(1), "--allow-stale").Source.Role)
}

// A pod that hangs is named within the time-out and does not hold up the others.
func TestPodHangs(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	r := e.install(t, e.namespace(t, "hang"), chart{
		files: []string{"replica-password.yaml"}, password: randomPassword(), config: quickSync,
	})
	s := r.session(t, "--timeout", "2s")
	const limit = 20 * time.Second // ten times the time-out: the machine may be busy

	wake := r.hang(t, 1)
	hanging := r.podName(1)
	report := decode[healthReport](s.run("health", "-o", "json").exits(10).within(limit))
	f := named(t, report, "pod-hanging", hanging)
	assert.Equal(t, "critical", f.Severity)
	assert.Contains(t, f.Message, "no answer within 2s")
	for _, i := range report.Instances {
		if i.Name == hanging {
			assert.Equal(t, "hanging", i.Status)
			assert.Contains(t, i.Error, "no answer within 2s")
		} else {
			assert.Equal(t, "ok", i.Status)
		}
	}
	s.run("health").exits(10).within(limit).shows("[pod-hanging]", "no answer within 2s", "healthy")
	s.run("health", "ping").exits(3).within(limit).shows("PONG", "no answer within 2s").says("1 of 3")
	s.run("info", "server", "--pod", hanging).exits(7).within(limit).says("no answer within 2s")
	s.run("replication", "check").exits(10).within(limit).shows("not ready", hanging)
	s.run("replication", "lag").exits(10).within(limit).shows(hanging, r.podName(2))
	assert.Equal(t, r.podName(2), backup(s).Source.Instance)
	assert.Equal(t, r.podName(2), backup(s, "--method", "bgsave").Source.Instance)
	s.run("backup", "rdb", "--pod", hanging).exits(7).within(limit).says(hanging)
	wake()
	eventually(t, "health after the hang", func(context.Context) error {
		if r := s.run("health"); r.code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})

	// The primary hangs.
	r.hang(t, 0)
	report = decode[healthReport](s.run("health", "-o", "json").exits(10).within(limit))
	named(t, report, "pod-hanging", r.podName(0))
	named(t, report, "no-primary", r.workload)
	s.run("replication", "primary").exits(10).within(limit).says(r.podName(0))
	assert.Equal(t, "replica", backup(s).Source.Role, "the best copy there is")

	// Somebody promotes pod 1, pod 2 goes on waiting for the old primary.
	r.follow(t, 1, -1)
	report = decode[healthReport](s.run("health", "-o", "json").exits(10).within(limit))
	assert.Equal(t, r.podName(1), report.Primary)
	wrong := named(t, report, "wrong-primary", r.podName(2))
	assert.Contains(t, wrong.Message, r.podName(0))
	named(t, report, "service-elsewhere", r.workload)
	m := backup(s)
	assert.Equal(t, []string{r.podName(1), "primary"}, []string{m.Source.Instance, m.Source.Role})
}

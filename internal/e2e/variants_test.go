package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// Every way in which the chart can be set up is understood: what is sound is healthy,
// what is not is named, and a backup of either method holds the data.
func TestChartVariants(t *testing.T) {
	for _, variant := range []struct {
		name  string
		chart chart
		// findings of health, in any order; none means healthy.
		findings []string
		check    func(t *testing.T, r *release, report healthReport)
	}{
		{
			name:  "renamed-config",
			chart: chart{files: []string{"renamed-config.yaml"}, password: "renamed-secret"},
		},
		{
			// Nobody can ask the server for its settings.
			name: "existing-secret-config-disabled",
			chart: chart{
				files: []string{"existing-secret.yaml"}, token: randomPassword(), config: []string{`rename-command CONFIG ""`},
			},
		},
		{
			name:  "no-password-aof-metrics",
			chart: chart{files: []string{"aof.yaml", "metrics.yaml"}},
			check: func(t *testing.T, r *release, report healthReport) {
				assert.Len(t, r.pod(t, 0).Spec.Containers, 2, "with the sidecar")
				for _, i := range report.Instances {
					assert.True(t, i.AOF)
				}
			},
		},
		{
			name:     "no-persistence",
			chart:    chart{files: []string{"no-persistence.yaml"}},
			findings: []string{"no-volume", "no-persistence", "no-persistence"},
		},
	} {
		t.Run(variant.name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			variant.chart.replicas = 1
			r := e.install(t, e.namespace(t, variant.name), variant.chart)
			client := r.redis(t, 0)
			require.NoError(t, redisserver.Fill(t.Context(), client, 3, 300))
			require.NoError(t, client.Do(t.Context(), "WAIT", 1, 30_000).Err())

			s := r.session(t)
			code := 0
			if len(variant.findings) > 0 {
				code = 10
			}
			report := decode[healthReport](s.run("health", "-o", "json").exits(code).quiet())
			assert.ElementsMatch(t, variant.findings, codes(report.Findings))
			assert.Equal(t, code == 0, report.Healthy)
			if variant.check != nil {
				variant.check(t, r, report)
			}
			s.run("replication", "check").exits(0)
			for _, args := range [][]string{nil, {"--transfer", "disk"}, {"--method", "bgsave"}} {
				m := backup(s, args...)
				checkContents(t, r, load(t, redisserver.Redis70, m.path(s)), m)
			}
		})
	}
}

// Two releases in one namespace, one of them with several independent servers.
func TestTwoReleasesInOneNamespace(t *testing.T) {
	t.Parallel()
	e := setup(t)
	namespace := e.namespace(t, "two")
	one := e.install(t, namespace, chart{
		release: "one", files: []string{"standalone.yaml"}, password: randomPassword(), config: quickSync,
	})
	two := e.install(t, namespace, chart{
		release: "my-redis", files: []string{"standalone.yaml"}, config: quickSync, values: map[string]any{"replicaCount": 2},
	})
	require.NoError(t, one.redis(t, 0).Set(t.Context(), "of", "one", 0).Err())
	for i := range two.pods(t) {
		require.NoError(t, two.redis(t, i).Set(t.Context(), fmt.Sprintf("of-%d", i), "two", 0).Err())
	}

	both := one.session(t)
	both.flags = []string{"--namespace", namespace}
	for _, command := range append(observing, []string{"backup", "rdb"}) {
		both.run(command...).exits(2).says("2 deployments match", "--release one", "--release my-redis")
	}
	assert.Equal(t, []string{"my-redis", "one"}, both.complete("health", "--namespace", namespace, "--release", ""))

	report := decode[healthReport](one.session(t).run("health", "-o", "json").exits(0).quiet())
	assert.Equal(t, "standalone", report.Mode)
	require.Len(t, report.Instances, 1)
	assert.Equal(t, "one-redis-0", report.Instances[0].Name)
	assert.Equal(t, "primary", report.Instances[0].Role)
	both.run("health", "ping", "--pod", two.podName(1), "-o", "name").exits(0).shows(two.podName(1))
	t.Run("output formats", func(t *testing.T) { testOutputFormats(t, one, one.session(t)) })

	// Two servers that have nothing to do with each other are no split brain.
	report = decode[healthReport](two.session(t).run("health", "-o", "json").exits(0).quiet())
	require.Len(t, report.Instances, 2)
	assert.Empty(t, report.Findings)
	assert.Empty(t, report.Primary)
	two.session(t).run("replication", "primary").exits(10).says("my-redis-0", "my-redis-1", "independent")
	two.session(t).run("backup", "rdb").exits(2).says("--pod", "my-redis-0", "my-redis-1")

	s := one.session(t)
	m := backup(s)
	assert.Equal(t, "one-redis-0", m.Source.Instance)
	checkContents(t, one, load(t, redisserver.Redis70, m.path(s)), m)
	s = two.session(t)
	m = backup(s, "--pod", two.podName(1))
	assert.Equal(t, two.podName(1), m.Source.Instance)
	checkContents(t, two, load(t, redisserver.Redis70, m.path(s)), m)

	// Scaled to zero there is nothing to ask, and no silence about it.
	two.patch(t, `{"spec":{"replicas":0}}`)
	eventually(t, "no pods", func(ctx context.Context) error {
		set, err := two.statefulSet(ctx)
		if err == nil && set.Status.Replicas > 0 {
			err = errors.New("there are pods")
		}
		return err
	})
	two.session(t).run("health").exits(10)
	two.session(t).run("backup", "rdb").exits(1)
}

// A server that listens on the pod's address alone cannot be reached by forwarding
// its port, and is reached all the same.
func TestRedisOnPodAddressOnly(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	r := e.install(t, e.namespace(t, "bind"), chart{
		files: []string{"replica-password.yaml"}, replicas: 1, password: randomPassword(), config: quickSync,
	})
	client := r.redis(t, 0)
	require.NoError(t, redisserver.Fill(t.Context(), client, 5, 200))
	require.NoError(t, client.Do(t.Context(), "WAIT", 1, 30_000).Err())
	for i := range r.pods(t) {
		ip := r.pod(t, i).Status.PodIP
		r.configure(t, "bind", ip, i)
		r.listensOnly(t, i, ip)
	}
	s := r.session(t)
	s.run("health", "ping").exits(0).quiet()
	s.run("info", "server").exits(0).shows(r.info(t, 1)["run_id"])
	report := decode[replicationReport](s.run("replication", "info", "-o", "json").exits(0))
	require.Len(t, report.Instances, 2)
	assert.Equal(t, r.podName(0), report.Instances[1].Replica.Follows)
	for _, args := range [][]string{nil, {"--transfer", "disk"}, {"--method", "bgsave"}} {
		m := backup(s, args...)
		checkContents(t, r, load(t, redisserver.Redis70, m.path(s)), m)
	}
	// A relay is a program in the container that connects from the pod to itself. None
	// may be left behind.
	for i, pod := range r.pods(t) {
		eventually(t, "the end of the relays in "+pod.Name, func(ctx context.Context) error {
			clients, err := r.redis(t, i).ClientList(ctx).Result()
			if err == nil && strings.Contains(clients, " addr="+pod.Status.PodIP+":") {
				err = fmt.Errorf("there is still one:\n%s", clients)
			}
			return err
		})
	}
	// The readiness probe asks on localhost, so nothing sends clients there.
	eventually(t, "the pods to be not Ready", func(context.Context) error {
		got := codes(decode[healthReport](s.run("health", "-o", "json")).Findings)
		if strings.Count(strings.Join(got, " "), "pod-not-ready") != 2 || !strings.Contains(strings.Join(got, " "), "service-empty") {
			return fmt.Errorf("health finds %s", got)
		}
		return nil
	})
	s.run("health").exits(10).shows("[pod-not-ready]", "[service-empty]")
}

// listensOnly makes sure that a pod's server listens on its address and nowhere else.
func (r *release) listensOnly(t *testing.T, ordinal int, ip string) {
	t.Helper()
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", r.serverProcess(t, ordinal)))
	require.NoError(t, err)
	var addresses []string
	for line := range strings.Lines(string(table)) {
		const listening = "0A"
		// sl local_address rem_address st …, proc_net_tcp.txt
		if fields := strings.Fields(line); len(fields) > 3 && fields[3] == listening {
			addresses = append(addresses, fields[1])
		}
	}
	octets := net.ParseIP(ip).To4()
	require.Equal(t, []string{fmt.Sprintf("%02X%02X%02X%02X:%04X", octets[3], octets[2], octets[1], octets[0], 6379)}, addresses)
}

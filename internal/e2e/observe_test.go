package e2e_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// finding, and the other types below, are what a script reads of redisctl's JSON.
type finding struct {
	Code, Severity, Subject, Message, Hint, Override string
}

func codes(findings []finding) []string {
	list := make([]string, len(findings))
	for i, f := range findings {
		list[i] = f.Code
	}
	return list
}

type healthReport struct {
	Namespace, Release, Name, Mode, Primary string
	Healthy                                 bool
	Instances                               []struct {
		Name, Status, Error, Node, Image, Role, Version, Follows, Link string
		Ready                                                          *bool
		Restarts                                                       int
		Offset, Keys, MemoryMax                                        int64
		LagBytes, LagSeconds                                           *int64
		SavePoints, LastSaveOK, AOF                                    bool
	}
	Findings []finding
}

type replicationReport struct {
	Namespace, Release, Name, Mode, Primary string
	Ready                                   bool // of replication check
	Instances                               []struct {
		Name, Error, Role, ReplicationID string
		Offset, Keys                     int64
		Replica                          *struct {
			Follows, Link string
			LagBytes      *int64
			LagSeconds    int64
			Priority      int
		}
	}
	Services []struct {
		Name, Selects string
		Endpoints     []string
		Headless      bool
	}
	Findings []finding
}

// answers are one value for each instance.
type answers[T any] struct {
	Namespace, Release, Name string
	Instances                []struct {
		Name, Error string
		Value       T
	}
}

// roles translates what INFO says.
var roles = map[string]string{"master": "primary", "slave": "replica"}

// A release in replica mode with a password, looked at in every way.
func TestObserveReplicaMode(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "observe"), chart{
		files: []string{"replica-password.yaml"}, password: randomPassword(), config: quickSync,
	})
	client := r.redis(t, 0)
	for i := range 25 {
		require.NoError(t, client.Set(t.Context(), fmt.Sprintf("key:%d", i), i, 0).Err())
	}
	require.NoError(t, client.Do(t.Context(), "WAIT", 2, 10_000).Err())
	s := r.session(t)

	t.Run("health", func(t *testing.T) {
		report := decode[healthReport](s.in(t).run("health", "-o", "json").exits(0).quiet())
		assert.True(t, report.Healthy)
		assert.Empty(t, report.Findings)
		assert.Equal(t, []string{r.namespace, r.name, r.workload, "replica", r.podName(0)},
			[]string{report.Namespace, report.Release, report.Name, report.Mode, report.Primary})
		pods := r.pods(t)
		require.Len(t, report.Instances, len(pods))
		for i, got := range report.Instances {
			truth := r.info(t, i)
			assert.Equal(t, pods[i].Name, got.Name)
			assert.Equal(t, "ok", got.Status)
			assert.Empty(t, got.Error)
			assert.Equal(t, pods[i].Spec.NodeName, got.Node)
			assert.Equal(t, pods[i].Spec.Containers[0].Image, got.Image)
			if assert.NotNil(t, got.Ready) {
				assert.True(t, *got.Ready)
			}
			assert.Equal(t, roles[truth["role"]], got.Role)
			assert.Equal(t, "redis "+truth["redis_version"], got.Version)
			assert.Equal(t, int64(25), got.Keys)
			assert.Equal(t, number(t, truth["maxmemory"]), got.MemoryMax)
			assert.True(t, got.SavePoints)
			assert.True(t, got.LastSaveOK)
			assert.False(t, got.AOF)
			if i == 0 {
				assert.Empty(t, got.Link)
				assert.Nil(t, got.LagBytes)
				continue
			}
			assert.Equal(t, "up", got.Link)
			assert.Equal(t, r.podName(0), got.Follows)
			assert.NotNil(t, got.LagBytes)
		}
		s.in(t).run("health").exits(0).quiet().shows(r.namespace+"/"+r.name+" healthy primary "+r.podName(0), "STATUS", "256 MiB")
		s.in(t).run("health", "-o", "wide").exits(0).shows("FOLLOWS", "NODE", pods[1].Spec.NodeName, pods[1].Spec.Containers[0].Image)
		s.in(t).run("health", "--all-namespaces", "-o", "name").shows(r.namespace + "/" + r.name)
	})

	t.Run("ping", func(t *testing.T) {
		report := decode[answers[struct{ LatencyMicroseconds int64 }]](s.in(t).run("health", "ping", "-o", "json").exits(0).quiet())
		require.Len(t, report.Instances, 3)
		for _, i := range report.Instances {
			assert.Positive(t, i.Value.LatencyMicroseconds)
		}
		assert.Equal(t, 3, strings.Count(s.in(t).run("health", "ping").exits(0).stdout, "PONG"))
		assert.Equal(t, []string{r.podName(2)}, s.in(t).run("health", "ping", "--pod", r.podName(2), "-o", "name").exits(0).lines())
	})

	t.Run("version", func(t *testing.T) {
		report := decode[answers[struct{ Server, Image, DesiredImage string }]](s.in(t).run("health", "version", "-o", "json").exits(0).quiet())
		require.Len(t, report.Instances, 3)
		for i, got := range report.Instances {
			assert.Equal(t, "redis "+r.info(t, i)["redis_version"], got.Value.Server)
			assert.Equal(t, r.pod(t, i).Spec.Containers[0].Image, got.Value.Image)
			assert.Equal(t, got.Value.Image, got.Value.DesiredImage)
		}
	})

	t.Run("info", func(t *testing.T) {
		type sections struct {
			Server struct {
				RedisVersion string `json:"redis_version"`
				RunID        string `json:"run_id"`
				TCPPort      int    `json:"tcp_port"`
			}
			Memory   map[string]any
			Keyspace map[string]struct{ Keys, Expires int }
		}
		report := decode[answers[sections]](s.in(t).run("info", "-o", "json").exits(0).quiet())
		require.Len(t, report.Instances, 3)
		for i, got := range report.Instances {
			truth := r.info(t, i)
			assert.Equal(t, truth["redis_version"], got.Value.Server.RedisVersion)
			assert.Equal(t, truth["run_id"], got.Value.Server.RunID)
			assert.Equal(t, 6379, got.Value.Server.TCPPort)
			assert.Equal(t, 25, got.Value.Keyspace["db0"].Keys)
			assert.NotEmpty(t, got.Value.Memory)
		}
		one := decode[answers[sections]](s.in(t).run("info", "keyspace", "--pod", r.podName(1), "-o", "json").exits(0))
		require.Len(t, one.Instances, 1)
		assert.Equal(t, r.podName(1), one.Instances[0].Name)
		assert.Empty(t, one.Instances[0].Value.Memory, "only the section that was asked for")
		s.in(t).run("info", "server", "replication").exits(0).quiet().shows("SERVER", "REPLICATION", r.info(t, 2)["run_id"])
	})

	t.Run("replication info", func(t *testing.T) {
		report := decode[replicationReport](s.in(t).run("replication", "info", "-o", "json").exits(0).quiet())
		assert.Equal(t, r.podName(0), report.Primary)
		assert.Empty(t, report.Findings)
		require.Len(t, report.Instances, 3)
		for i, got := range report.Instances {
			truth := r.info(t, i)
			assert.Equal(t, roles[truth["role"]], got.Role)
			assert.Equal(t, truth["master_replid"], got.ReplicationID)
			assert.Equal(t, int64(25), got.Keys)
			// The primary PINGs its replicas, so the offset may have grown since.
			assert.Positive(t, got.Offset)
			assert.LessOrEqual(t, got.Offset, number(t, truth["master_repl_offset"]))
			if i == 0 {
				assert.Nil(t, got.Replica)
				continue
			}
			require.NotNil(t, got.Replica)
			assert.Equal(t, r.podName(0), got.Replica.Follows)
			assert.Equal(t, truth["master_link_status"], got.Replica.Link)
			assert.Equal(t, truth["slave_priority"], strconv.Itoa(got.Replica.Priority))
		}
		services, err := e.CoreV1().Services(r.namespace).List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		require.Len(t, report.Services, len(services.Items))
		for i, want := range services.Items {
			got := report.Services[i]
			assert.Equal(t, want.Name, got.Name)
			assert.Equal(t, want.Spec.Selector["statefulset.kubernetes.io/pod-name"], got.Selects)
			assert.Equal(t, want.Spec.ClusterIP == "None", got.Headless)
			assert.Equal(t, r.endpoints(t, want.Name), got.Endpoints)
		}
		text := s.in(t).run("replication", "info").exits(0).quiet().stdout
		assert.Regexp(t, `└── `+r.podName(0)+` primary .*\n    ├── `+r.podName(1)+` replica link up .*\n    └── `+r.podName(2)+` replica link up `, text)
	})

	t.Run("replication primary", func(t *testing.T) {
		truth := r.info(t, 0)
		report := decode[struct {
			Primary, ReplicationID string
			Offset                 int64
		}](s.in(t).run("replication", "primary", "-o", "json").exits(0).quiet())
		assert.Equal(t, r.podName(0), report.Primary)
		assert.Equal(t, truth["master_replid"], report.ReplicationID)
		assert.Equal(t, r.podName(0)+"\n", s.in(t).run("replication", "primary").exits(0).stdout)
	})

	t.Run("replication role", func(t *testing.T) {
		s.in(t).run("replication", "role").exits(0).quiet().shows("NAME", "ROLE", "FOLLOWS")
		report := decode[replicationReport](s.in(t).run("replication", "role", r.podName(2), "-o", "json").exits(0))
		require.Len(t, report.Instances, 1)
		assert.Equal(t, "replica", report.Instances[0].Role)
		s.in(t).run("replication", "role", r.podName(7)).exits(2).says(r.podName(0), r.podName(1), r.podName(2))
	})

	t.Run("replication lag", func(t *testing.T) {
		report := decode[replicationReport](s.in(t).run("replication", "lag", "-o", "json").exits(0).quiet())
		for _, i := range report.Instances[1:] {
			require.NotNil(t, i.Replica)
			assert.NotNil(t, i.Replica.LagBytes)
		}
		// Nobody can be this close.
		s.in(t).run("replication", "lag", "--max-bytes", "-1").exits(10).shows("[lag]", r.podName(1), r.podName(2))
	})

	t.Run("replication check", func(t *testing.T) {
		report := decode[replicationReport](s.in(t).run("replication", "check", "-o", "json").exits(0).quiet())
		assert.True(t, report.Ready)
		s.in(t).run("replication", "check").exits(0).shows("ready: one primary")
		s.in(t).run("replication", "check", "--max-bytes", "-1").exits(10).shows("not ready")
	})

	t.Run("output formats", func(t *testing.T) { testOutputFormats(t, r, s) })
	t.Run("completion", func(t *testing.T) { testCompletion(t, r, s) })
	t.Run("choosing the target", func(t *testing.T) { testTarget(t, r, s) })
	t.Run("permissions", func(t *testing.T) { testPermissions(t, r) })
	t.Run("lock", func(t *testing.T) { testLock(t, r) })
	t.Run("stored backups", func(t *testing.T) { testStoredBackups(t, r) })
}

// endpoints returns the pods that a Service sends traffic to.
func (r *release) endpoints(t *testing.T, service string) []string {
	t.Helper()
	list, err := r.env.DiscoveryV1().EndpointSlices(r.namespace).List(t.Context(), metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + service,
	})
	require.NoError(t, err)
	names := []string{}
	for _, slice := range list.Items {
		for _, endpoint := range slice.Endpoints {
			names = append(names, endpoint.TargetRef.Name)
		}
	}
	slices.Sort(names)
	return names
}

// observing lists the commands that look at a release and succeed on a sound one.
var observing = [][]string{
	{"health"},
	{"health", "ping"},
	{"health", "version"},
	{"info"},
	{"info", "memory", "persistence"},
	{"replication", "info"},
	{"replication", "primary"},
	{"replication", "role"},
	{"replication", "lag"},
	{"replication", "check"},
}

// Every command knows every format, and says the same in each.
func testOutputFormats(t *testing.T, r *release, s *session) {
	for _, command := range observing {
		t.Run(strings.Join(command, " "), func(t *testing.T) {
			run := func(format string) *result {
				t.Helper()
				return s.in(t).run(append(slices.Clone(command), "-o", format)...).exits(0).quiet()
			}
			shown := r.podName(0)
			switch command[len(command)-1] {
			case "check":
				shown = "ready"
			case "lag":
				shown = "" // it is about replicas, of which there may be none
			}
			run("table").shows(shown)
			run("wide").shows(shown)
			fromJSON := decode[map[string]any](run("json"))
			var fromYAML map[string]any
			require.NoError(t, yaml.Unmarshal([]byte(run("yaml").stdout), &fromYAML))
			assert.Equal(t, r.workload, fromJSON["name"])
			assert.Equal(t, keys(fromJSON), keys(fromYAML))
			names := run("name").lines()
			assert.Equal(t, r.podName(0), names[0])
			path, want := "jsonpath={.instances[*].name}", strings.Join(names, " ")
			if command[len(command)-1] == "primary" {
				path = "jsonpath={.primary}"
			}
			assert.Equal(t, want, strings.TrimSpace(run(path).stdout))
		})
	}
	s.in(t).run("health", "-o", "xml").exits(2).says("xml", "table", "json", "jsonpath")
	s.in(t).run("health", "-o", "jsonpath={.name").exits(2).says("jsonpath")
}

// keys lists the names of every value in a document.
func keys(value any) []string {
	var list []string
	switch value := value.(type) {
	case map[string]any:
		for name, v := range value {
			list = append(list, name)
			for _, below := range keys(v) {
				list = append(list, name+"."+below)
			}
		}
	case []any:
		for i, v := range value {
			for _, below := range keys(v) {
				list = append(list, fmt.Sprintf("[%d].%s", i, below))
			}
		}
	}
	slices.Sort(list)
	return list
}

// Words of the live cluster complete.
func testCompletion(t *testing.T, r *release, s *session) {
	complete := s.in(t).complete
	assert.Contains(t, complete("health", "-n", ""), r.namespace)
	assert.Contains(t, complete("backup", "rdb", "--namespace", ""), "kube-system")
	assert.Equal(t, []string{r.name}, complete("health", "-n", r.namespace, "--release", ""))
	pods := []string{r.podName(0), r.podName(1), r.podName(2)}
	assert.Equal(t, pods, complete("info", "-n", r.namespace, "--pod", ""))
	assert.Equal(t, pods, complete("replication", "role", "-n", r.namespace, ""))
	contexts := complete("health", "--context", "")
	require.Len(t, contexts, 1)
	assert.Contains(t, complete("health", "ver"), "version")
	assert.Contains(t, complete("info", "rep"), "replication")
	assert.Contains(t, complete("backup", "rdb", "--method", ""), "bgsave")

	// Nothing completes where nobody answers, and soon.
	for _, server := range []string{"127.0.0.1:1", silentServer(t)} {
		unreachable := s.in(t).with("KUBECONFIG", r.env.withServer(t, "https://"+server))
		assert.Empty(t, unreachable.complete("health", "--namespace", ""))
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		s.in(t).run("completion", shell).exits(0).shows("redisctl")
	}
}

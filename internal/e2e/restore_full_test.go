package e2e_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// fullReport is what a script reads of a full restore.
type fullReport struct {
	Complete   bool
	Method     string
	WithinRTO  bool
	Comparison *struct{ Equal bool }
	Steps      []struct {
		Step    string
		Seconds float64
	}
	Settings    []struct{ Name, Backup, Action string }
	ValuesFile  string
	HelmCommand string
}

// sshKey makes a key that backups can be encrypted to.
func sshKey(t *testing.T) (private, public string) {
	t.Helper()
	private = filepath.Join(t.TempDir(), "key")
	out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", private).CombinedOutput()
	require.NoError(t, err, "ssh-keygen (package openssh-client): %s", out)
	return private, private + ".pub"
}

// at returns the release as it is in another namespace.
func (r *release) at(t *testing.T, namespace string) *release {
	t.Helper()
	other := &release{env: r.env, namespace: namespace, name: r.name, workload: r.workload, password: r.password, clients: map[int]*goredis.Client{}}
	t.Cleanup(func() {
		for _, client := range other.clients {
			_ = client.Close() // the test is over
		}
	})
	return other
}

// vanish deletes the release's namespace, and makes an empty one of its name.
func (r *release) vanish(t *testing.T) {
	t.Helper()
	namespaces := r.env.CoreV1().Namespaces()
	require.NoError(t, namespaces.Delete(t.Context(), r.namespace, metav1.DeleteOptions{}))
	eventually(t, "the namespace to be gone", func(ctx context.Context) error {
		_, err := namespaces.Get(ctx, r.namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			err = errors.New("it is still there")
		}
		return err
	})
	_, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: r.namespace, Labels: map[string]string{ownerLabel: machine()},
	}}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// original starts a local server with what a release holds, to compare with.
func original(t *testing.T, s *session) *goredis.Client {
	t.Helper()
	m := decode[setManifest](s.run("backup", "rdb", "-o", "json").exits(0).quiet())
	data, err := os.ReadFile(filepath.Join(s.dir, m.File))
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dump.rdb"), data, 0o600))
	return redisserver.Start(t, redisserver.Options{Version: redisserver.Redis70, Dir: dir}).Client()
}

// A release whose namespace was deleted comes back in a new one, with its data,
// password, replicas and Services, and Helm gets to know it without a restart.
func TestRestoreFullIntoANewNamespace(t *testing.T) {
	for _, c := range []struct {
		name  string
		chart chart
		helm  string
	}{
		{"aof", chart{config: append([]string{"appendonly yes"}, quickSync...)}, "helm"},
		{"rdb", chart{config: quickSync}, "helm3"},
		{"no-volume", chart{config: quickSync, files: []string{"no-persistence.yaml"}}, "helm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			private, public := sshKey(t)
			c.chart.files = append([]string{"replica.yaml"}, c.chart.files...)
			c.chart.replicas, c.chart.password = 1, randomPassword()
			r := e.install(t, e.namespace(t, "dr"), c.chart)
			require.NoError(t, redisserver.Fill(t.Context(), r.redis(t, 0), 1, 500))
			require.NoError(t, r.redis(t, 0).Do(t.Context(), "WAIT", 1, 30_000).Err())
			r.configure(t, "maxmemory-samples", "7", 0, 1)
			s := r.session(t)
			expected := original(t, s)
			m := decode[setManifest](s.run("backup", "full", "--include-secrets", "--recipients-file", public, "-o", "json").exits(0))
			r.vanish(t)

			target := e.namespace(t, "dr-new")
			restore := []string{"restore", "full", m.ID, "--identity", private, "--into", target, "--verify", "full"}
			s.run(restore...).exits(5).says("--yes")
			s.run(append(restore, "--dry-run")...).exits(0).shows(r.workload + "-headless." + target + ".svc.cluster.local")
			report := decode[fullReport](s.run(append(restore, "--yes", "-o", "json")...).exits(0))
			assert.True(t, report.Complete)
			assert.True(t, report.WithinRTO)
			require.NotNil(t, report.Comparison)
			assert.True(t, report.Comparison.Equal)
			settings := map[string]string{}
			for _, setting := range report.Settings {
				settings[setting.Name] = setting.Backup
			}
			assert.Equal(t, map[string]string{"maxmemory-samples": "7"}, settings, "CONFIG SET of the past is told, and nothing else")

			back := r.at(t, target)
			back.awaitReady(t)
			require.NoError(t, redisserver.Compare(t.Context(), expected, back.redis(t, 0), "stream:"))
			require.NoError(t, redisserver.Compare(t.Context(), expected, back.redis(t, 1), "stream:"))
			there := back.session(t)
			healthy := []string{"health"}
			if c.name == "no-volume" { // which health warns of
				healthy = append(healthy, "ping")
			}
			there.run(healthy...).exits(0)
			out, err := back.kubectl(t, "exec", "-n", target, back.podName(1), "-c", "redis", "--", "sh", "-c",
				`REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli -h `+back.workload+` set written through-the-service`)
			require.NoError(t, err, out)
			assert.Contains(t, out, "OK")

			// Again: nothing is left to do, and what was written since stays.
			again := decode[fullReport](s.run(append(restore, "--yes", "-o", "json")...).exits(0))
			assert.True(t, again.Complete)
			assert.Equal(t, "through-the-service", back.redis(t, 0).Get(t.Context(), "written").Val())

			before := back.pods(t)
			back.adopt(t, c.helm, report.HelmCommand, filepath.Join(s.dir, report.ValuesFile))
			after := back.pods(t)
			for i := range before {
				assert.Equal(t, before[i].UID, after[i].UID, "Helm must not restart %s", before[i].Name)
			}
			assert.Equal(t, "through-the-service", back.redis(t, 0).Get(t.Context(), "written").Val())
		})
	}
}

// adopt runs the command that the report ends with.
func (r *release) adopt(t *testing.T, program, command, values string) {
	t.Helper()
	text, err := os.ReadFile(values)
	require.NoError(t, err)
	assert.Contains(t, string(text), r.password, "the values have the password: without it Helm would switch it off")
	info, err := os.Stat(values)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	words := strings.Fields(command)
	require.Equal(t, []string{"helm", "upgrade", "--install", r.name, "REDIS_CHART"}, words[:5])
	words[4], words[len(words)-1] = filepath.Join(r.env.testdata, "charts", "redis"), values
	old := r.env.helm
	helm := *r.env
	helm.helm = filepath.Join(filepath.Dir(old), program)
	helm.runHelm(t, r.namespace, words[1:]...)
	out, err := (&release{env: &helm, namespace: r.namespace, name: r.name}).helm(t, "list", "--short")
	require.NoError(t, err)
	assert.Contains(t, out, r.name)
}

// Killed or interrupted at any point, the same command goes on.
func TestRestoreFullGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "dr-kill"), chart{
		files: []string{"replica.yaml"}, replicas: 1, password: randomPassword(), config: append([]string{"appendonly yes"}, quickSync...),
	})
	require.NoError(t, redisserver.Fill(t.Context(), r.redis(t, 0), 1, 500))
	require.NoError(t, r.redis(t, 0).Do(t.Context(), "WAIT", 1, 30_000).Err())
	s := r.session(t)
	expected := original(t, s)
	m := decode[setManifest](s.run("backup", "full", "-o", "json").exits(0).quiet())
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte(r.password+"\n"), 0o600))
	target := e.namespace(t, "dr-kill-new")
	back := r.at(t, target)
	restore := []string{"restore", "full", m.ID, "--into", target, "--password-file", password, "--yes", "--verify", "full"}
	s.run("restore", "full", m.ID, "--into", target, "--yes").exits(5).says("secret-missing", "--password-file", "--generate-password")

	for _, point := range []struct {
		what   string
		signal syscall.Signal
		said   string
	}{
		{"while objects are applied", syscall.SIGKILL, "Role " + r.workload},
		{"while the release starts", syscall.SIGINT, "waiting for " + r.workload + "-0"},
		{"before anything is stopped", syscall.SIGKILL, "starting a helper pod"},
		{"while the servers stop", syscall.SIGKILL, "stopping " + r.workload},
		{"while the first server starts", syscall.SIGKILL, "starting " + r.workload + "-0"},
		{"while the replicas start", syscall.SIGKILL, "starting 1 more"},
		{"when the data is there", syscall.SIGINT, "waiting for replicas and Services"},
	} {
		s.endWhen(t, point.said, point.signal, restore...)
	}
	var last *result
	eventually(t, "the lock of the killed process to expire", func(context.Context) error {
		if last = s.run(restore...); strings.Contains(last.stderr, "[locked]") {
			return errors.New("it is still there")
		}
		return nil
	})
	last.exits(0).shows("serves what "+m.ID+" holds", "all equal", "within the objective")
	back.awaitReady(t)
	for i := range 2 {
		require.NoError(t, redisserver.Compare(t.Context(), expected, back.redis(t, i), "stream:"))
	}
	back.session(t).run("health").exits(0)
	set, err := back.statefulSet(t.Context())
	require.NoError(t, err)
	assert.NotContains(t, set.Annotations, "redisctl.dev/restore", "no record of unfinished work is left")
}

// endWhen runs redisctl, and sends it a signal when its narration has reached a text. A
// lock that a killed process has left is waited for.
func (s *session) endWhen(t *testing.T, said string, signal os.Signal, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var text []byte
	require.NoError(t, poll(ctx, func(ctx context.Context) (err error) {
		if text, err = s.endOnce(ctx, said, signal, args...); err == nil && !strings.Contains(string(text), said) {
			err = errors.New("it has not come so far")
		}
		return err
	}), "it is to be ended when it says %q; it says\n%s", said, text)
}

// endOnce returns what redisctl has said when it has ended.
func (s *session) endOnce(ctx context.Context, said string, signal os.Signal, args ...string) ([]byte, error) {
	narration, err := os.Create(filepath.Join(s.t.TempDir(), "narration"))
	if err != nil {
		return nil, err
	}
	defer narration.Close()
	cmd := exec.CommandContext(ctx, s.program, append(args, s.flags...)...)
	cmd.Dir, cmd.Stderr = s.dir, narration
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the narration tells
	}()
	for {
		text, err := os.ReadFile(narration.Name())
		if err != nil || strings.Contains(string(text), said) {
			_ = cmd.Process.Signal(signal) // it may just have ended
			<-ended
			return text, err
		}
		select {
		case <-ended:
			return os.ReadFile(narration.Name())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// What is in the way is named before anything is done.
func TestRestoreFullRefuses(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "dr-no"), chart{files: []string{"standalone.yaml"}, config: quickSync})
	require.NoError(t, r.redis(t, 0).Set(t.Context(), "k", "of the running release", 0).Err())
	s := r.session(t)
	m := decode[setManifest](s.run("backup", "full", "-o", "json").exits(0).quiet())
	s.run("restore", "full", m.ID, "--into", r.namespace, "--yes").exits(5).
		says("StatefulSet "+r.workload, "[object-exists]", "override with --adopt", "PersistentVolumeClaim data-"+r.podName(0), "[volume-exists]", "override with --replace")
	require.NoError(t, r.redis(t, 0).Set(t.Context(), "k", "changed since", 0).Err())
	s.run("restore", "full", m.ID, "--into", r.namespace, "--yes", "--adopt", "--replace=false").exits(5)
	s.run("restore", "full", m.ID, "--into", "e2e-no-such-namespace", "--storage-class", "nonsense", "--yes").exits(5).
		says("[no-namespace]", "--create-namespace", "[no-storage-class]", "local")
	assert.Equal(t, "changed since", r.redis(t, 0).Get(t.Context(), "k").Val())
}

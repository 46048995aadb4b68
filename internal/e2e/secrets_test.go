package e2e_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const terminate = syscall.SIGTERM

// randomPassword returns a password that looks different in every encoding.
func randomPassword() string { return `pa55 w0rd"\/+&=%?<` + rand.Text() + ">" }

// formsOf returns the forms in which a secret could turn up.
func formsOf(secret string) map[string]string {
	quoted, err := json.Marshal(secret)
	if err != nil {
		panic(err) // a string can always be marshalled
	}
	forms := map[string]string{
		"as it is":       secret,
		"in JSON":        strings.Trim(string(quoted), `"`),
		"in Go syntax":   strings.Trim(fmt.Sprintf("%q", secret), `"`),
		"in a URL query": url.QueryEscape(secret),
		"in a URL path":  url.PathEscape(secret),
	}
	if _, core, ok := strings.Cut(secret, "<"); ok { // of randomPassword: what no encoding changes
		forms["its core"] = strings.TrimSuffix(core, ">")
	}
	// In a longer text, base64 has three forms, by where the secret begins.
	for shift := range 3 {
		text := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + secret))
		begin := (shift*8 + 5) / 6 // the first character of nothing but the secret
		forms[fmt.Sprintf("in base64, shifted by %d", shift)] = text[begin : len(text)-1]
	}
	return forms
}

// The password is nowhere but where it belongs: not in what commands print or write,
// whether they succeed or fail, not in any process's arguments meanwhile, and not in
// what the API server logs.
func TestPasswordAppearsNowhere(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	r := e.install(t, e.namespace(t, "secret"), chart{
		files: []string{"replica-password.yaml"}, replicas: 1, password: randomPassword(), config: quickSync,
	})
	audit := e.auditSince(t)
	arguments := watchArguments(t)

	s := r.session(t)
	commands := append([][]string{}, observing...)
	for _, method := range [][]string{nil, {"--transfer", "disk"}, {"--method", "bgsave"}, {"--dry-run"}} {
		commands = append(commands, append([]string{"backup", "rdb", "-v"}, method...))
	}
	commands = append(commands,
		[]string{"backup", "list"}, []string{"backup", "show", "latest"}, []string{"backup", "verify", "latest", "-v"})
	for _, command := range commands {
		for _, format := range []string{"table", "wide", "json", "yaml", "name"} {
			s.run(append(command, "-o", format, "-v")...).exits(0)
		}
	}
	s.complete("health", "--namespace", r.namespace, "--pod", "")
	// The plain address knows the same password, from the environment.
	address := *s.with("REDISCTL_PASSWORD", r.password)
	address.flags = []string{"--address", r.pod(t, 0).Status.PodIP + ":6379"}
	for _, command := range [][]string{{"health"}, {"info"}, {"backup", "rdb", "--transfer", "disk"}} {
		address.run(append(command, "-v", "-o", "json")...).exits(0)
	}
	for _, path := range files(t, s.dir) {
		text, err := os.ReadFile(filepath.Join(s.dir, path))
		require.NoError(t, err)
		for form, secret := range formsOf(r.password) {
			assert.NotContains(t, string(text), secret, "%s (%s)", path, form)
		}
	}

	// A password that the server does not accept, with the same characters.
	wrong := randomPassword()
	s.secrets = append(s.secrets, wrong)
	value := base64.StdEncoding.EncodeToString([]byte(wrong))
	_, err := e.CoreV1().Secrets(r.namespace).Patch(t.Context(), r.workload, types.MergePatchType,
		[]byte(`{"data":{"redis-password":"`+value+`"}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	for _, command := range observing {
		assert.Contains(t, refusal(s.run(append(command, "-v")...)), "WRONGPASS")
	}
	s.run("backup", "rdb", "-v").exits(8).says("WRONGPASS")
	assert.Contains(t, refusal(address.with("REDISCTL_PASSWORD", wrong).run("health", "-v")), "WRONGPASS")
	assert.Contains(t, refusal(address.with("REDISCTL_PASSWORD", "").run("health", "-v")), "NOAUTH")

	seen := arguments()
	assert.Contains(t, seen, "redis-server", "the watch must have seen something")
	assert.NotEmpty(t, audit(r.namespace+"/pods/"+r.podName(1)+"/portforward"), "the audit log must have recorded redisctl")
	// What redisctl runs in containers may be over between two looks: the audit log has it whole.
	assert.NotEmpty(t, audit(r.namespace+"/pods/", "/exec?", "redisctl-sha256"), "the audit log must have recorded the arguments")
	for _, password := range []string{r.password, wrong} {
		for form, secret := range formsOf(password) {
			assert.Empty(t, lineWith(seen, secret), "arguments of a process (%s)", form)
			assert.Empty(t, audit(secret), "audit log (%s)", form)
		}
	}
}

// refusal requires that access was denied, and returns what tells why: health has a row and
// a finding for each server, also for one that lets nobody in; the others have an error.
func refusal(res *result) string {
	res.t.Helper()
	res.exits(8)
	if res.args[0] == "health" && res.args[1] == "-v" {
		return res.stdout
	}
	return res.stderr
}

// auditSince returns a function that finds the first line with all the texts among
// what the API server's audit log has recorded since.
func (c *cluster) auditSince(t *testing.T) (find func(texts ...string) string) {
	t.Helper()
	log, err := os.Open(c.auditLog)
	require.NoError(t, err)
	t.Cleanup(func() { _ = log.Close() }) // it was only read
	start, err := log.Seek(0, io.SeekEnd)
	require.NoError(t, err)
	return func(texts ...string) string {
		t.Helper()
		lines, err := io.ReadAll(io.NewSectionReader(log, start, math.MaxInt64-start))
		require.NoError(t, err)
		return lineWith(string(lines), texts...)
	}
}

// lineWith returns the first line that holds all the texts.
func lineWith(text string, wanted ...string) string {
	for line := range strings.Lines(text) {
		if !slices.ContainsFunc(wanted, func(w string) bool { return !strings.Contains(line, w) }) {
			return line
		}
	}
	return ""
}

// watchArguments collects the arguments of all processes of this machine, containers
// included, until the function that it returns is called.
func watchArguments(t *testing.T) (stop func() string) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	seen := make(map[string]bool)
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, path := range paths {
				text, err := os.ReadFile(path)
				if err == nil { // else it has just ended
					seen[string(text)] = true
				}
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	stop = sync.OnceValue(func() string {
		close(done)
		<-ended
		var all strings.Builder
		for text := range seen {
			all.WriteString(strings.ReplaceAll(text, "\x00", " "))
			all.WriteByte('\n')
		}
		return all.String()
	})
	t.Cleanup(func() { stop() })
	return stop
}

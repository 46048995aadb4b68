package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/testkit/faultproxy"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

const (
	// killPause is how long writes may wait in TestKilled, and so how long it takes
	// until everything that was left behind has ended by itself.
	killPause = time.Second
	// settled bounds the wait for what servers do by themselves: follow, synchronise.
	settled = 10 * time.Second
	// commandLimit ends a redisctl that hangs.
	commandLimit = 60 * time.Second
)

// proof returns how often a random fault is tried, and the source of the randomness.
// REDISCTL_PROOF=1 makes it 50 runs, REDISCTL_PROOF_SEED=n repeats the runs of a seed as
// far as the machine does.
func proof(t *testing.T, short int) (runs int, random *rand.Rand) {
	t.Helper()
	runs = short
	if os.Getenv("REDISCTL_PROOF") == "1" {
		runs = 50
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("REDISCTL_PROOF_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("REDISCTL_PROOF_SEED=%d", seed)
	return runs, rand.New(rand.NewPCG(seed, 0))
}

// TestKilled kills redisctl, the new primary or the old one with SIGKILL at random
// points of a promotion while clients write. Success may be claimed only when it is
// one: exactly one server takes writes, and it has every write that was ever
// acknowledged. Otherwise the commands that the documentation names must lead there.
func TestKilled(t *testing.T) {
	versions := redisserver.Versions(t)
	victims := []string{"redisctl", "the new primary", "the old primary"}
	runs, random := proof(t, 6)
	for i := range runs {
		k := killing{version: versions[i%len(versions)], victim: victims[i%len(victims)], line: random.IntN(4)}
		k.delay = time.Duration(random.Int64N(int64(10 * time.Millisecond)))
		if k.line == 0 { // from the start of the process to the first line takes longer
			k.delay *= 10
		}
		t.Run(fmt.Sprintf("%02d %s", i, k), k.test)
	}
}

// killing is one run: who is killed and when.
type killing struct {
	version, victim string
	// line of redisctl's narration after which the victim is killed, and how long
	// after it.
	line  int
	delay time.Duration
}

func (k killing) String() string {
	return fmt.Sprintf("%s, %s, %s after line %d", k.version, k.victim, k.delay, k.line)
}

func (k killing) test(t *testing.T) {
	g := startGroup(t, k.version)
	old, target := g.servers[0], g.servers[1]
	clients := redisserver.StartClients(t, g.servers, 8)

	promote := g.start("failover", "promote", target.Addr, "--yes", "--pause", killPause.String(), "--settle", "10s")
	promote.awaitLine(k.line, k.delay)
	var killed *redisserver.Server
	switch {
	case promote.over():
		// Too late: a promotion that nothing happened to must succeed.
	case k.victim == "redisctl":
		promote.kill()
	case k.victim == "the new primary":
		killed = target
	default:
		killed = old
	}
	if killed != nil {
		killed.Kill()
	}
	code := promote.wait()
	t.Logf("exit code %d, killed %t\n%s", code, killed != nil || code < 0, promote.output())
	if code == 0 {
		g.assertSuccess(killed != target)
	}
	<-time.After(killPause) // clients go on until the last pause has ended
	clients.Stop()
	if killed != nil {
		killed.Restart()
	}
	if code != 0 || killed != nil {
		g.wayForward()
	}
	primary := g.awaitHealthy()
	lost, err := clients.Lost(t.Context(), primary.Client())
	require.NoError(t, err)
	assert.Empty(t, lost, "of %d acknowledged writes", clients.Acknowledged())
}

// group is a primary and two replicas. They keep what they acknowledge over SIGKILL.
type group struct {
	t       *testing.T
	servers []*redisserver.Server
	// addresses are what redisctl is told.
	addresses []string
	home      string
}

func newGroup(t *testing.T) *group {
	logging.Disable() // go-redis reports to stderr what it also returns
	return &group{t: t, home: t.TempDir()}
}

func startGroup(t *testing.T, version string) *group {
	g := newGroup(t)
	for range 3 {
		o := redisserver.Options{Version: version, Config: []string{"appendonly yes", "appendfsync no"}}
		if len(g.servers) > 0 {
			o.ReplicaOf = g.servers[0]
		}
		s := redisserver.Start(t, o)
		g.servers = append(g.servers, s)
		g.addresses = append(g.addresses, s.Addr)
	}
	// A link that is up may yet be silent for a second: that something has come
	// through it shows that it is not.
	require.NoError(t, g.servers[0].Client().Set(t.Context(), "first", "1", 0).Err())
	for _, s := range g.servers[1:] {
		s.WaitInSync()
	}
	// A replica begins a new AOF when it has synchronised; until that is complete, its
	// writes do not survive.
	for _, s := range g.servers {
		s.WaitFor("the AOF", func(ctx context.Context) bool {
			info, err := s.Client().Info(ctx, "persistence").Result()
			return err == nil && strings.Contains(info, "aof_enabled:1") &&
				strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0")
		})
	}
	return g
}

// assertSuccess watches, until the last pause has ended, that no two servers take
// writes, and that one does unless it was killed when success was certain already.
func (g *group) assertSuccess(alive bool) {
	g.t.Helper()
	for end := time.Now().Add(killPause); time.Now().Before(end) && !g.t.Failed(); {
		switch writable := g.writable(); {
		case alive:
			assert.Len(g.t, writable, 1, "behind a success, one server takes writes")
		default:
			assert.LessOrEqual(g.t, len(writable), 1, "behind a success, two servers take writes: %s", writable)
		}
	}
}

// writable returns the servers that take a write.
func (g *group) writable() []string {
	var mu sync.Mutex
	var all sync.WaitGroup
	var accepted []string
	for _, s := range g.servers {
		all.Go(func() {
			client := s.NewClient(0)
			defer func() { _ = client.Close() }() // it has served
			ctx, cancel := context.WithTimeout(g.t.Context(), time.Second)
			defer cancel()
			if client.Set(ctx, "probe", "1", time.Hour).Err() == nil {
				mu.Lock()
				accepted = append(accepted, s.Addr)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return accepted
}

// wayForward runs the commands that the documentation names for a promotion that was
// interrupted, in its order, until the servers agree. Right after a restart, when
// servers still load and replicas connect again, it takes more than one attempt.
func (g *group) wayForward() {
	g.t.Helper()
	const attempts = 5
	for range attempts {
		for _, remedy := range [][]string{
			{"failover", "resume"},
			{"replication", "heal", "--yes"},
		} {
			c := g.start(remedy...)
			code := c.wait()
			g.t.Logf("redisctl %s: exit code %d\n%s", strings.Join(remedy, " "), code, c.output())
			if g.healthy() == nil {
				return
			}
		}
	}
}

// awaitHealthy returns the primary when there is one, the others follow it, and it is
// the only one to take writes.
func (g *group) awaitHealthy() *redisserver.Server {
	g.t.Helper()
	var err error
	for end := time.Now().Add(settled); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		if err = g.healthy(); err == nil {
			break
		}
	}
	require.NoError(g.t, err, "there is no way forward:\n%s", g.describe())
	writable := g.writable()
	require.Len(g.t, writable, 1, "one server takes writes")
	return g.servers[slices.IndexFunc(g.servers, func(s *redisserver.Server) bool { return s.Addr == writable[0] })]
}

// healthy returns nil when one server is the primary and the others follow it.
func (g *group) healthy() error {
	var primary string
	var following []string
	for i, s := range g.servers {
		role, err := s.Client().Do(g.t.Context(), "ROLE").Slice()
		switch {
		case err != nil:
			return err
		case role[0] == "master" && primary != "":
			return fmt.Errorf("both %s and %s are primaries", primary, g.addresses[i])
		case role[0] == "master":
			primary = g.addresses[i]
		case role[3] != "connected":
			return fmt.Errorf("the link of %s is %v", s.Addr, role[3])
		default:
			following = append(following, fmt.Sprintf("%v:%v", role[1], role[2]))
		}
	}
	if primary == "" || slices.ContainsFunc(following, func(f string) bool { return f != primary }) {
		return fmt.Errorf("the primary is %q, the others follow %q", primary, following)
	}
	return nil
}

// describe shows what each server says of itself.
func (g *group) describe() string {
	var b strings.Builder
	names := []string{"old primary", "new primary", "third"}
	for i, s := range g.servers {
		fmt.Fprintf(&b, "%s (%s): ", names[i], s.Addr)
		info, err := s.Client().Info(g.t.Context(), "replication").Result()
		if err != nil {
			fmt.Fprintln(&b, err)
			continue
		}
		for line := range strings.Lines(info) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			switch name {
			case "role", "master_host", "master_port", "master_link_status", "master_replid", "master_replid2", "master_repl_offset", "second_repl_offset":
				fmt.Fprintf(&b, "%s=%.12s ", name, value)
			}
		}
		fmt.Fprintf(&b, "keys=%d\n", s.Client().DBSize(g.t.Context()).Val())
	}
	return b.String()
}

// command is a redisctl that runs.
type command struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan struct{} // one for each line of stderr, closed at its end
	ended chan struct{}

	mu   sync.Mutex
	text bytes.Buffer
}

// start starts redisctl, as a process of its own, on the group.
func (g *group) start(args ...string) *command {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(g.t.Context()), commandLimit)
	c := &command{t: g.t, lines: make(chan struct{}, 1000), ended: make(chan struct{})}
	c.cmd = exec.CommandContext(ctx, "redisctl", append(args, "--timeout", "3s", "--address", strings.Join(g.addresses, ","))...)
	c.cmd.Dir = g.home // for the backup of what a healed server loses
	c.cmd.Env = append(os.Environ(), "HOME="+g.home, "XDG_STATE_HOME=")
	c.cmd.Stdout = writerFunc(c.note)
	stderr, err := c.cmd.StderrPipe()
	require.NoError(g.t, err)
	require.NoError(g.t, c.cmd.Start())
	go func() {
		defer close(c.ended)
		c.read(stderr)
		_ = c.cmd.Wait() // the exit code tells
	}()
	g.t.Cleanup(func() {
		cancel()
		<-c.ended
	})
	return c
}

func (c *command) read(stderr io.Reader) {
	defer close(c.lines)
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		_, _ = c.note(append(lines.Bytes(), '\n')) // it cannot fail
		c.lines <- struct{}{}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (c *command) note(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(p)
}

func (c *command) output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// awaitLine returns some time after a line of stderr, or when there is no such line.
func (c *command) awaitLine(line int, delay time.Duration) {
	for range line {
		<-c.lines
	}
	select {
	case <-c.ended:
	case <-time.After(delay):
	}
}

func (c *command) over() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

func (c *command) kill() {
	c.t.Helper()
	if err := c.cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
		require.NoError(c.t, err)
	}
}

// wait returns the exit code, -1 of a process that was killed.
func (c *command) wait() int {
	<-c.ended
	return c.cmd.ProcessState.ExitCode()
}

// TestConcurrentPromotes: of eight operators on one machine who promote at once, one
// does, and seven hear who. Every answer of a server takes its time, so that all have
// made their plans before the first one has carried out its own.
func TestConcurrentPromotes(t *testing.T) {
	slow := faultproxy.Options{ToClient: faultproxy.Faults{Latency: 300 * time.Millisecond}}
	redisserver.Versions(t)
	g := newGroup(t)
	for range 3 {
		var o redisserver.Options
		if len(g.addresses) > 0 {
			o.Config = []string{"replicaof " + strings.Replace(g.addresses[0], ":", " ", 1)}
		}
		s := redisserver.Start(t, o)
		g.servers = append(g.servers, s)
		g.addresses = append(g.addresses, faultproxy.Start(t, s.Addr, slow).Addr)
	}
	for _, s := range g.servers[1:] {
		s.WaitFor("the link", func(ctx context.Context) bool { return linkUp(ctx, s.Client()) })
	}
	const operators = 8
	var commands []*command
	for range operators {
		commands = append(commands, g.start("failover", "promote", "--yes", "--pause", "10s"))
	}
	codes := make(map[int]int)
	for _, c := range commands {
		code := c.wait()
		codes[code]++
		if code != 0 {
			assert.Contains(t, c.output(), "held by ")
		}
	}
	if !assert.Equal(t, map[int]int{0: 1, 6: operators - 1}, codes, "exit codes") {
		for _, c := range commands {
			t.Log(c.output())
		}
	}
	g.awaitHealthy()
}

func linkUp(ctx context.Context, client *goredis.Client) bool {
	info, err := client.Info(ctx, "replication").Result()
	return err == nil && strings.Contains(info, "master_link_status:up")
}

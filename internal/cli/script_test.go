package cli_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/redisctl/redisctl/internal/cli"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

var update = flag.Bool("update", false, "write what was printed into the golden sections")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"redisctl": redisctl, "kubectl-redis": redisctl})
}

// redisctl is the program that the scripts run. CLOCK, COLUMNS and TERMINAL stand in
// for what a test cannot have: a fixed time and a terminal.
func redisctl() {
	clock, columns := os.Getenv("CLOCK"), os.Getenv("COLUMNS")
	if clock == "" && columns == "" && os.Getenv("TERMINAL") == "" {
		os.Exit(cli.Main(os.Args[1:]))
	}
	system := cli.OS()
	if clock != "" {
		now, err := time.Parse(time.RFC3339, clock)
		if err != nil {
			panic(err)
		}
		system.Now = func() time.Time { return now }
	}
	system.OutTerminal = os.Getenv("TERMINAL") != ""
	system.OutWidth, _ = strconv.Atoi(columns)
	system.OutSize = func() (width, height int) { return system.OutWidth, 0 }
	tooWide := false
	code := cli.RunWatched(context.Background(), system, os.Args[1:], func(problem string) {
		tooWide = true
		fmt.Fprintln(os.Stderr, problem)
	})
	if tooWide {
		code = 99
	}
	os.Exit(code)
}

// TestScripts runs what needs no server.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"), Setup: setup, Cmds: commands(),
		UpdateScripts: *update, RequireExplicitExec: true, RequireUniqueNames: true,
	})
}

// TestServerScripts runs what asks real servers.
func TestServerScripts(t *testing.T) {
	redisserver.Versions(t)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "server"), Setup: setup, Cmds: commands(),
		UpdateScripts: *update, RequireExplicitExec: true, RequireUniqueNames: true,
	})
}

// scene is what the commands of one script share.
type scene struct {
	t       testing.TB
	servers map[string]*redisserver.Server
}

type sceneKey struct{}

// setup gives every script its own copy of the stored backups and an empty home.
func setup(env *testscript.Env) error {
	t, ok := env.T().(testing.TB)
	if !ok {
		return errors.New("the script does not run under go test")
	}
	env.Values[sceneKey{}] = &scene{t: t, servers: make(map[string]*redisserver.Server)}
	home := filepath.Join(env.WorkDir, "home")
	env.Setenv("HOME", home)
	// Sound but for the inside of one compressed value, which only --deep looks at.
	hollow := rdbtest.File(rdbtest.Redis70, func(w *rdbtest.Writer) {
		w.SelectDB(0).Value(rdbtest.TypeString, "k", rdbtest.AppendLZF(nil, []byte{0, 'a', 0x20, 5}, 4)) // three bytes from before the start
	})
	return errors.Join(
		os.Mkdir(home, 0o700),
		os.WriteFile(filepath.Join(env.WorkDir, "hollow.rdb"), hollow, 0o600),
		writeComparable(env.WorkDir),
		os.CopyFS(filepath.Join(env.WorkDir, "store"), os.DirFS(filepath.Join("testdata", "store"))),
	)
}

// commands are what scripts can do besides testscript's own commands.
func commands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	plain := func(words string, run func(*testscript.TestScript, *scene, []string)) func(*testscript.TestScript, bool, []string) {
		return func(ts *testscript.TestScript, neg bool, args []string) {
			if neg || len(args) < len(strings.Fields(words)) {
				ts.Fatalf("usage: %s", words)
			}
			run(ts, ts.Value(sceneKey{}).(*scene), args)
		}
	}
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits":   plain("CODE PROGRAM", exits),
		"flip":    plain("FILE OFFSET", flip),
		"patch":   plain("FILE OFFSET TEXT", patch),
		"cut":     plain("FILE SIZE", cut),
		"server":  plain("NAME", startServer),
		"s3":      plain("BUCKET", startS3),
		"program": plain("NAME VERSION", serverProgram),
		"redis":   plain("NAME COMMAND", redisCommand),
		"fill":    plain("NAME KEYS", fill),
		"insync":  plain("NAME", func(_ *testscript.TestScript, s *scene, args []string) { s.servers[args[0]].WaitInSync() }),
		"signal":  plain("NAME STOP|CONT", signalServer),
		"within":  plain("DURATION CODE PROGRAM", within),
		"asked":   plain("NAME COMMAND COUNT", asked),
	}
}

// exits runs a program, wants its exit code, and leaves its normalised output for cmp,
// stdout and stderr.
func exits(ts *testscript.TestScript, s *scene, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit := new(exec.ExitError)
		if !errors.As(err, &exit) {
			ts.Fatalf("running %s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	stdout, stderr := ts.ReadFile("stdout"), ts.ReadFile("stderr")
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
	normal := s.normaliser(ts.Getenv("WORK"))
	fmt.Fprint(ts.Stdout(), normal(stdout))
	fmt.Fprint(ts.Stderr(), normal(stderr))
}

// within is exits with a limit on how long the program may take.
func within(ts *testscript.TestScript, s *scene, args []string) {
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	begin := time.Now()
	exits(ts, s, args[1:])
	if took := time.Since(begin); took > limit {
		ts.Fatalf("took %s, want at most %s", took, limit)
	}
}

// varying replaces what differs from run to run, in this order. Where columns are
// padded to such a value, runs of spaces are shortened, too: alignment is tested in
// package render.
var varying = []struct {
	pattern     *regexp.Regexp
	replacement string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d{5}\b`), "127.0.0.1:<port>"}, // a connection's own end
	{regexp.MustCompile(`\brdb-\d{8}T\d{6}Z-[a-z2-7]{4}\b`), "<id>"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "<time>"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "<sha256>"},
	{regexp.MustCompile(`\b[0-9a-f]{40}\b`), "<hex40>"},
	{regexp.MustCompile(`\b[0-9a-f]{16}\b`), "<crc64>"},
	{regexp.MustCompile(`\bhistory [0-9a-f]{8}\b`), "history <hex8>"},
	{regexp.MustCompile(`\boffset \d+`), "offset <n>"},
	{regexp.MustCompile(`\b\d+ partial `), "<n> partial "}, // a replica may have to ask twice
	{regexp.MustCompile(`\d+ when writes were paused, \d+ on`), "<n> when writes were paused, <n> on"},
	{regexp.MustCompile(`\d+ before, \d+ now; the primary was at \d+`), "<n> before, <n> now; the primary was at <n>"},
	{regexp.MustCompile(`, such as [a-z-]+:[a-z0-9-]+`), ", such as <key>"}, // the first in the order of a hash table
	{regexp.MustCompile(`of its own \([0-9a-f]{8}\)`), "of its own (<hex8>)"},
	{regexp.MustCompile(`("(?:offset|offsetBefore|primaryOffset|replicationOffset|memoryUsed|clients|uptimeSeconds|latencyMicroseconds|opsPerSecond|sizeBytes|bytesPerSecond|keysPerSecond|\w+Seconds)": )[\d.e+-]+`), "${1}<n>"},
	{regexp.MustCompile(`("(?:verify|open|place|load|compare|total)": )[\d.e+-]+`), "${1}<n>"},
	{regexp.MustCompile(`\b\d+(\.\d+)? ([KMGT]i)?B\b`), "<size>"},
	{regexp.MustCompile(`\b\d+ keys/s\b`), "<n> keys/s"},
	{regexp.MustCompile(`\b\d{5,} bytes\b`), "<n> bytes"}, // of a file; encryption makes it vary
	{regexp.MustCompile(`\b\d+(\.\d+)? (m?s)\b`), "<n> $2"},
	{regexp.MustCompile(`\b(\d+(\.\d+)?(h|m|s|ms|µs))+\b`), "<duration>"},
	{regexp.MustCompile(`(?m)(<n> s {2,})\d+$`), "$1<n>"}, // the column OFFSET
	{regexp.MustCompile(`(\S) {2,}`), "$1   "},
}

// normaliser returns a function that replaces what varies. Outputs of scripts without
// servers are the same each time, apart from the working folder.
func (s *scene) normaliser(work string) func(string) string {
	return func(text string) string {
		text = strings.ReplaceAll(text, work, "$WORK")
		if len(s.servers) == 0 {
			return text
		}
		for name, server := range s.servers {
			text = strings.ReplaceAll(text, server.Addr, "<"+name+">")
			text = strings.ReplaceAll(text, strings.ReplaceAll(server.Addr, ":", "_"), "<"+name+"-folder>")
		}
		for _, v := range varying {
			text = v.pattern.ReplaceAllString(text, v.replacement)
		}
		return text
	}
}

// flip inverts the lowest bit of one byte.
func flip(ts *testscript.TestScript, _ *scene, args []string) {
	change(ts, args[0], args[1], func(data []byte) []byte {
		data[0] ^= 1
		return data
	})
}

// patch writes a text over what is there.
func patch(ts *testscript.TestScript, _ *scene, args []string) {
	change(ts, args[0], args[1], func(data []byte) []byte {
		copy(data, args[2])
		return data
	})
}

// cut shortens a file to a size.
func cut(ts *testscript.TestScript, _ *scene, args []string) {
	change(ts, args[0], args[1], func([]byte) []byte { return nil })
}

// change replaces a file's contents from an offset on. A negative offset counts from
// the end.
func change(ts *testscript.TestScript, file, offset string, edit func([]byte) []byte) {
	data, err := os.ReadFile(ts.MkAbs(file))
	ts.Check(err)
	at, err := strconv.Atoi(offset)
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data = append(bytes.Clone(data[:at]), edit(data[at:])...)
	ts.Check(os.WriteFile(ts.MkAbs(file), data, 0o600))
}

// startServer starts a server and sets $NAME to its address. Settings are key=value:
// version, password, replicaof=NAME, tls (then $NAME_CA, $NAME_CERT and $NAME_KEY are
// files for clients), and else a line of redis.conf. $NAME_DIR is its working folder.
func startServer(ts *testscript.TestScript, s *scene, args []string) {
	var o redisserver.Options
	for _, setting := range args[1:] {
		switch key, value, _ := strings.Cut(setting, "="); key {
		case "version":
			o.Version = value
		case "password":
			o.Password = value
		case "replicaof":
			o.ReplicaOf = s.servers[value]
		case "tls":
			o.TLS = true
		default:
			o.Config = append(o.Config, key+" "+value)
		}
	}
	server := redisserver.Start(s.t, o)
	s.servers[args[0]] = server
	ts.Setenv(args[0], server.Addr)
	ts.Setenv(args[0]+"_DIR", server.Dir)
	if tls := server.TLS; tls != nil {
		ts.Setenv(args[0]+"_CA", tls.CAFile)
		ts.Setenv(args[0]+"_CERT", tls.CertFile)
		ts.Setenv(args[0]+"_KEY", tls.KeyFile)
	}
}

// serverProgram sets $NAME to a program that is the server of a version.
func serverProgram(ts *testscript.TestScript, s *scene, args []string) {
	command := redisserver.Tool(s.t, args[1], strings.SplitN(args[1], "-", 2)[0]+"-server")
	path := ts.MkAbs(args[1])
	ts.Check(os.WriteFile(path, []byte("#!/bin/sh\nexec '"+strings.Join(command, "' '")+"' \"$@\"\n"), 0o700))
	ts.Setenv(args[0], path)
}

// asked waits until a server has been asked a command so many times.
func asked(ts *testscript.TestScript, s *scene, args []string) {
	count, err := strconv.Atoi(args[2])
	ts.Check(err)
	calls := regexp.MustCompile(`(?m)^cmdstat_` + regexp.QuoteMeta(args[1]) + `:calls=(\d+)`)
	server := s.servers[args[0]]
	server.WaitFor(args[1], func(ctx context.Context) bool {
		text, err := server.Client().Info(ctx, "commandstats").Result()
		found := calls.FindStringSubmatch(text)
		if err != nil || found == nil {
			return false
		}
		n, err := strconv.Atoi(found[1])
		return err == nil && n >= count
	})
}

func redisCommand(ts *testscript.TestScript, s *scene, args []string) {
	command := make([]any, len(args)-1)
	for i, word := range args[1:] {
		command[i] = word
	}
	ts.Check(s.servers[args[0]].Client().Do(s.t.Context(), command...).Err())
}

func fill(ts *testscript.TestScript, s *scene, args []string) {
	keys, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(redisserver.Fill(s.t.Context(), s.servers[args[0]].Client(), 1, keys))
}

func signalServer(ts *testscript.TestScript, s *scene, args []string) {
	signals := map[string]syscall.Signal{"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT, "KILL": syscall.SIGKILL}
	signal, ok := signals[args[1]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[1])
	}
	s.servers[args[0]].Signal(signal)
}

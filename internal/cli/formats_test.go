package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// formless are the commands whose output is no result: -o has nothing to say about it.
func formless() map[string]string {
	return map[string]string{
		"redisctl completion": "a script for a shell",
		"redisctl help":       "text for people",
		"redisctl shell":      "a terminal", "redisctl maintenance shell": "a terminal",
	}
}

// clustered are the commands that only a cluster can answer. Their views are drawn in every
// format by TestEveryViewInEveryFormat, and the e2e tests run them.
func clustered() []string {
	return []string{
		"backup config", "backup resources", "backup volume", "backup full", "restore volume", "restore full", "restore cleanup", "info metrics",
		"info config", "logs", "maintenance logs", "events", "maintenance events", "describe", "maintenance describe", "port-forward",
		"maintenance port-forward", "failover guard install", "failover guard remove", "failover guard status", "failover guard run",
		"upgrade check", "upgrade apply", "upgrade rollback", "upgrade cutover", "upgrade failback", "upgrade finish", "upgrade resume",
		"upgrade abort", "upgrade status", "backup aof", "restore aof", "restore config",
	}
}

// spoken are lines that make each of the other commands print a result about a primary, a
// replica and a stored backup.
func spoken() map[string]string {
	return map[string]string{
		"health": "", "health ping": "", "health version": "", "info": "", "info stats": "--watch --for 250ms --interval 100ms", "info clients": "",
		"info memory": "", "replication info": "", "replication primary": "", "replication role": "", "replication lag": "",
		"replication check": "", "replication heal": "--dry-run", "replication resync": "REPLICA --dry-run", "backup rdb": "",
		"backup list": "ONE", "backup show": "latest ONE", "backup verify": "latest ONE", "backup analyze": "latest ONE", "backup diff": "latest ONE latest",
		"backup copy": "latest --to elsewhere ONE", "backup prune": "--keep-last 1 --dry-run ONE", "restore rdb": "latest --method live --skip-existing --dry-run ONE",
		"restore test": "latest --verify sample ONE", "restore status": "ONE", "restore resume": "ONE", "restore abort": "ONE",
		"failover promote": "REPLICA --dry-run", "promote": "REPLICA --dry-run", "failover failback": "--dry-run", "failover force": "REPLICA --dry-run",
		"failover status": "", "failover resume": "", "failover abort": "", "upgrade validate": "--quick", "maintenance dbsize": "", "keys": "",
		"maintenance keys": "", "maintenance bigkeys": "", "maintenance flushdb": "--db 3 --dry-run", "maintenance flushall": "--dry-run",
		"maintenance slowlog": "", "maintenance latency": "--for 20ms --interval 10ms", "maintenance latency doctor": "",
		"maintenance latency history": "", "maintenance latency histogram": "", "maintenance memory": "", "maintenance save": "-y",
		"maintenance bgsave": "", "maintenance lastsave": "", "maintenance aof-rewrite": "", "maintenance exec": "DBSIZE",
		"maintenance monitor": "--for 200ms", "top": "--once", "maintenance top": "--once", "config view": "", "config path": "", "config check": "",
		"rbac": "health", "support-bundle": "--dry-run", "version": "",
	}
}

// TestEveryCommandHasFormats runs every command in every output format: none ignores it.
func TestEveryCommandHasFormats(t *testing.T) {
	redisserver.Versions(t)
	primary := redisserver.Start(t, redisserver.Options{})
	replica := redisserver.Start(t, redisserver.Options{ReplicaOf: primary})
	replica.WaitInSync()
	require.NoError(t, primary.Client().Set(t.Context(), "k", "v", 0).Err())
	t.Chdir(t.TempDir())
	home := t.TempDir()
	run := func(t *testing.T, line string) (code int, stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		env := map[string]string{"HOME": home, "PATH": os.Getenv("PATH"), "REDISCTL_ADDRESS": primary.Addr + "," + replica.Addr}
		code = Run(ctx, System{
			Program: "redisctl", In: strings.NewReader(""), Out: &out, Err: &errs, Now: time.Now,
			LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
			OutSize:   func() (int, int) { return 0, 0 },
		}, strings.Fields(strings.NewReplacer("REPLICA", replica.Addr, "ONE", "--address "+primary.Addr).Replace(line)))
		return code, out.String(), errs.String()
	}
	code, _, stderr := run(t, "backup rdb ONE")
	require.Zero(t, code, stderr)

	lines := spoken()
	eachCommand(func(cmd *cobra.Command) {
		name := strings.TrimPrefix(cmd.CommandPath(), "redisctl ")
		line, speaks := lines[name]
		switch {
		case cmd.HasSubCommands() && !speaks, formless()[cmd.CommandPath()] != "":
			return
		case slices.Contains(clustered(), name):
			code, stdout, _ := run(t, name+" x y z -o nosuch")
			assert.Equal(t, exitUsage, code, name)
			assert.Empty(t, stdout, name)
			return
		case !speaks:
			t.Errorf("%s: add it to spoken, clustered or formless", name)
			return
		}
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) { testFormats(t, run, name+" -o ", line) })
	})
}

func testFormats(t *testing.T, run func(*testing.T, string) (int, string, string), name, line string) {
	// Flags stand before the arguments of exec.
	in := func(format string) (int, string, string) { return run(t, name+format+" "+line) }
	code, table, stderr := in("table")
	require.NotEqual(t, exitUsage, code, stderr)
	for _, format := range []string{"table", "wide"} {
		_, out, _ := in(format)
		assert.False(t, json.Valid([]byte(out)) && strings.HasPrefix(out, "{"), "-o %s is JSON: %s", format, out)
	}
	if table == "" { // there is nothing to do, which is said on stderr
		_, out, _ := in("json")
		assert.Empty(t, out)
		return
	}
	_, text, stderr := in("json")
	assert.NotEqual(t, table, text)
	values := decodeSeries(t, text)
	require.NotEmpty(t, values, "-o json prints no value; stderr: %s", stderr)
	_, text, _ = in("yaml")
	documents := strings.Split(strings.TrimPrefix(text, "---\n"), "---\n")
	var value any
	require.NoError(t, yaml.Unmarshal([]byte(documents[0]), &value), text)
	assert.Equal(t, shape(values[0]), shape(value), "YAML has what JSON has")
	assert.NotEqual(t, "{", text[:1], "-o yaml is JSON")

	_, names, _ := in("name")
	assert.NotContains(t, names, "{")
	for _, format := range []string{"jsonpath={.}x", "go-template={{.}}x"} {
		_, out, _ := in(format)
		assert.True(t, strings.HasSuffix(out, "x\n"), "-o %s prints %q", format, out)
	}
	code, stdout, stderr := in("nosuch")
	assert.Equal(t, exitUsage, code)
	assert.Empty(t, stdout)
	for _, format := range render.Formats() {
		assert.Contains(t, stderr, format)
	}
}

func decodeSeries(t *testing.T, text string) []any {
	t.Helper()
	var values []any
	for decoder := json.NewDecoder(strings.NewReader(text)); decoder.More(); {
		var value any
		require.NoError(t, decoder.Decode(&value), text)
		values = append(values, value)
	}
	return values
}

// shape keeps the names of fields, and not the values: they differ from run to run, and
// lists may be longer.
func shape(value any) any {
	switch value := value.(type) {
	case map[string]any:
		names := make(map[string]bool)
		for name := range value {
			names[name] = true
		}
		return names
	default:
		return reflect.TypeOf(value)
	}
}

// TestEveryViewInEveryFormat: values of every view can be encoded, YAML has what JSON has,
// and names are one a line.
func TestEveryViewInEveryFormat(t *testing.T) {
	nothingDone := []string{"backupFleet", "verifiedAll", "prunedStores", "prunePlanDocument"} // they name what states of their own allow
	for name, view := range views() {
		t.Run(name, func(t *testing.T) {
			for round := range 2 {
				d := filled(view, round)
				if d.Value == nil {
					continue // a block of a document
				}
				var fromJSON, fromYAML any
				require.NoError(t, json.Unmarshal([]byte(drawnAt(d, "json", render.Look{})), &fromJSON))
				require.NoError(t, yaml.Unmarshal([]byte(drawnAt(d, "yaml", render.Look{Color: true})), &fromYAML))
				assert.Equal(t, fromJSON, fromYAML)
				assert.Len(t, strings.Split(strings.TrimSuffix(drawnAt(d, "name", render.Look{}), "\n"), "\n"), max(1, len(d.Names)))
				assert.True(t, len(d.Names) > 0 || round > 0 || slices.Contains(nothingDone, name), "-o name prints nothing")
				assert.Equal(t, "x\n", drawnAt(d, "go-template={{if .}}x{{end}}", render.Look{}))
			}
		})
	}
}

// TestEveryResultIsDocumented: what views print as JSON has its section in
// docs/json-output.md.
func TestEveryResultIsDocumented(t *testing.T) {
	known := make(map[reflect.Type]bool)
	for _, typ := range documented() {
		known[typ] = true
	}
	for name, view := range views() {
		typ := reflect.TypeOf(filled(view, 0).Value)
		if typ == nil {
			continue
		}
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() == reflect.String || strings.HasPrefix(typ.Name(), "answersResult[") || strings.HasPrefix(typ.Name(), "backupFleet[") {
			continue // what they hold is documented, and chosen by the caller
		}
		assert.True(t, known[typ], "%s prints a %s, which documented() does not know", name, typ)
	}
}

// TestResultsGoThroughFormats: what writes to stdout past the printer is on a list.
func TestResultsGoThroughFormats(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	past := map[string]string{
		"app.go": "the printer itself", "plugin.go": "the printer itself", "completion.go": "scripts for shells", "root.go": "help",
		"info_stats.go": "redraws a plot on a terminal", "replication_watch.go": "redraws a plot on a terminal", "logs.go": "lines as they come, for people",
		"failover_guard.go": "--manifests: YAML for kubectl", "rbac.go": "YAML for kubectl, for people", "maintenance_keys.go": "a buffer below the printer",
		"maintenance_monitor.go": "a buffer below the printer", "shell.go": "a terminal", "top.go": "the full-screen view",
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if !strings.HasSuffix(file, "_test.go") && regexp.MustCompile(`a\.system\.Out\b|os\.Stdout`).Match(text) {
			assert.Contains(t, past, file)
		}
	}
}

package aof_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/aof"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// command is a command as servers write it.
func command(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return b.String()
}

func scan(t testing.TB, text string) (aof.Summary, error) {
	t.Helper()
	return aof.Scan(t.Context(), strings.NewReader(text), time.Now())
}

var (
	set   = command("SET", "key", "value\r\n*1\r\n")
	multi = command("multi") + command("INCR", "n") + command("INCR", "m") + command("EXEC")
)

func TestScanCountsCommands(t *testing.T) {
	tests := []struct {
		name, text string
		commands   int64
		tail       int // bytes that no server would load
	}{
		{"empty", "", 0, 0},
		{"commands", command("SELECT", "0") + set + set, 3, 0},
		{"an empty argument", command("SET", "key", ""), 1, 0},
		{"a transaction", set + multi, 5, 0},
		{"an open transaction", set + multi[:len(multi)-len(command("EXEC"))], 1, len(multi) - len(command("EXEC"))},
		{"a cut transaction", set + multi[:len(multi)-1], 1, len(multi) - 1},
		{"timestamps", "#TS:1628217473\r\n" + set + "#TS:1628217480\r\n", 1, 0},
		{"a cut timestamp", set + "#TS:16282", 1, 9},
		{"other annotations", "#anything\r\n" + set, 1, 0},
		{"EXEC alone", command("EXEC"), 1, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := scan(t, test.text)
			require.NoError(t, err)
			assert.Equal(t, test.commands, s.Commands)
			assert.Equal(t, int64(len(test.text)), s.Size)
			assert.Equal(t, int64(test.tail), s.Truncated())
		})
	}
}

func TestScanReadsTimestamps(t *testing.T) {
	s, err := scan(t, "#TS:1628217473\r\n"+set+"#TS:1628217480\r\n"+set)
	require.NoError(t, err)
	assert.Equal(t, time.Unix(1628217473, 0).UTC(), *s.From)
	assert.Equal(t, time.Unix(1628217480, 0).UTC(), *s.Until)

	s, err = scan(t, set)
	require.NoError(t, err)
	assert.Nil(t, s.From)
}

// Wherever a file is cut, the scan says what a server would still load.
func TestScanOfEveryCut(t *testing.T) {
	text := "#TS:1628217473\r\n" + set + multi + command("SET", "long", strings.Repeat("x", 200<<10)) + set
	var ends []int // behind each command outside of a transaction
	for _, part := range []string{"#TS:1628217473\r\n", set, multi, command("SET", "long", strings.Repeat("x", 200<<10)), set} {
		last := 0
		if len(ends) > 0 {
			last = ends[len(ends)-1]
		}
		ends = append(ends, last+len(part))
	}
	for cut := 0; cut <= len(text); cut++ {
		if cut > 400 && cut < len(text)-400 && cut%997 != 0 {
			continue
		}
		want := 0
		for _, end := range ends {
			if end <= cut {
				want = end
			}
		}
		s, err := scan(t, text[:cut])
		require.NoError(t, err, "cut at %d", cut)
		assert.Equal(t, int64(cut), s.Size)
		require.Equal(t, int64(want), s.Complete, "cut at %d", cut)
		again, err := scan(t, text[:s.Complete])
		require.NoError(t, err)
		assert.Zero(t, again.Truncated(), "what is complete is sound by itself")
	}
}

func TestScanRefusesDamage(t *testing.T) {
	for name, damaged := range map[string]string{
		"text":                        "hello\r\n" + set,
		"zeros":                       set + strings.Repeat("\x00", 4096) + set,
		"zeros at the end":            set + strings.Repeat("\x00", 4096),
		"no arguments":                "*0\r\n",
		"negative arguments":          "*-1\r\n",
		"too many arguments":          "*99999999999\r\n",
		"not a number":                "*x\r\n",
		"a negative length":           "*1\r\n$-1\r\n",
		"an absurd length":            "*1\r\n$99999999999999\r\n",
		"a wrong mark":                "*1\r\n*1\r\n",
		"a length that is too short":  strings.Replace(set, "$3\r\nkey", "$2\r\nkey", 1) + set,
		"a length that is too long":   strings.Replace(set, "$3\r\nkey", "$4\r\nkey", 1) + set,
		"a line without carriage ret": "*1\n$4\nPING\n",
		"an endless line":             "*" + strings.Repeat("1", 1<<20),
		"an endless line with an end": "#" + strings.Repeat("1", 200) + "\r\n",
		"MULTI in a transaction":      command("MULTI") + command("MULTI"),
		"an empty line":               "\r\n" + set,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := scan(t, damaged)
			require.ErrorIs(t, err, aof.ErrCorrupt)
			var fault *aof.FormatError
			require.ErrorAs(t, err, &fault)
			assert.LessOrEqual(t, fault.Command, fault.Offset)
		})
	}
}

func TestScanPassesReadErrorsOn(t *testing.T) {
	broken := errors.New("the disk is gone")
	for _, text := range []string{"", "RE", "*1\r", set, multi[:20]} {
		_, err := aof.Scan(t.Context(), io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), time.Now())
		require.ErrorIs(t, err, broken, "after %q", text)
		assert.NotErrorIs(t, err, aof.ErrCorrupt)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := aof.Scan(ctx, strings.NewReader(set), time.Now())
	assert.ErrorIs(t, err, context.Canceled)
}

func TestScanDoesNotKeepValues(t *testing.T) {
	const size = 64 << 20
	text := io.MultiReader(
		strings.NewReader(fmt.Sprintf("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n", size)), io.LimitReader(letters{}, size), strings.NewReader("\r\n"))
	allocated := testing.AllocsPerRun(1, func() {
		_, _ = aof.Scan(t.Context(), text, time.Now())
	})
	assert.Less(t, allocated, 100.0)
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// What real servers write is read, with a preamble and without.
func TestScanOfRealFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("needs real servers")
	}
	for _, version := range redisserver.Versions(t) {
		for _, preamble := range []string{"yes", "no"} {
			t.Run(version+" preamble "+preamble, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				server := redisserver.Start(t, redisserver.Options{Version: version, Dir: dir, Config: []string{
					"appendonly yes", "aof-use-rdb-preamble " + preamble,
				}})
				require.NoError(t, redisserver.Fill(t.Context(), server.Client(), 1, 500))
				require.NoError(t, server.Client().BgRewriteAOF(t.Context()).Err())
				server.WaitFor("the rewrite", func(ctx context.Context) bool {
					info, err := server.Client().Info(ctx, "persistence").Result()
					return err == nil && strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0")
				})
				require.NoError(t, server.Client().Set(t.Context(), "after", "the rewrite", 0).Err())
				server.Stop()

				var commands, keys int64
				for _, name := range files(t, dir) {
					data, err := os.ReadFile(name)
					require.NoError(t, err)
					s, err := aof.Scan(t.Context(), bytes.NewReader(data), time.Now())
					require.NoError(t, err, name)
					assert.Equal(t, int64(len(data)), s.Size)
					assert.Zero(t, s.Truncated())
					commands += s.Commands
					if s.Preamble != nil {
						assert.Equal(t, rdb.ChecksumOK, s.Preamble.Checksum)
						keys += s.Preamble.Keys
					}
				}
				assert.Positive(t, commands)
				assert.Equal(t, preamble == "yes", keys > 0)
			})
		}
	}
}

// files returns the files of an AOF, by the manifest if there is one.
func files(t *testing.T, dir string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "appendonlydir", "appendonly.aof.manifest"))
	if errors.Is(err, os.ErrNotExist) {
		return []string{filepath.Join(dir, "appendonly.aof")}
	}
	require.NoError(t, err)
	m, err := aof.ParseManifest(string(text))
	require.NoError(t, err)
	var names []string
	for _, e := range m.Live() {
		names = append(names, filepath.Join(dir, "appendonlydir", e.Name))
	}
	return names
}

func FuzzScan(f *testing.F) {
	f.Add([]byte(set + multi))
	f.Add([]byte("#TS:1628217473\r\n" + set + "*3\r\n$3\r\nSET"))
	f.Add([]byte("REDIS0011\xff\x00\x00\x00\x00\x00\x00\x00\x00" + set))
	f.Add([]byte("*1\r\n$9999999999\r\nx"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := aof.Scan(t.Context(), bytes.NewReader(data), time.Unix(0, 0))
		if s.Complete > s.Size || s.Size > int64(len(data)) {
			t.Fatalf("%+v of %d bytes", s, len(data))
		}
		if err != nil {
			return
		}
		again, err := aof.Scan(t.Context(), iotest.OneByteReader(bytes.NewReader(data[:s.Complete])), time.Unix(0, 0))
		if err != nil || again.Commands != s.Commands || again.Truncated() != 0 {
			t.Fatalf("%+v, %v; before %+v", again, err, s)
		}
	})
}

package aof_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/redisctl/redisctl/internal/aof"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// part is a LogPart in memory.
func part(name string, kind aof.Part, text string) aof.LogPart {
	return aof.LogPart{Name: name, Part: kind, Seq: 1, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(text)), nil
	}}
}

// incremental is a log of incremental files, named by numbers from 1.
func incremental(texts ...string) aof.Log {
	var l aof.Log
	for i, text := range texts {
		l.Parts = append(l.Parts, part(strconv.Itoa(i+1), aof.Incremental, text))
	}
	return l
}

func survey(t rapid.TB, l aof.Log, cut aof.Cut) (aof.Survey, error) {
	t.Helper()
	return l.Survey(context.Background(), cut, aof.SurveyOptions{Now: time.Now()})
}

// kept is what a cut leaves of a log.
func kept(t rapid.TB, l aof.Log, cut aof.Cut) string {
	t.Helper()
	s, err := survey(t, l, cut)
	require.NoError(t, err)
	var text strings.Builder
	for _, slice := range s.Slices() {
		file, err := slice.OpenSlice(context.Background())
		require.NoError(t, err)
		data, err := io.ReadAll(file)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		require.Len(t, data, int(slice.Bytes))
		text.Write(data)
	}
	require.Equal(t, s.Bytes(), int64(text.Len()))
	return text.String()
}

func ts(seconds int64) string     { return fmt.Sprintf("#TS:%d\r\n", seconds) }
func at(seconds int64) time.Time  { return time.Unix(seconds, 0) }
func setKey(key string) string    { return command("SET", key, "secret") }
func before(name string) aof.Cut  { return aof.Cut{By: aof.CutBefore, Command: name} }
func until(seconds int64) aof.Cut { return aof.Cut{By: aof.CutTime, Time: at(seconds)} }

var (
	db3   = command("SELECT", "3")
	flush = command("FLUSHALL")
)

func TestCuts(t *testing.T) {
	timed := ts(100) + db3 + setKey("a") + ts(101) + multi + ts(105) + setKey("b")
	tests := []struct {
		name  string
		parts []string
		cut   aof.Cut
		want  string
	}{
		{"nowhere", []string{db3 + set, multi}, aof.Cut{}, db3 + set + multi},
		{"before the only one", []string{set + flush}, before("flushall"), set},
		{"before the last one", []string{set + flush + set + flush + set}, before("FLUSHALL"), set + flush + set},
		{"before one in another file", []string{set, set + flush, set}, before("FLUSHALL"), set + set},
		{"before the first of a file", []string{set, flush + set}, before("FLUSHALL"), set},
		{"before one in a transaction", []string{set + multi + set}, before("INCR"), set},
		{"not in an open transaction", []string{set + flush + command("MULTI") + flush}, before("FLUSHALL"), set},
		{"at a time", []string{timed}, until(100), ts(100) + db3 + setKey("a")},
		{"between times", []string{timed}, until(104), ts(100) + db3 + setKey("a") + ts(101) + multi},
		{"at the last time", []string{timed}, until(105), timed},
		{"later", []string{timed}, until(1 << 33), timed},
		{"a timestamp in a transaction", []string{ts(100) + set + command("MULTI") + ts(101) + set + command("EXEC") + set}, until(100),
			ts(100) + set + command("MULTI") + ts(101) + set + command("EXEC")},
		{"a time in another file", []string{ts(100) + set, set + ts(101) + flush, ts(102) + set}, until(100), ts(100) + set + set},
		{"a clock that goes back", []string{ts(100) + set + ts(105) + flush + ts(90) + set}, until(101), ts(100) + set},
		{"two commands", []string{db3 + set + set}, aof.Cut{By: aof.CutCommands, Commands: 2}, db3 + set},
		{"more commands than there are", []string{set}, aof.Cut{By: aof.CutCommands, Commands: 9}, set},
		{"not within a transaction", []string{set + multi + set}, aof.Cut{By: aof.CutCommands, Commands: 4}, set},
		{"with a transaction", []string{set + multi + set}, aof.Cut{By: aof.CutCommands, Commands: 5}, set + multi},
		{"commands of several files", []string{set + set, set + set}, aof.Cut{By: aof.CutCommands, Commands: 3}, set + set + set},
		{"an offset", []string{set + db3 + set}, aof.Cut{By: aof.CutOffset, Offset: int64(len(set + db3))}, set + db3},
		{"an offset within a command", []string{set + db3 + set}, aof.Cut{By: aof.CutOffset, Offset: int64(len(set+db3)) + 5}, set + db3},
		{"an offset within a transaction", []string{set + multi}, aof.Cut{By: aof.CutOffset, Offset: int64(len(set+multi)) - 1}, set},
		{"an offset of a file", []string{set, set + set, set}, aof.Cut{By: aof.CutOffset, File: "2", Offset: int64(len(set))}, set + set},
		{"offset 0 of a file", []string{set, set, set}, aof.Cut{By: aof.CutOffset, File: "2"}, set},
		{"an incomplete command at the end", []string{set + set[:10]}, aof.Cut{}, set},
		{"damage behind the cut", []string{set + flush + "hello"}, before("FLUSHALL"), set},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, kept(t, incremental(test.parts...), test.cut))
		})
	}
}

func TestCutsThatCannotBe(t *testing.T) {
	rdbFile := preamble(t, 1000)
	withRDB := aof.Log{Parts: []aof.LogPart{part("base", aof.Base, rdbFile), part("incr", aof.Incremental, ts(1005)+set)}}
	single := aof.Log{Parts: []aof.LogPart{part("appendonly.aof", "", rdbFile+set)}}
	tests := []struct {
		name string
		log  aof.Log
		cut  aof.Cut
		says string
	}{
		{"no timestamps", incremental(set), until(100), "it has no timestamps"},
		{"timestamps that begin too late", incremental(set + ts(105) + set), until(100), "its timestamps begin at 1970-01-01T00:01:45Z"},
		{"a time before the first one", incremental(ts(105) + set), until(100), "it begins with the data of 1970-01-01T00:01:45Z"},
		{"a time before the base", withRDB, until(999), "it begins with the data of 1970-01-01T00:16:40Z"},
		{"no such command", incremental(set), before("FLUSHALL"), `it has no command "FLUSHALL"`},
		{"nothing is left", incremental(flush), before("FLUSHALL"), "nothing comes before the cut"},
		{"no commands at all", incremental(set), aof.Cut{By: aof.CutCommands}, "nothing comes before the cut"},
		{"an offset in no file", incremental(set, set), aof.Cut{By: aof.CutOffset, Offset: 7}, "does not tell in which of its files"},
		{"an offset in another file", incremental(set), aof.Cut{By: aof.CutOffset, File: "x"}, `it has no file "x"`},
		{"an offset in the RDB", single, aof.Cut{By: aof.CutOffset, Offset: 7}, fmt.Sprintf("can be cut from offset %d on", len(rdbFile))},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := survey(t, test.log, test.cut)
			var refused *aof.CutError
			require.ErrorAs(t, err, &refused)
			assert.Contains(t, refused.Error(), test.says)
		})
	}
}

// preamble is an RDB file that was written at a time.
func preamble(t testing.TB, seconds int64) string {
	t.Helper()
	return string(rdbtest.File("REDIS0011", func(w *rdbtest.Writer) {
		w.Aux("ctime", strconv.FormatInt(seconds, 10)).SelectDB(0).String("key", "value")
	}))
}

func TestSurveyOfABase(t *testing.T) {
	base := preamble(t, 1000)
	log := aof.Log{Parts: []aof.LogPart{part("base", aof.Base, base), part("incr", aof.Incremental, ts(1005)+set)}}
	for name, cut := range map[string]aof.Cut{
		"time": until(1004), "commands": {By: aof.CutCommands}, "offset": {By: aof.CutOffset}, "before": before("SET"),
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, base, kept(t, log, cut), "all of the RDB and nothing else")
			s, err := survey(t, log, cut)
			require.NoError(t, err)
			assert.EqualValues(t, 1, s.Preamble.Keys)
			assert.Zero(t, s.Kept.Commands)
			assert.EqualValues(t, 1, s.Dropped.Commands)
		})
	}
	single := aof.Log{Parts: []aof.LogPart{part("appendonly.aof", "", base+set+flush)}}
	assert.Equal(t, base+set, kept(t, single, before("FLUSHALL")))
	second := aof.Log{Parts: []aof.LogPart{part("1", aof.Incremental, set), part("2", aof.Incremental, base)}}
	_, err := survey(t, second, aof.Cut{})
	assert.ErrorIs(t, err, aof.ErrCorrupt)
}

func TestDamageBeforeTheCut(t *testing.T) {
	var damaged *aof.DamagedError
	_, err := survey(t, incremental(set, set+"hello"+set, flush), before("FLUSHALL"))
	require.ErrorAs(t, err, &damaged)
	assert.Equal(t, "2", damaged.File)
	assert.Equal(t, int64(len(set)), damaged.Sound)
	assert.Equal(t, set+set, kept(t, incremental(set, set+"hello"+set, flush), aof.Cut{By: aof.CutOffset, File: "2", Offset: damaged.Sound}),
		"the error says where it can be cut")

	_, err = survey(t, incremental(set[:10], set), aof.Cut{})
	require.ErrorAs(t, err, &damaged, "a server would not load the second file")
	assert.ErrorIs(t, err, aof.ErrCorrupt)

	flipped := []byte(preamble(t, 1000))
	flipped[len(flipped)-1] ^= 1
	_, err = survey(t, aof.Log{Parts: []aof.LogPart{part("base", aof.Base, string(flipped))}}, aof.Cut{})
	require.ErrorAs(t, err, &damaged)
	assert.ErrorIs(t, err, rdb.ErrChecksum)

	s, err := survey(t, incremental(set+flush+"hello"), before("FLUSHALL"))
	require.NoError(t, err)
	assert.Contains(t, s.Damage, "1: corrupt append-only file")
}

// What is shown of commands is their names and keys, never a value.
func TestSurveyShowsKeysOnly(t *testing.T) {
	var text strings.Builder
	text.WriteString(ts(100) + db3)
	for i := range 20 {
		text.WriteString(setKey(fmt.Sprintf("key:%d\n", i)))
	}
	text.WriteString(ts(101) + command("AUTH", "user", "secret") + command("ACL", "SETUSER", "a", ">secret"))
	text.WriteString(command("FUNCTION", "LOAD", "secret") + command("EVAL", "secret", "0") + command("JSON.SET", "secret"))
	text.WriteString(command("BITOP", "AND", "dest", "secret"))
	s, err := survey(t, incremental(text.String()), aof.Cut{By: aof.CutCommands, Commands: 3})
	require.NoError(t, err)
	d := s.Dropped
	assert.EqualValues(t, 3, s.Kept.Commands)
	assert.EqualValues(t, 24, d.Commands)
	assert.Equal(t, aof.NameCount{Name: "SET", Count: 18}, d.Names[0])
	assert.Equal(t, at(100).UTC(), *d.From)
	assert.Equal(t, at(101).UTC(), *d.Until)
	require.Len(t, d.First, 5)
	require.Len(t, d.Last, 5)
	first := d.First[0]
	assert.EqualValues(t, 4, first.Number)
	assert.Equal(t, 3, first.DB)
	assert.Equal(t, "SET", first.Name)
	assert.Equal(t, `key:2\n`, first.Key, "it cannot act on a terminal")
	assert.Equal(t, text.String()[first.Offset:first.Offset+3], "*3\r")
	var names []string
	for _, c := range d.Last {
		names = append(names, strings.TrimSpace(c.Name+" "+c.Key))
	}
	assert.Equal(t, []string{"ACL", "FUNCTION", "EVAL", "JSON.SET", "BITOP dest"}, names)
	assert.NotContains(t, fmt.Sprintf("%+v", s), "secret")
	assert.Equal(t, []string{"SELECT", "SET"}, s.CommandNames())
}

func TestFewCommandsAreShownOnce(t *testing.T) {
	for n := range int64(12) {
		s, err := survey(t, incremental(set+strings.Repeat(setKey("k"), int(n))), aof.Cut{By: aof.CutCommands, Commands: 1})
		require.NoError(t, err)
		var numbers []int64
		for _, c := range append(s.Dropped.First, s.Dropped.Last...) {
			numbers = append(numbers, c.Number)
		}
		require.Len(t, numbers, int(min(n, 10)))
		for i, number := range numbers {
			if i < 5 {
				assert.EqualValues(t, i+2, number)
			} else {
				assert.EqualValues(t, n+2-int64(len(numbers)-i), number)
			}
		}
	}
}

// A rewrite begins a new part in the second of the last timestamp.
func TestUndatedCommandsBehindARewrite(t *testing.T) {
	log := aof.Log{Parts: []aof.LogPart{part("base", aof.Base, preamble(t, 1000)), part("incr", aof.Incremental, set+set+ts(1005)+flush)}}
	s, err := survey(t, log, until(1004))
	require.NoError(t, err)
	assert.EqualValues(t, 2, s.Kept.Commands)
	assert.EqualValues(t, 2, s.Undated)
	s, err = survey(t, log, until(1005))
	require.NoError(t, err)
	assert.Zero(t, s.Undated, "the time does not matter")
	plain := incremental(ts(100)+set, set+ts(105)+flush)
	s, err = survey(t, plain, until(104))
	require.NoError(t, err)
	assert.EqualValues(t, 2, s.Kept.Commands)
	assert.Zero(t, s.Undated, "the part before tells")
}

func TestPartsWithoutTimestampsAreNamed(t *testing.T) {
	s, err := survey(t, incremental(ts(100)+set, set, ts(101)+set), until(100))
	require.NoError(t, err)
	assert.Equal(t, []string{"2"}, s.Untimed)
	s, err = survey(t, incremental(ts(100)+set, ts(101)+set, set), until(100))
	require.NoError(t, err)
	assert.Empty(t, s.Untimed, "it is dropped anyway")
}

// Servers before 7.0 do not know annotations.
func TestOpenPlain(t *testing.T) {
	base := preamble(t, 1000)
	long := command("SET", "long", strings.Repeat("#TS:1\r\n", 50_000))
	for _, first := range []string{"", base} {
		text := first + ts(100) + db3 + long + ts(101) + "#other\r\n" + multi + ts(102) + flush + ts(103)
		for name, want := range map[string]string{"FLUSHALL": first + db3 + long + multi, "SELECT": first} {
			s, err := survey(t, aof.Log{Parts: []aof.LogPart{part("a", "", text)}}, before(name))
			if want == "" {
				require.Error(t, err)
				continue
			}
			require.NoError(t, err)
			slice := s.Slices()[0]
			file, err := slice.OpenPlain(t.Context())
			require.NoError(t, err)
			data, err := io.ReadAll(file)
			require.NoError(t, err)
			require.NoError(t, file.Close())
			require.True(t, want == string(data))
			assert.Equal(t, slice.Bytes-slice.Annotations, int64(len(data)), "the size is known before")
		}
	}
}

func TestOpenPlainCanBeGivenUp(t *testing.T) {
	text := ts(1) + command("SET", "long", strings.Repeat("x", 1<<20)) + flush
	s, err := survey(t, incremental(text), before("FLUSHALL"))
	require.NoError(t, err)
	file, err := s.Slices()[0].OpenPlain(t.Context())
	require.NoError(t, err)
	_, err = io.CopyN(io.Discard, file, 10)
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

func TestAShorterFileIsAnError(t *testing.T) {
	text := set + set
	log := aof.Log{Parts: []aof.LogPart{{Name: "a", Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(text)), nil
	}}}}
	s, err := survey(t, log, aof.Cut{})
	require.NoError(t, err)
	text = set
	file, err := s.Slices()[0].OpenSlice(t.Context())
	require.NoError(t, err)
	_, err = io.ReadAll(file)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// Any cut is behind a command and outside of transactions, keeps what comes before and
// loses nothing that could be kept.
func TestCutProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var parts []string
		var ends [][]int // of each part: where it may be cut
		clock := int64(100)
		one := func(b *bytes.Buffer) {
			if rapid.Bool().Draw(t, "tick") {
				clock += rapid.Int64Range(1, 3).Draw(t, "seconds")
				b.WriteString(ts(clock))
			}
			b.WriteString(command(rapid.SampledFrom([]string{"SET", "DEL", "FLUSHALL"}).Draw(t, "name"),
				rapid.StringMatching(`[a-z\r\n*$#]{0,20}`).Draw(t, "key")))
		}
		for range rapid.IntRange(1, 3).Draw(t, "files") {
			var b bytes.Buffer
			b.WriteString(ts(clock))
			partEnds := []int{0}
			for range rapid.IntRange(1, 8).Draw(t, "units") {
				if rapid.Bool().Draw(t, "transaction") {
					b.WriteString(command("MULTI"))
					for range rapid.IntRange(0, 3).Draw(t, "commands") {
						one(&b)
					}
					b.WriteString(command("EXEC"))
				} else {
					one(&b)
				}
				partEnds = append(partEnds, b.Len())
			}
			parts, ends = append(parts, b.String()), append(ends, partEnds)
		}
		log := incremental(parts...)
		all := strings.Join(parts, "")
		cut := rapid.OneOf(
			rapid.Map(rapid.Int64Range(95, 130), until),
			rapid.Map(rapid.Int64Range(0, 40), func(n int64) aof.Cut { return aof.Cut{By: aof.CutCommands, Commands: n} }),
			rapid.Map(rapid.SampledFrom([]string{"SET", "DEL", "FLUSHALL"}), before),
			rapid.Custom(func(t *rapid.T) aof.Cut {
				file := rapid.IntRange(0, len(parts)-1).Draw(t, "file")
				return aof.Cut{By: aof.CutOffset, File: strconv.Itoa(file + 1), Offset: rapid.Int64Range(0, int64(len(parts[file]))+5).Draw(t, "offset")}
			}),
		).Draw(t, "cut")
		s, err := survey(t, log, cut)
		if err != nil {
			require.ErrorAs(t, err, new(*aof.CutError))
			return
		}
		text := kept(t, log, cut)
		require.True(t, strings.HasPrefix(all, text))
		for i, p := range s.Parts {
			require.Contains(t, ends[i], int(p.Kept), "of part %d", i)
		}
		file, offset := s.End()
		require.Equal(t, text, kept(t, log, aof.Cut{By: aof.CutOffset, File: file, Offset: offset}), "it can be cut there again")
		n := s.Kept.Commands
		if n > 0 {
			require.Equal(t, text, kept(t, log, aof.Cut{By: aof.CutCommands, Commands: n}))
		}
		whole, err := survey(t, log, aof.Cut{})
		require.NoError(t, err)
		require.Equal(t, whole.Kept.Commands, n+s.Dropped.Commands)
		switch cut.By {
		case aof.CutBefore:
			rest := all[len(text):]
			require.Contains(t, rest, cut.Command)
			// Only the unit at the cut holds it.
			require.Equal(t, n, mustCommands(t, text))
		case aof.CutTime:
			for _, line := range strings.Split(text, "\r\n") {
				var seconds int64
				if _, err := fmt.Sscanf(line, "#TS:%d", &seconds); err == nil && !strings.Contains(all, "MULTI") {
					require.LessOrEqual(t, seconds, cut.Time.Unix())
				}
			}
		}
	})
}

func mustCommands(t rapid.TB, text string) int64 {
	t.Helper()
	s, err := aof.Scan(context.Background(), strings.NewReader(text), time.Now())
	require.NoError(t, err)
	require.Zero(t, s.Truncated())
	return s.Commands
}

// What is shown as a key is one for every server.
func TestKeysAreWhereServersSay(t *testing.T) {
	if testing.Short() {
		t.Skip("needs real servers")
	}
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			server := redisserver.Start(t, redisserver.Options{Version: version})
			known, err := server.Client().Command(t.Context()).Result()
			require.NoError(t, err)
			for name, info := range known {
				writes := slices.Contains(info.Flags, "write") && !slices.Contains(info.Flags, "movablekeys")
				text := command(name, "one", "two", "three")
				var key string
				_, err := aof.Walk(t.Context(), strings.NewReader(text), aof.Visitor{Command: func(c *aof.Command) error {
					key = string(c.Key)
					return nil
				}}, time.Now())
				require.NoError(t, err)
				switch {
				case key != "":
					want := info.FirstKeyPos
					if name == "xgroup" {
						want = 2 // of its subcommands
					}
					assert.Equal(t, map[int8]string{1: "one", 2: "two"}[want], key, name)
				case writes && info.FirstKeyPos > 0:
					// Not all are in every version's table; none of these is left out by mistake.
					assert.Contains(t, []string{"restore-asking", "substr", "pfdebug", "migrate"}, name)
				}
			}
		})
	}
}

func BenchmarkSurvey(b *testing.B) {
	text := strings.Repeat(ts(100)+strings.Repeat(command("SET", "user:12345", strings.Repeat("x", 100)), 100), 500) + flush
	log := incremental(text)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := log.Survey(b.Context(), before("FLUSHALL"), aof.SurveyOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

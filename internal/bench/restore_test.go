package bench_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

const (
	replayedKeys = 1_000_000
	replayRate   = 300_000 // keys/s
	replayLimit  = 1 / 1.3 // of the time of redis-cli --pipe
)

// BenchmarkRestoreLive is against redis-cli --pipe with the same RESTORE commands, made
// beforehand. redisctl reads the RDB file twice and compares a sample on top.
func BenchmarkRestoreLive(b *testing.B) {
	for _, version := range redisserver.Versions(b) {
		b.Run(version, func(b *testing.B) {
			file, commands := mixedFiles(b)
			s := redisserver.Start(b, redisserver.Options{Version: version})
			var rates []float64
			ours, theirs := compete(b,
				func() measurement {
					require.NoError(b, s.Client().FlushAll(b.Context()).Err())
					m, rate := restoreLive(b, s, file)
					rates = append(rates, rate)
					return m
				},
				func() measurement {
					require.NoError(b, s.Client().FlushAll(b.Context()).Err())
					pipe := append([]string{"sh", "-c", `in=$1; shift; exec "$@" < "$in"`, "sh", commands}, client(b, s, "--pipe")...)
					return execute(b, pipe...)
				})
			name := fmt.Sprintf("%s, %d small keys", title(b, s), replayedKeys)
			world.report.slower(b, name, ours, theirs, replayLimit)
			slices.Sort(rates)
			rate := rates[len(rates)/2]
			line := row{
				what: name + ": while sending", ours: fmt.Sprintf("%.0f keys/s", rate),
				peer: fmt.Sprintf("%.0f keys/s", replayedKeys/theirs.median().Seconds()),
			}
			line.aim, line.met = goal{fmt.Sprintf("%d keys/s", replayRate), rate >= replayRate}.columns()
			world.report.add(b, line)
		})
	}
}

// restoreLive returns the measurement of the whole command, and the keys/s of sending.
func restoreLive(b *testing.B, s *redisserver.Server, file string) (measurement, float64) {
	b.Helper()
	dir := b.TempDir()
	cmd := exec.CommandContext(b.Context(), world.redisctl, "restore", "rdb", file, "--address", s.Addr, "--yes", "-o", "json")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	begin := time.Now()
	out, err := cmd.Output()
	took := time.Since(begin)
	require.NoError(b, err)
	var result struct{ KeysPerSecond float64 }
	require.NoError(b, json.Unmarshal(out, &result))
	return measurement{took: took, peak: peak(cmd.ProcessState)}, result.KeysPerSecond
}

// mixedFiles returns an RDB file with small keys of most types, as all versions load it,
// and a file with the RESTORE commands of the same.
func mixedFiles(b *testing.B) (file, commands string) {
	b.Helper()
	file, commands = filepath.Join(world.scratch, "mixed.rdb"), filepath.Join(world.scratch, "mixed.resp")
	if _, err := os.Stat(commands); err == nil {
		return file, commands
	}
	f, err := os.Create(file)
	require.NoError(b, err)
	defer f.Close()
	out := bufio.NewWriterSize(f, 1<<20)
	w := rdbtest.NewWriter(out, rdbtest.Redis6)
	writeMixed(w)
	require.NoError(b, w.Close())
	require.NoError(b, out.Flush())
	require.NoError(b, writeCommands(b.Context(), file, commands))
	return file, commands
}

func writeMixed(w *rdbtest.Writer) {
	random := rand.New(rand.NewPCG(1, 1))
	text := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte('a' + random.IntN(26))
		}
		return string(b)
	}
	ziplist := func(elements ...string) []byte {
		return rdbtest.AppendString(nil, string(rdbtest.Ziplist(elements...)))
	}
	w.SelectDB(0)
	for i := range replayedKeys {
		if random.IntN(3) == 0 {
			w.ExpireAt(4_000_000_000_000) // in 2096
		}
		id := strconv.Itoa(i)
		switch p := random.IntN(100); {
		case p < 40:
			w.String("session:"+id, text(20+random.IntN(100)))
		case p < 60:
			w.String("counter:"+id, strconv.Itoa(random.IntN(1e9)))
		case p < 80:
			w.Value(13, "user:"+id, ziplist("name", text(8), "email", text(12)+"@example.com", "logins", strconv.Itoa(random.IntN(5000))))
		case p < 88:
			w.Value(10, "queue:"+id, ziplist(text(10), text(10), text(10), text(10), text(10)))
		case p < 95:
			w.Value(11, "ids:"+id, rdbtest.AppendString(nil, string(rdbtest.Intset(1, 5, 7, int64(100+random.IntN(1000)), 20_000))))
		default:
			w.Value(12, "board:"+id, ziplist("a", "1", "b", "2", "c", "3"))
		}
	}
}

// commandWriter writes each value as a RESTORE command.
type commandWriter struct {
	out     *bufio.Writer
	entry   rdb.Entry
	payload []byte
}

func (c *commandWriter) Write(value []byte) (int, error) {
	c.payload = rdb.AppendDump(c.payload[:0], c.entry.RDBType, 9, value)
	words := []string{"RESTORE", string(c.entry.Key), strconv.FormatInt(max(0, c.entry.ExpireAt), 10), string(c.payload)}
	if c.entry.ExpireAt != rdb.None {
		words = append(words, "ABSTTL")
	}
	fmt.Fprintf(c.out, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(c.out, "$%d\r\n%s\r\n", len(word), word)
	}
	return len(value), nil
}

func writeCommands(ctx context.Context, file, commands string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.Create(commands)
	if err != nil {
		return err
	}
	defer f.Close()
	c := &commandWriter{out: bufio.NewWriterSize(f, 1<<20)}
	_, err = rdb.Scan(ctx, in, rdb.Visitor{Value: func(e *rdb.Entry) (io.Writer, error) {
		c.entry = *e
		return c, nil
	}}, rdb.Options{})
	if err != nil {
		return err
	}
	return c.out.Flush()
}

package analyze_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/rdb/analyze"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// BenchmarkAgainstBigkeys analyzes a file, and runs redis-cli --bigkeys against a server
// that has loaded it, in turn. "times-bigkeys" is how many times faster the former is.
func BenchmarkAgainstBigkeys(b *testing.B) {
	for _, version := range []string{redisserver.Redis80, redisserver.Valkey81} {
		b.Run(version, func(b *testing.B) {
			dir := b.TempDir()
			name := filepath.Join(dir, "dump.rdb")
			size := writeRealistic(b, name, 200<<20)
			server := redisserver.Start(b, redisserver.Options{Version: version, Dir: dir})
			b.SetBytes(size)
			var ours, theirs time.Duration
			for b.Loop() {
				begin := time.Now()
				analyzeFile(b, name)
				ours += time.Since(begin)
				b.StopTimer()
				begin = time.Now()
				bigkeys(b, version, server)
				theirs += time.Since(begin)
				b.StartTimer()
			}
			b.ReportMetric(theirs.Seconds()/ours.Seconds(), "times-bigkeys")
			b.ReportMetric(theirs.Seconds()/float64(b.N), "bigkeys-s/op")
		})
	}
}

func writeRealistic(b *testing.B, name string, size int64) int64 {
	b.Helper()
	f, err := os.Create(name)
	require.NoError(b, err)
	defer f.Close()
	buffered := bufio.NewWriter(f)
	w := rdbtest.NewWriter(buffered, rdbtest.Redis72)
	rdbtest.Realistic(w, 1, size)
	require.NoError(b, w.Close())
	require.NoError(b, buffered.Flush())
	return w.Size()
}

func analyzeFile(b *testing.B, name string) {
	b.Helper()
	f, err := os.Open(name)
	require.NoError(b, err)
	defer f.Close()
	_, err = analyze.Analyze(b.Context(), f, analyze.Options{Top: 10, Prefixes: 15})
	require.NoError(b, err)
}

func bigkeys(b *testing.B, version string, server *redisserver.Server) {
	b.Helper()
	tool := "redis-cli"
	if version == redisserver.Valkey81 {
		tool = "valkey-cli"
	}
	command := redisserver.Tool(b, version, tool)
	args := append(slices.Clone(command[1:]), "-h", server.Host, "-p", strconv.Itoa(server.Port), "--bigkeys")
	out, err := exec.CommandContext(b.Context(), command[0], args...).CombinedOutput()
	require.NoError(b, err, "%s", out)
	require.Contains(b, string(out), "Biggest string found")
}

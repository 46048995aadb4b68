package bench_test

import (
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

const memoryLimit = 64 << 20

// BenchmarkMemory is the largest resident size of redisctl at 0.2 and 1 GB.
func BenchmarkMemory(b *testing.B) {
	b.Run("0.2 GB", func(b *testing.B) { benchmarkMemory(b, 200*megabyte) })
	b.Run("1 GB", func(b *testing.B) { benchmarkMemory(b, 1000*megabyte) })
}

// BenchmarkMemoryLarge is the same at 4 GB.
func BenchmarkMemoryLarge(b *testing.B) {
	if os.Getenv("BENCH_LARGE") == "" {
		b.Skip("takes five minutes and 12 GB: set BENCH_LARGE=1")
	}
	benchmarkMemory(b, 4000*megabyte)
}

func benchmarkMemory(b *testing.B, size int64) {
	s := start(b, redisserver.Redis80, size)
	key, err := age.GenerateX25519Identity()
	require.NoError(b, err)
	identity := filepath.Join(b.TempDir(), "identity")
	require.NoError(b, os.WriteFile(identity, []byte(key.String()+"\n"), 0o600))
	for _, encoding := range []struct {
		name        string
		write, read []string
	}{
		{name: "as it is"},
		{name: "zstd", write: []string{"--compress", "zstd"}},
		{"age", []string{"--encrypt-to", key.Recipient().String()}, []string{"--identity", identity}},
		{
			"zstd and age", []string{"--compress", "zstd", "--encrypt-to", key.Recipient().String()},
			[]string{"--identity", identity},
		},
	} {
		dir := b.TempDir()
		name := describe(b, s, size) + ", " + encoding.name + ": "
		memoryRow(b, name+"backup", executeIn(b, dir, backupCommand(s.Addr, encoding.write...)...))
		memoryRow(b, name+"verify", ofBackup(b, s, dir, "verify", encoding.read...)())
		memoryRow(b, name+"analyze", ofBackup(b, s, dir, "analyze", encoding.read...)())
		require.NoError(b, os.RemoveAll(dir))
	}
	for b.Loop() {
		b.ReportMetric(0, "ns/op") // the time does not matter, and once is enough
	}
}

func memoryRow(b *testing.B, what string, m measurement) {
	line := row{what: what, ours: mebibytes(m.peak)}
	line.aim, line.met = goal{"at most " + mebibytes(memoryLimit), m.peak <= memoryLimit}.columns()
	world.report.add(b, line)
}

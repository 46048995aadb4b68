package bench_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

const (
	verifyLimit  = 5   // times as fast as redis-check-rdb
	verifyRate   = 750 // MB/s
	analyzeLimit = 3   // times as fast as redis-cli --bigkeys
)

// taken takes a backup to work on, and returns the folder to work in, the backup's file
// and its size.
func taken(b *testing.B, s *redisserver.Server, args ...string) (dir, file string, size int64) {
	b.Helper()
	dir = b.TempDir()
	executeIn(b, dir, backupCommand(s.Addr, args...)...)
	files, err := filepath.Glob(filepath.Join(dir, "backups", "*", "*", "*.rdb*"))
	require.NoError(b, err)
	require.Len(b, files, 1)
	return dir, files[0], storedSize(b, dir)
}

// ofBackup is a subcommand of backup about the latest one.
func ofBackup(b *testing.B, s *redisserver.Server, dir, subcommand string, args ...string) contestant {
	args = append([]string{"backup", subcommand, "latest", "--address", s.Addr, "--backup-dir", "backups"}, args...)
	return func() measurement { return executeIn(b, dir, append([]string{world.redisctl}, args...)...) }
}

// BenchmarkVerify is against redis-check-rdb, which checks structure and CRC64. redisctl
// also computes the SHA-256, and compares both with the manifest.
func BenchmarkVerify(b *testing.B) {
	for _, version := range redisserver.Versions(b) {
		b.Run(version, func(b *testing.B) {
			s := start(b, version, smallBackup)
			dir, file, size := taken(b, s)
			check := tool(b, s, "check-rdb", file)
			ours, theirs := compete(b, ofBackup(b, s, dir, "verify"), func() measurement { return execute(b, check...) })
			world.report.faster(b, describe(b, s, size), ours, theirs, verifyLimit)
			rate := float64(size) / megabyte / ours.median().Seconds()
			line := row{what: describe(b, s, size), ours: fmt.Sprintf("%.0f MB/s", rate)}
			line.peer = fmt.Sprintf("%.0f MB/s", float64(size)/megabyte/theirs.median().Seconds())
			line.aim, line.met = goal{fmt.Sprintf("%d MB/s", verifyRate), rate >= verifyRate}.columns()
			world.report.add(b, line)
		})
	}
}

// BenchmarkAnalyze is against redis-cli --bigkeys, which asks a server about its keys.
func BenchmarkAnalyze(b *testing.B) {
	for _, version := range redisserver.Versions(b) {
		b.Run(version, func(b *testing.B) {
			s := start(b, version, smallBackup)
			dir, _, size := taken(b, s)
			theirs := func() measurement { return execute(b, client(b, s, "--bigkeys")...) }
			ours, peer := compete(b, ofBackup(b, s, dir, "analyze"), theirs)
			world.report.faster(b, describe(b, s, size), ours, peer, analyzeLimit)
		})
	}
}

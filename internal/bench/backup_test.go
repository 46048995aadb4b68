package bench_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

const (
	directLimit  = 1.15 // times bare SYNC
	forwardLimit = 1.35
	smallBackup  = 200 * megabyte
	smallLimit   = 1400 * time.Millisecond // for smallBackup
	// uncompressed is how much larger the same data is without rdbcompression, in percent.
	uncompressed = 160
)

// backup takes a backup of a server at a plain address.
func backup(b *testing.B, s *redisserver.Server, args ...string) contestant {
	return func() measurement {
		awaitIdle(b, s)
		return execute(b, backupCommand(s.Addr, args...)...)
	}
}

func backupCommand(addr string, args ...string) []string {
	return append([]string{world.redisctl, "backup", "rdb", "--address", addr, "--backup-dir", "backups"}, args...)
}

func receive(b *testing.B, s *redisserver.Server, diskless bool) contestant {
	return func() measurement {
		awaitIdle(b, s)
		return bareSync(b, s.Addr, diskless)
	}
}

// snapshotSize returns the size of the server's snapshot in bytes.
func snapshotSize(b *testing.B, s *redisserver.Server) int64 {
	b.Helper()
	dir := b.TempDir()
	executeIn(b, dir, backupCommand(s.Addr)...)
	return storedSize(b, dir)
}

// storedSize returns the size of what the only backup in dir holds.
func storedSize(b *testing.B, dir string) int64 {
	b.Helper()
	manifests, err := filepath.Glob(filepath.Join(dir, "backups", "*", "*", "*.manifest.json"))
	require.NoError(b, err)
	require.Len(b, manifests, 1)
	text, err := os.ReadFile(manifests[0])
	require.NoError(b, err)
	var manifest struct {
		Files []struct {
			SizeBytes int64 `json:"sizeBytes"`
		} `json:"files"`
	}
	require.NoError(b, json.Unmarshal(text, &manifest))
	return manifest.Files[0].SizeBytes
}

func describe(b *testing.B, s *redisserver.Server, size int64) string {
	return fmt.Sprintf("%s, %d MB", title(b, s), (size+megabyte/2)/megabyte)
}

// BenchmarkBackup is against bare SYNC, whose data is dropped.
func BenchmarkBackup(b *testing.B) {
	for _, version := range redisserver.Versions(b) {
		b.Run(version, func(b *testing.B) {
			s := start(b, version, smallBackup)
			name := describe(b, s, snapshotSize(b, s))
			ours, theirs := compete(b, backup(b, s), receive(b, s, true))
			world.report.slower(b, name, ours, theirs, directLimit)
		})
	}
}

// BenchmarkBackup200MB is how long the ways of having 200 MB sent take.
func BenchmarkBackup200MB(b *testing.B) {
	for _, way := range []struct {
		name, delay, compression string
		size                     int64
		args                     []string
		diskless                 bool
		limit                    time.Duration
	}{
		{name: "delay 0, `rdbcompression no`", delay: "0", compression: "no", diskless: true, limit: smallLimit},
		{name: "delay 5, `--transfer disk`", delay: "5", compression: "yes", args: []string{"--transfer", "disk"}, limit: smallLimit},
		{name: "delay 5 (the default)", delay: "5", compression: "yes", diskless: true},
	} {
		b.Run(way.name, func(b *testing.B) {
			size := int64(smallBackup)
			if way.compression == "no" {
				size = size * 100 / uncompressed
			}
			s := start(b, redisserver.Redis80, size, "rdbcompression "+way.compression)
			size = snapshotSize(b, s)
			require.NoError(b, s.Client().ConfigSet(b.Context(), "repl-diskless-sync-delay", way.delay).Err())
			ours, theirs := compete(b, backup(b, s, way.args...), receive(b, s, way.diskless))
			line := row{
				what: way.name + ": " + describe(b, s, size), ours: ours.String(), peer: theirs.String(),
				ratio: fmt.Sprintf("%.2fx", ours.median().Seconds()/theirs.median().Seconds()),
			}
			if way.limit > 0 {
				line.aim, line.met = goal{fmt.Sprintf("at most %.1f s", way.limit.Seconds()), ours.median() <= way.limit}.columns()
				if theirs.median() > way.limit {
					line.met += ": the server alone takes longer"
				}
			}
			world.report.add(b, line)
		})
	}
}

// BenchmarkBackupAgainstTools is against what a careful operator types: a snapshot by the
// server's own client, compressed, with a digest. Neither way looks at the data.
func BenchmarkBackupAgainstTools(b *testing.B) {
	if _, err := exec.LookPath("zstd"); err != nil {
		b.Fatalf("%v: install the package zstd", err)
	}
	s := start(b, redisserver.Redis80, smallBackup)
	name := describe(b, s, snapshotSize(b, s))
	const afterEachOther = `%s --rdb dump.rdb && zstd -q --rm dump.rdb && sha256sum dump.rdb.zst > dump.rdb.zst.sha256`
	const asPipe = `set -o pipefail; %s --rdb - | zstd -q | tee dump.rdb.zst | sha256sum > dump.rdb.zst.sha256`
	for _, way := range []struct{ name, script string }{{"one after the other", afterEachOther}, {"as a pipe", asPipe}} {
		b.Run(way.name, func(b *testing.B) {
			script := fmt.Sprintf(way.script, strings.Join(client(b, s), " "))
			theirs := func() measurement {
				awaitIdle(b, s)
				return execute(b, "bash", "-c", script)
			}
			ours, peer := compete(b, backup(b, s, "--compress", "zstd"), theirs)
			world.report.faster(b, name+": the tools "+way.name, ours, peer, 0)
		})
	}
}

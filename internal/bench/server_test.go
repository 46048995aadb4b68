package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

const megabyte = 1_000_000

// start starts a server of some version whose snapshot has about size bytes.
func start(b *testing.B, version string, size int64, config ...string) *redisserver.Server {
	b.Helper()
	file := dataFile(b, size)
	dir, err := os.MkdirTemp(world.scratch, version+"-")
	require.NoError(b, err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(b, os.Link(file, filepath.Join(dir, "dump.rdb")))
	config = append([]string{"repl-diskless-sync yes"}, config...) // not the default in 6.0
	return redisserver.Start(b, redisserver.Options{
		Version: version, Dir: dir, Config: config, ReadyTimeout: 5 * time.Minute,
	})
}

// dataFile returns a file that all versions load.
func dataFile(b *testing.B, size int64) string {
	b.Helper()
	name := filepath.Join(world.scratch, strconv.FormatInt(size, 10)+".rdb")
	if _, err := os.Stat(name); err == nil {
		return name
	}
	f, err := os.Create(name)
	require.NoError(b, err)
	defer f.Close()
	out := bufio.NewWriterSize(f, 1<<20)
	w := rdbtest.NewWriter(out, rdbtest.Redis6)
	// Servers compress small collections as a whole, which this writer does not.
	const shrink = 0.74
	rdbtest.Realistic(w, 1, int64(float64(size)/shrink))
	require.NoError(b, w.Close())
	require.NoError(b, out.Flush())
	return name
}

// title names the server as it names itself, for example "Redis 7.0.15".
func title(b *testing.B, s *redisserver.Server) string {
	b.Helper()
	info, err := s.Client().Info(b.Context(), "server").Result()
	require.NoError(b, err)
	for _, product := range []string{"Valkey", "Redis"} { // Valkey also gives a version of Redis
		for line := range strings.Lines(info) {
			if version, ok := strings.CutPrefix(line, strings.ToLower(product)+"_version:"); ok {
				return product + " " + strings.TrimSpace(version)
			}
		}
	}
	b.Fatal("the server does not say its version")
	return ""
}

// tool returns the command of a program that comes with the server's version, such as
// "cli", with its address.
func tool(b *testing.B, s *redisserver.Server, name string, args ...string) []string {
	b.Helper()
	product, _, _ := strings.Cut(s.Version, "-")
	return append(redisserver.Tool(b, s.Version, product+"-"+name), args...)
}

// client is tool for the client, with the server's address.
func client(b *testing.B, s *redisserver.Server, args ...string) []string {
	b.Helper()
	return tool(b, s, "cli", append([]string{"-h", s.Host, "-p", strconv.Itoa(s.Port)}, args...)...)
}

// bareSync receives a snapshot over the replication protocol, diskless or not, and drops
// it: the time that the server and the connection need.
func bareSync(b *testing.B, addr string, diskless bool) measurement {
	b.Helper()
	begin := time.Now()
	conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", addr)
	require.NoError(b, err)
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 1<<20)
	// ask sends a command and returns the reply. Empty lines are signs of life.
	ask := func(command string) (reply string) {
		_, err := io.WriteString(conn, command+"\r\n")
		require.NoError(b, err)
		for reply == "" {
			line, err := r.ReadString('\n')
			require.NoError(b, err)
			reply = strings.TrimSpace(line)
		}
		return reply
	}
	if diskless {
		require.Equal(b, "+OK", ask("REPLCONF capa eof"))
	}
	header := ask("SYNC")
	mark, diskless := strings.CutPrefix(header, "$EOF:")
	if diskless {
		err = dropUntil(r, mark)
	} else {
		var length int64
		_, err = fmt.Sscanf(header, "$%d", &length)
		require.NoError(b, err, header)
		_, err = io.CopyN(io.Discard, r, length)
	}
	require.NoError(b, err)
	return measurement{took: time.Since(begin)}
}

// awaitIdle waits until the server has no child process any more: the next snapshot
// would wait for it.
func awaitIdle(b *testing.B, s *redisserver.Server) {
	b.Helper()
	s.WaitFor("the last snapshot's process to end", func(ctx context.Context) bool {
		info, err := s.Client().Info(ctx, "persistence").Result()
		return err == nil && strings.Contains(info, "rdb_bgsave_in_progress:0")
	})
}

// dropUntil reads until what has arrived ends with mark.
func dropUntil(r io.Reader, mark string) error {
	buf := make([]byte, 1<<20)
	kept := 0
	for {
		n, err := r.Read(buf[kept:])
		if err != nil {
			return err
		}
		arrived := buf[:kept+n]
		if bytes.HasSuffix(arrived, []byte(mark)) {
			return nil
		}
		kept = copy(buf, arrived[max(0, len(arrived)-len(mark)):])
	}
}

package cli_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// TestLiveRestoreKilled kills redisctl with SIGKILL at random points of a live restore, the
// first time and sometimes while it goes on. The commands that the documentation names must
// lead to a server that has exactly the backup's data.
func TestLiveRestoreKilled(t *testing.T) {
	versions := redisserver.Versions(t)
	runs, random := proof(t, 4)
	file := filepath.Join(t.TempDir(), "large.rdb")
	require.NoError(t, os.WriteFile(file, killable(random), 0o600))
	want := make(map[string]redisserver.Digest)
	for i := range runs {
		version := versions[i%len(versions)]
		if _, known := want[version]; !known {
			want[version] = loaded(t, version, file)
		}
		k := liveKilling{version: version, file: file, want: want[version], replace: i%8 >= 4, random: random}
		t.Run(fmt.Sprintf("%02d %s, replace %t", i, version, k.replace), k.test)
	}
}

// killable is a backup that takes some time to restore: mostly small keys, and a few
// values that are built by commands.
func killable(random *rand.Rand) []byte {
	token := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return string(b)
	}
	const keys = 60_000
	return rdbtest.File(rdbtest.Redis6, func(w *rdbtest.Writer) {
		for db := range 3 {
			w.SelectDB(db)
			for i := range keys / 3 {
				if i%4 == 0 {
					w.ExpireAt(4_000_000_000_000) // in 2096
				}
				w.String("key:"+strconv.Itoa(i), token(100))
				if i%5000 == 0 {
					members := make([]string, 3000)
					for m := range members {
						members[m] = token(30)
					}
					w.Set("large:"+strconv.Itoa(i), members...)
				}
			}
		}
	})
}

// loaded is what a server of a version holds that has loaded a file.
func loaded(t *testing.T, version, file string) redisserver.Digest {
	t.Helper()
	dir := t.TempDir()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dump.rdb"), data, 0o600))
	s := redisserver.Start(t, redisserver.Options{Version: version, Dir: dir})
	digest, err := redisserver.TakeDigest(t.Context(), s.Client())
	require.NoError(t, err)
	return digest
}

// liveKilling is one run.
type liveKilling struct {
	version, file string
	want          redisserver.Digest
	replace       bool
	random        *rand.Rand
}

func (k liveKilling) test(t *testing.T) {
	g := newGroup(t)
	target := redisserver.Start(t, redisserver.Options{Version: k.version})
	g.servers, g.addresses = []*redisserver.Server{target}, []string{target.Addr}
	if k.replace {
		require.NoError(t, target.Client().Set(t.Context(), "key:1", "in the way", 0).Err())
	}
	begin := []string{"restore", "rdb", k.file, "--yes", "--max-payload", "65536"}
	if k.replace {
		begin = append(begin, "--replace")
	}
	resume := []string{"restore", "resume", "--yes"}

	killed := 0
	for attempt := 0; ; attempt++ {
		require.Less(t, attempt, 10, "the restore does not come to an end")
		command := begin
		if status := g.start("restore", "status"); status.wait() == 10 {
			command = resume
		} else if attempt > 0 && target.Client().DBSize(t.Context()).Val() > 1 {
			break // it was killed when it had done everything
		}
		c := g.start(command...)
		if attempt < 2 {
			c.awaitLine(0, time.Duration(k.random.Int64N(int64(400*time.Millisecond))))
			if !c.over() {
				c.kill()
				killed++
			}
		}
		code := c.wait()
		if code == 0 {
			break
		}
		if code > 0 {
			require.Contains(t, []int{5}, code, "exit code %d\n%s", code, c.output())
			// Nothing was noted yet, but the data that is replaced was backed up.
			require.Contains(t, c.output(), "target-not-empty")
		}
	}
	t.Logf("killed %d times", killed)
	digest, err := redisserver.TakeDigest(t.Context(), target.Client())
	require.NoError(t, err)
	require.NoError(t, k.want.Diff(digest))
	assert.Equal(t, 0, g.start("restore", "status").wait(), "nothing is left to go on with")
	for db := range 3 {
		client := target.NewClient(db)
		left, err := client.Keys(t.Context(), "redisctl:*").Result()
		require.NoError(t, err)
		require.NoError(t, client.Close())
		assert.Empty(t, strings.Join(left, ", "))
	}
}

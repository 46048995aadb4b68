package volume_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/aof"
	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage/folder"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// programs are the servers of the tests.
var programs = map[string]redis.Version{
	redisserver.Redis60:  {Product: "redis", Major: 6, Minor: 0},
	redisserver.Redis70:  {Product: "redis", Major: 7, Minor: 0},
	redisserver.Redis80:  {Product: "redis", Major: 8, Minor: 0},
	redisserver.Valkey81: {Product: "valkey", Major: 8, Minor: 1},
}

// layout is how the chart sets up a server, with names that are not the default.
func layout(version string) volume.Layout {
	v := programs[version]
	return volume.Layout{
		Dir: "/data", RDB: "dump.rdb", AOF: true, AOFName: "redis.aof", AOFDir: "parts", Multipart: v.Major >= 7, Version: v,
	}
}

// history is an append-only file with several points in time.
type history struct {
	backup restore.Backup
	// first is what the server held at a time, second what it held before FLUSHALL,
	// last what it held in the end.
	first, second, last map[string]string
	at                  time.Time
}

// write lets a real server write a history.
func write(t *testing.T, version string, config ...string) history {
	t.Helper()
	ctx := t.Context()
	dir := t.TempDir()
	config = append(config, "appendonly yes", "auto-aof-rewrite-percentage 0")
	if programs[version].Major >= 7 {
		config = append(config, "aof-timestamp-enabled yes")
	}
	server := redisserver.Start(t, redisserver.Options{Version: version, Dir: dir, Config: config})
	client := server.Client()
	require.NoError(t, client.MSet(ctx, "a", "1", "b", "2").Err())
	require.NoError(t, client.BgRewriteAOF(ctx).Err())
	server.WaitFor("the rewrite", func(ctx context.Context) bool {
		info, err := client.Info(ctx, "persistence").Result()
		return err == nil && strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0") &&
			!strings.Contains(info, "aof_last_rewrite_time_sec:-1")
	})
	var h history
	_, err := client.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		p.Incr(ctx, "n")
		p.RPush(ctx, "list", "x", "y\r\n*1\r\n", "#TS:1\r\n")
		p.HSet(ctx, "hash", "field", "value")
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, client.Set(ctx, "expires", "later", time.Hour).Err())
	h.first, h.at = contentsOf(t, client), clock(t, client)
	server.WaitFor("the next second", func(context.Context) bool { return clock(t, client).After(h.at) })

	require.NoError(t, server.NewClient(3).Set(ctx, "elsewhere", "3", 0).Err())
	require.NoError(t, client.Append(ctx, "a", "23").Err())
	require.NoError(t, client.Del(ctx, "b").Err())
	h.second = contentsOf(t, client)
	require.NoError(t, client.FlushAll(ctx).Err())
	require.NoError(t, client.Set(ctx, "after", "the accident", 0).Err())
	h.last = contentsOf(t, client)
	server.Stop()

	name := "appendonly.aof"
	if programs[version].Major >= 7 {
		name = "appendonlydir/appendonly.aof.manifest"
	}
	h.backup = restore.Backup{Store: folder.New(dir), Entry: snapshot.Entry{ID: "history", DataName: name}}
	return h
}

// clock is the server's, to the second.
func clock(t *testing.T, client *goredis.Client) time.Time {
	t.Helper()
	now, err := client.Time(t.Context()).Result()
	require.NoError(t, err)
	return now.Truncate(time.Second)
}

// contentsOf lists keys with what they hold, in a form that does not depend on the
// version.
func contentsOf(t *testing.T, client *goredis.Client) map[string]string {
	t.Helper()
	held := make(map[string]string)
	conn := client.Conn()
	defer func() { _ = conn.Close() }()
	for _, db := range []int{3, 0} {
		require.NoError(t, conn.Select(t.Context(), db).Err())
		keys, err := conn.Keys(t.Context(), "*").Result()
		require.NoError(t, err)
		for _, key := range keys {
			var value any
			switch kind, err := conn.Type(t.Context(), key).Result(); kind {
			case "list":
				value, err = conn.LRange(t.Context(), key, 0, -1).Result()
				require.NoError(t, err)
			case "hash":
				value, err = conn.HGetAll(t.Context(), key).Result()
				require.NoError(t, err)
			default:
				require.NoError(t, err)
				value, err = conn.Get(t.Context(), key).Result()
				require.NoError(t, err)
			}
			left, err := conn.TTL(t.Context(), key).Result()
			require.NoError(t, err)
			held[fmt.Sprintf("%d/%s", db, key)] = fmt.Sprintf("%q expires %t", value, left > 0)
		}
	}
	return held
}

func open(t *testing.T, h history, cut aof.Cut) volume.AOF {
	t.Helper()
	source, err := volume.OpenAOF(t.Context(), h.backup, cut, time.Now(), operation.DiscardReporter{})
	require.NoError(t, err)
	return source
}

// place starts a server with the files of a source.
func place(t *testing.T, source volume.AOF, version string) *redisserver.Server {
	t.Helper()
	dir := t.TempDir()
	l := layout(version)
	files, err := source.Files(l)
	require.NoError(t, err)
	for _, f := range files {
		text := contentsOfFile(t, f)
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	config := []string{"appendonly yes", "aof-load-truncated no", "auto-aof-rewrite-percentage 0", "appendfilename " + l.AOFName}
	if l.Multipart {
		config = append(config, "appenddirname "+l.AOFDir)
	}
	return redisserver.Start(t, redisserver.Options{Version: version, Dir: dir, Config: config})
}

// reach returns a connector to a server and what it is called.
func reach(t *testing.T, s *redisserver.Server) (redisconn.Connector, *operation.Deployment) {
	t.Helper()
	connector := redisconn.Connector{
		Dial:        redisconn.DialInstance,
		Credentials: func(context.Context, *operation.Deployment) (string, string, error) { return "", s.Password, nil },
	}
	d, err := redisconn.Addresses{}.Resolve(t.Context(), operation.Target{Addresses: []string{s.Addr}})
	require.NoError(t, err)
	return connector, d
}

func prove(t *testing.T, source volume.AOF, s *redisserver.Server) (restore.Comparison, error) {
	t.Helper()
	connector, d := reach(t, s)
	c := restore.Comparer{Connector: connector, Values: connector, Reporter: operation.DiscardReporter{}}
	return source.Prove(t.Context(), c, d, d.Instances[0], 0)
}

// What servers of each version write is loaded, cut and whole, by those of each version
// that is as new.
func TestAOFIsLoadedByRealServers(t *testing.T) {
	if testing.Short() {
		t.Skip("needs real servers")
	}
	for _, from := range redisserver.Versions(t) {
		for _, preamble := range []string{"yes", "no"} {
			t.Run(from+" preamble "+preamble, func(t *testing.T) {
				t.Parallel()
				h := write(t, from, "aof-use-rdb-preamble "+preamble)
				cuts := map[string]struct {
					cut  aof.Cut
					want map[string]string
				}{
					"whole":           {aof.Cut{}, h.last},
					"before FLUSHALL": {aof.Cut{By: aof.CutBefore, Command: "flushall"}, h.second},
				}
				if programs[from].Major >= 7 {
					byTime := aof.Cut{By: aof.CutTime, Time: h.at}
					found := open(t, h, byTime)
					cuts["time"] = struct {
						cut  aof.Cut
						want map[string]string
					}{byTime, h.first}
					cuts["commands"] = struct {
						cut  aof.Cut
						want map[string]string
					}{aof.Cut{By: aof.CutCommands, Commands: found.Survey.Kept.Commands}, h.first}
					file, offset, ok := strings.Cut(found.Origin().Cut, ":")
					require.True(t, ok)
					n, err := strconv.ParseInt(offset, 10, 64)
					require.NoError(t, err)
					cuts["offset"] = struct {
						cut  aof.Cut
						want map[string]string
					}{aof.Cut{By: aof.CutOffset, File: file, Offset: n}, h.first}
				}
				for name, c := range cuts {
					source := open(t, h, c.cut)
					for _, to := range redisserver.Versions(t) {
						if !loads(t, source, to) {
							continue
						}
						t.Run(name+" into "+to, func(t *testing.T) {
							s := place(t, source, to)
							assert.Equal(t, c.want, contentsOf(t, s.Client()))
							proof, err := prove(t, source, s)
							require.NoError(t, err)
							assert.True(t, proof.Equal)
							assert.True(t, proof.LoadedOnly)
							s.Restart()
							assert.Equal(t, c.want, contentsOf(t, s.Client()), "and again, after the server has begun to append")
						})
					}
				}
			})
		}
	}
}

// loads reports whether a server of a version is to load the source, and makes sure
// that others are refused.
func loads(t *testing.T, source volume.AOF, version string) bool {
	t.Helper()
	v := programs[version]
	if summary := source.Describe().Summary; summary.Version > 0 && !restore.Readable(v, &summary) {
		return false // refused by the plan, as for snapshots
	}
	server := redisserver.Start(t, redisserver.Options{Version: version})
	defer server.Stop()
	connector, d := reach(t, server)
	connection, err := connector.Connect(t.Context(), d, d.Instances[0])
	require.NoError(t, err)
	defer func() { _ = connection.Close() }()
	findings, err := source.Check(t.Context(), connection, layout(version))
	if operation.KindOf(err) == operation.Unsupported && err != nil {
		return false
	}
	require.NoError(t, err)
	for _, f := range findings {
		assert.False(t, f.Blocks(), "%+v", f)
	}
	return true
}

// Which pairs are refused is written down here, so that none is refused by mistake.
func TestAOFPairs(t *testing.T) {
	if testing.Short() {
		t.Skip("needs real servers")
	}
	want := map[string][]string{
		redisserver.Redis60:  {redisserver.Redis60, redisserver.Redis70, redisserver.Redis80, redisserver.Valkey81},
		redisserver.Redis70:  {redisserver.Redis70, redisserver.Redis80, redisserver.Valkey81},
		redisserver.Redis80:  {redisserver.Redis80},
		redisserver.Valkey81: {redisserver.Redis80, redisserver.Valkey81},
	}
	for from, readers := range want {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			source := open(t, write(t, from), aof.Cut{})
			var found []string
			for _, to := range redisserver.Versions(t) {
				if loads(t, source, to) {
					found = append(found, to)
				}
			}
			sort.Strings(found)
			assert.Equal(t, readers, found)
		})
	}
}

// A cut that leaves only the base is compared with it, key by key.
func TestAOFBaseIsCompared(t *testing.T) {
	if testing.Short() {
		t.Skip("needs real servers")
	}
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			h := write(t, version, "aof-use-rdb-preamble yes")
			source := open(t, h, aof.Cut{By: aof.CutCommands})
			files, err := source.Files(volume.Layout{RDB: "dump.rdb"})
			require.NoError(t, err)
			require.Len(t, files, 1)
			off := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(off, files[0].Name), []byte(contentsOfFile(t, files[0])), 0o600))
			proof, err := prove(t, source, redisserver.Start(t, redisserver.Options{Version: version, Dir: off}))
			require.NoError(t, err)
			assert.True(t, proof.Equal, "an RDB is for servers with appendonly no, too")

			s := place(t, source, version)
			proof, err = prove(t, source, s)
			require.NoError(t, err)
			assert.True(t, proof.Equal)
			assert.False(t, proof.LoadedOnly)
			assert.EqualValues(t, 2, proof.Keys)
			require.NoError(t, s.Client().Set(t.Context(), "a", "other", 0).Err())
			proof, err = prove(t, source, s)
			require.NoError(t, err)
			assert.False(t, proof.Equal)
		})
	}
}

// A server that has not loaded all is found out.
func TestAOFProofFails(t *testing.T) {
	if testing.Short() {
		t.Skip("needs real servers")
	}
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			h := write(t, version)
			s := place(t, open(t, h, aof.Cut{By: aof.CutBefore, Command: "FLUSHALL"}), version)
			_, err := prove(t, open(t, h, aof.Cut{}), s)
			require.ErrorContains(t, err, "of its append-only file")
			off := redisserver.Start(t, redisserver.Options{Version: version})
			_, err = prove(t, open(t, h, aof.Cut{}), off)
			require.ErrorContains(t, err, "appendonly no")
			assert.Equal(t, operation.Corrupt, operation.KindOf(err))
		})
	}
}

// raw is an append-only file that no server has written.
func raw(t *testing.T, cut aof.Cut, commands ...string) (volume.AOF, error) {
	t.Helper()
	dir := t.TempDir()
	var text strings.Builder
	for _, line := range commands {
		args := strings.Fields(line)
		fmt.Fprintf(&text, "*%d\r\n", len(args))
		for _, arg := range args {
			fmt.Fprintf(&text, "$%d\r\n%s\r\n", len(arg), arg)
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.aof"), []byte(text.String()), 0o600))
	b := restore.Backup{Store: folder.New(dir), Entry: snapshot.Entry{ID: "raw", DataName: "a.aof"}}
	return volume.OpenAOF(t.Context(), b, cut, time.Now(), operation.DiscardReporter{})
}

// What a server would not start with is refused before anything is changed.
func TestAOFChecks(t *testing.T) {
	if testing.Short() {
		t.Skip("needs real servers")
	}
	server := redisserver.Start(t, redisserver.Options{Version: redisserver.Redis70, Config: []string{`rename-command FLUSHALL ""`}})
	connector, d := reach(t, server)
	connection, err := connector.Connect(t.Context(), d, d.Instances[0])
	require.NoError(t, err)
	defer func() { _ = connection.Close() }()
	l := layout(redisserver.Redis70)
	codes := func(source volume.AOF, l volume.Layout) []string {
		findings, err := source.Check(t.Context(), connection, l)
		require.NoError(t, err)
		codes := []string{}
		for _, f := range findings {
			codes = append(codes, f.Code)
		}
		return codes
	}

	for _, line := range []string{"JSON.SET key $ 1", "flushall", "VADD key"} {
		source, err := raw(t, aof.Cut{}, "SET a 1", line)
		require.NoError(t, err)
		_, err = source.Check(t.Context(), connection, l)
		assert.Equal(t, operation.Unsupported, operation.KindOf(err))
		require.ErrorContains(t, err, strings.ToUpper(strings.Fields(line)[0]))
	}
	source, err := raw(t, aof.Cut{By: aof.CutBefore, Command: "json.set"}, "SET a 1", "JSON.SET key $ 1")
	require.NoError(t, err)
	assert.Equal(t, []string{"aof-version-unknown"}, codes(source, l), "what is dropped does not matter")
	assert.Equal(t, "a.aof:27", source.Origin().Cut)
	assert.Equal(t, volume.CommandAOF, source.Origin().Command)

	off := l
	off.AOF = false
	assert.Contains(t, codes(source, off), "aof-off")
	_, err = source.Files(off)
	require.Error(t, err)
	assert.Equal(t, operation.Refused, operation.KindOf(err))

	source, err = raw(t, aof.Cut{By: aof.CutCommands, Commands: 7}, "SET a 1")
	require.NoError(t, err)
	assert.Contains(t, codes(source, l), "nothing-dropped")
	_, err = raw(t, aof.Cut{By: aof.CutBefore, Command: "FLUSHALL"}, "SET a 1")
	require.ErrorContains(t, err, "it has no command")
	assert.Equal(t, operation.Refused, operation.KindOf(err))
}

// Damage is refused with the place up to which the file can be restored.
func TestAOFDamage(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.aof"), []byte("*1\r\n$4\r\nPING\r\nhello\r\n"), 0o600))
	b := restore.Backup{Store: folder.New(dir), Entry: snapshot.Entry{ID: "a.aof", DataName: "a.aof"}}
	_, err := volume.OpenAOF(t.Context(), b, aof.Cut{}, time.Now(), operation.DiscardReporter{})
	var failed *operation.Error
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, operation.Corrupt, failed.Kind)
	assert.Contains(t, failed.Next, "--until-offset a.aof:14")

	require.NoError(t, os.Mkdir(filepath.Join(dir, "parts"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "parts", "x.manifest"), []byte("file x.1.incr.aof seq 1 type i\n"), 0o600))
	b.Entry.DataName = "parts/x.manifest"
	_, err = volume.OpenAOF(t.Context(), b, aof.Cut{}, time.Now(), operation.DiscardReporter{})
	require.ErrorContains(t, err, "x.1.incr.aof", "it is missing")
}

// storeSet stores an append-only file of two parts as `backup aof` does.
func storeSet(t *testing.T, dir string) restore.Backup {
	t.Helper()
	store := folder.New(dir)
	set, err := snapshot.CreateSet(store, "ns/cache", snapshot.KindAOF, snapshot.CreateOptions{
		Version: "1.0.0", Encoding: codec.Encoding{Level: codec.Default},
		Source: snapshot.Source{Namespace: "ns", Release: "cache", Instance: "cache-redis-0", Role: "primary", Product: "redis", Version: "7.0.15", Method: "aof"},
	})
	require.NoError(t, err)
	for _, f := range []struct {
		name, text string
		kind       snapshot.FileKind
	}{
		{"x.1.base.aof", "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n", snapshot.FileAOFBase},
		{"x.2.incr.aof", "*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*1\r\n$8\r\nFLUSHALL\r\n", snapshot.FileAOFIncremental},
		{"x.manifest", "file x.1.base.aof seq 1 type b\nfile x.2.incr.aof seq 2 type i\n", snapshot.FileAOFManifest},
	} {
		_, err := set.Add(t.Context(), snapshot.SetFile{Name: f.name, Kind: f.kind, Path: "parts/" + f.name}, strings.NewReader(f.text))
		require.NoError(t, err)
	}
	m, err := set.Commit(t.Context())
	require.NoError(t, err)
	entry, err := snapshot.Find(t.Context(), store, snapshot.Filter{Files: []snapshot.FileKind{snapshot.FileAOFManifest}}, snapshot.Latest)
	require.NoError(t, err)
	require.Equal(t, m.ID, entry.ID)
	return restore.Backup{Store: store, Entry: entry}
}

func TestAOFOfAStoredSet(t *testing.T) {
	dir := t.TempDir()
	b := storeSet(t, dir)
	source, err := volume.OpenAOF(t.Context(), b, aof.Cut{By: aof.CutBefore, Command: "FLUSHALL"}, time.Now(), operation.DiscardReporter{})
	require.NoError(t, err)
	require.NoError(t, source.Problem)
	assert.Equal(t, "x.2.incr.aof:21", source.Origin().Cut)
	assert.Equal(t, "cache", source.Describe().Source.Release)
	assert.EqualValues(t, 27+21, source.Describe().Size)

	files, err := source.Files(layout(redisserver.Redis80))
	require.NoError(t, err)
	names := map[string]string{}
	for _, f := range files {
		names[f.Name] = contentsOfFile(t, f)
	}
	assert.Equal(t, map[string]string{
		"parts/redis.aof.1.base.aof": "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n",
		"parts/redis.aof.2.incr.aof": "*2\r\n$4\r\nINCR\r\n$1\r\na\r\n",
		"parts/redis.aof.manifest":   "file redis.aof.1.base.aof seq 1 type b\nfile redis.aof.2.incr.aof seq 2 type i\n",
	}, names)
	_, err = source.Files(layout(redisserver.Redis60))
	assert.Equal(t, operation.Unsupported, operation.KindOf(err), "6.0 misreads commands of 7.0")

	// Damage that does not show in the commands is found by the digest.
	found, err := filepath.Glob(filepath.Join(dir, "ns", "cache", "*.incr.aof.zst"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	data, err := os.ReadFile(found[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(found[0], append(data, data...), 0o600))
	source, err = volume.OpenAOF(t.Context(), b, aof.Cut{}, time.Now(), operation.DiscardReporter{})
	require.NoError(t, err)
	assert.ErrorIs(t, source.Problem, snapshot.ErrCorrupt)
}

// contentsOfFile reads a file twice: an upload may be tried again.
func contentsOfFile(t *testing.T, f volume.File) string {
	t.Helper()
	var texts [2]string
	for i := range texts {
		data, err := f.Open(t.Context())
		require.NoError(t, err)
		text, err := io.ReadAll(data)
		require.NoError(t, err)
		require.NoError(t, data.Close())
		require.Len(t, text, int(f.Size))
		texts[i] = string(text)
	}
	require.Equal(t, texts[0], texts[1])
	return texts[0]
}

package redisconn_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/testkit/faultproxy"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// forms are both ways to ask, and what a server with repl-diskless-sync answers.
var forms = []struct {
	name     string
	diskless bool
	form     redisconn.SnapshotForm
}{
	{"diskless", true, redisconn.SnapshotEOF},
	{"disk", false, redisconn.SnapshotLength},
}

// disklessSync makes 6.0 behave as later versions do by default.
const disklessSync = "repl-diskless-sync yes"

// snapshot reads a whole snapshot.
func snapshot(ctx context.Context, o redisconn.Options, so redisconn.SnapshotOptions) (*redisconn.SnapshotStream, []byte, error) {
	s, err := redisconn.OpenSnapshot(ctx, o, so)
	if err != nil {
		return nil, nil, err
	}
	rdb, err := io.ReadAll(s)
	return s, rdb, errors.Join(err, s.Close())
}

// isWholeRDB checks the header, the end opcode and the CRC64 that follows it.
func isWholeRDB(rdb []byte) bool {
	const trailer = 8
	if len(rdb) < 20 || !bytes.HasPrefix(rdb, []byte("REDIS")) || rdb[len(rdb)-trailer-1] != 0xff {
		return false
	}
	table := crc64.MakeTable(0x95AC9329AC4BC9B5)
	body := rdb[:len(rdb)-trailer]
	return ^crc64.Update(^uint64(0), table, body) == binary.LittleEndian.Uint64(rdb[len(rdb)-trailer:])
}

func TestSnapshotLoadsWithIdenticalKeys(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		primary := redisserver.Start(t, redisserver.Options{Version: version, Password: "s3cret", Config: []string{disklessSync}})
		require.NoError(t, redisserver.Fill(t.Context(), primary.Client(), 7, 1500))
		replica := redisserver.Start(t, redisserver.Options{
			Version: version, Password: "s3cret", ReplicaOf: primary, Config: []string{disklessSync},
		})
		replica.WaitInSync()
		before := redisserver.StartWriter(t, primary.Client(), "before")
		written, err := before.Stop()
		require.NoError(t, err)
		replica.WaitInSync()
		redisserver.StartWriter(t, primary.Client(), "during")

		for _, source := range []struct {
			name   string
			server *redisserver.Server
		}{{"primary", primary}, {"replica", replica}} {
			for _, form := range forms {
				t.Run(source.name+" "+form.name, func(t *testing.T) {
					s, rdb, err := snapshot(t.Context(), optionsOf(source.server), redisconn.SnapshotOptions{Diskless: form.diskless})
					require.NoError(t, err)
					assert.Equal(t, form.form, s.Form)
					assert.Equal(t, version != redisserver.Redis60, s.RDBOnly)
					assert.EqualValues(t, len(rdb), s.Received())
					if form.form == redisconn.SnapshotLength {
						assert.EqualValues(t, len(rdb), s.Length)
					} else {
						assert.EqualValues(t, -1, s.Length)
					}
					info, err := open(t, optionsOf(primary)).Info(t.Context(), "replication")
					require.NoError(t, err)
					assert.Equal(t, info.Get("master_replid"), s.ReplicationID)
					assert.Positive(t, s.Offset)

					restored := load(t, version, rdb)
					require.NoError(t, redisserver.Compare(t.Context(), primary.Client(), restored.Client(), redisserver.WriterPrefix+"during"))
					assertLedger(t, restored, written)
				})
			}
		}
	})
}

// assertLedger checks that a snapshot holds all that was acknowledged before it
// began, and of what was written meanwhile a gapless beginning.
func assertLedger(t *testing.T, restored *redisserver.Server, written int) {
	t.Helper()
	count := func(name string) int {
		keys, err := restored.Client().Keys(t.Context(), redisserver.WriterPrefix+name+":*").Result()
		require.NoError(t, err)
		highest := -1
		for _, key := range keys {
			n, err := strconv.Atoi(key[strings.LastIndex(key, ":")+1:])
			require.NoError(t, err)
			highest = max(highest, n)
		}
		require.Equal(t, len(keys), highest+1, "gaps in what %s wrote", name)
		return len(keys)
	}
	assert.Equal(t, written, count("before"))
	assert.Positive(t, count("during"))
}

// A connection that ends at any byte of the conversation must never look like the
// end of the snapshot.
func TestSnapshotCutAtEveryByte(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		for _, form := range forms {
			t.Run(form.name, func(t *testing.T) {
				t.Parallel()
				cutAtEveryByte(t, version, redisconn.SnapshotOptions{Diskless: form.diskless})
			})
		}
	})
}

func cutAtEveryByte(t *testing.T, version string, so redisconn.SnapshotOptions) {
	ctx := t.Context()
	s := redisserver.Start(t, redisserver.Options{Version: version, Password: "s3cret", Config: []string{disklessSync}})
	for _, key := range []string{"a", "b", "c"} {
		require.NoError(t, s.Client().Set(ctx, key, "value of "+key, 0).Err())
	}
	o := optionsOf(s)
	attempt := func(f faultproxy.Faults) (*faultproxy.Proxy, []byte, error) {
		p := faultproxy.Start(t, s.Addr, faultproxy.Options{ToClient: f})
		o := o
		o.Dial = p.Dial
		_, rdb, err := snapshot(ctx, o, so)
		return p, rdb, err
	}
	whole, rdb, err := attempt(faultproxy.Faults{})
	require.NoError(t, err)
	require.True(t, isWholeRDB(rdb))
	// The length varies by a few bytes: the RDB holds times and memory sizes, and
	// keep-alives may come. Beyond the end no fault may happen.
	const slack = 10
	length := whole.ToClient()

	var failures atomic.Int64
	var attempts sync.WaitGroup
	const atOnce = 128 // the server answers all that wait from one fork
	slots := make(chan struct{}, atOnce)
	for after := range length + slack {
		for _, action := range []faultproxy.Action{faultproxy.FIN, faultproxy.RST} {
			slots <- struct{}{}
			attempts.Go(func() {
				defer func() { <-slots }()
				p, rdb, err := attempt(faultproxy.Faults{Action: action, After: after})
				if err == nil {
					assert.True(t, isWholeRDB(rdb), "cut after %d bytes: success with %d bytes", after, len(rdb))
					assert.GreaterOrEqual(t, p.ToClient(), length-slack)
					return
				}
				failures.Add(1)
				assert.True(t, p.HasFired(), "no fault, but %v", err)
				assert.Equal(t, operation.Failed, operation.KindOf(err), "%v", err)
				assert.NotErrorIs(t, err, io.EOF)
				if after > 0 { // else it may happen while dialling
					assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
				}
			})
		}
	}
	attempts.Wait()
	assert.GreaterOrEqual(t, failures.Load(), 2*(length-slack))
}

func TestSnapshotStall(t *testing.T) {
	t.Parallel()
	s := redisserver.Start(t, redisserver.Options{Version: redisserver.Versions(t)[1], Config: []string{"rdbcompression no"}})
	require.NoError(t, s.Client().Set(t.Context(), "k", strings.Repeat("v", 1000), 0).Err())
	for _, form := range forms {
		for _, after := range []int64{0, 3, 20, 100, 500} {
			t.Run(fmt.Sprintf("%s after %d", form.name, after), func(t *testing.T) {
				t.Parallel()
				p := faultproxy.Start(t, s.Addr, faultproxy.Options{ToClient: faultproxy.Faults{Action: faultproxy.Stall, After: after}})
				o := optionsOf(s)
				o.Dial = p.Dial
				start := time.Now()
				_, _, err := snapshot(t.Context(), o, redisconn.SnapshotOptions{Diskless: form.diskless, StallTimeout: 3 * time.Second})
				assert.Equal(t, operation.TimedOut, operation.KindOf(err), "%v", err)
				assert.ErrorContains(t, err, "no byte for 3s")
				assert.Less(t, time.Since(start), 3*time.Second+soon)
				assert.True(t, p.HasFired())
			})
		}
	}
	t.Run("server stopped", func(t *testing.T) {
		s := redisserver.Start(t, redisserver.Options{})
		s.Signal(syscall.SIGSTOP)
		_, _, err := snapshot(t.Context(), optionsOf(s), redisconn.SnapshotOptions{StallTimeout: 100 * time.Millisecond})
		assert.Equal(t, operation.TimedOut, operation.KindOf(err), "%v", err)
	})
}

// The server's wait for further replicas is longer than the stall timeout, but it
// sends a newline every second meanwhile.
func TestPreparingServerIsNotStalled(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := redisserver.Start(t, redisserver.Options{Version: version, Config: []string{disklessSync, "repl-diskless-sync-delay 5"}})
		settings, err := redisconn.ReadSnapshotSettings(t.Context(), open(t, optionsOf(s)))
		require.NoError(t, err)
		assert.Equal(t, redisconn.SnapshotSettings{Diskless: true, Delay: 5 * time.Second}, settings)

		var states []redisconn.SnapshotState
		stream, rdb, err := snapshot(t.Context(), optionsOf(s), redisconn.SnapshotOptions{
			Diskless: true, StallTimeout: 3 * time.Second,
			Progress: func(p redisconn.SnapshotProgress) { states = append(states, p.State) },
		})
		require.NoError(t, err)
		assert.True(t, isWholeRDB(rdb))
		assert.Greater(t, stream.Preparation, 3*time.Second)
		assert.GreaterOrEqual(t, stream.Keepalives, 2)
		assert.Len(t, states, stream.Keepalives+2)
		assert.Equal(t, redisconn.SnapshotRequested, states[0])
		assert.Equal(t, redisconn.SnapshotPreparing, states[1])
		assert.Equal(t, redisconn.SnapshotSending, states[len(states)-1])
	})
}

// The child of a diskless snapshot is silent until 16 KiB are full. It is slowed
// down here to be silent for three stall timeouts.
func TestBusyChildIsNotStalled(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := redisserver.Start(t, redisserver.Options{Version: version, Config: []string{
			disklessSync, "repl-diskless-sync-delay 0", "rdb-key-save-delay 500000", // microseconds
		}})
		for i := range 30 {
			require.NoError(t, s.Client().Set(t.Context(), strconv.Itoa(i), "v", 0).Err())
		}
		begun := time.Now()
		stream, rdb, err := snapshot(t.Context(), optionsOf(s), redisconn.SnapshotOptions{Diskless: true, StallTimeout: 4 * time.Second})
		require.NoError(t, err)
		assert.True(t, isWholeRDB(rdb))
		assert.Equal(t, redisconn.SnapshotEOF, stream.Form)
		assert.Greater(t, time.Since(begun), 8*time.Second, "the server was not slow enough to try this")
	})
}

func TestSnapshotEndsWithItsContext(t *testing.T) {
	s := redisserver.Start(t, redisserver.Options{Version: redisserver.Versions(t)[1], Config: []string{"rdbcompression no"}})
	require.NoError(t, s.Client().Set(t.Context(), "k", strings.Repeat("v", 1000), 0).Err())
	p := faultproxy.Start(t, s.Addr, faultproxy.Options{ToClient: faultproxy.Faults{Action: faultproxy.Stall, After: 500}})
	o := optionsOf(s)
	o.Dial = p.Dial
	for name, test := range map[string]struct {
		cause error
		kind  operation.Kind
	}{
		"cancelled":  {context.Canceled, operation.Interrupted},
		"lease lost": {operation.ErrLeaseLost, operation.Interrupted},
		"deadline":   {context.DeadlineExceeded, operation.TimedOut},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			stream, err := redisconn.OpenSnapshot(ctx, o, redisconn.SnapshotOptions{Diskless: true, StallTimeout: 2 * soon})
			require.NoError(t, err)
			start := time.Now()
			time.AfterFunc(20*time.Millisecond, func() { cancel(test.cause) })
			_, err = io.Copy(io.Discard, stream)
			assert.Less(t, time.Since(start), soon)
			require.ErrorIs(t, err, test.cause)
			assert.Equal(t, test.kind, operation.KindOf(err))
			assert.ErrorContains(t, err, "server "+s.Addr+": reading the snapshot")
			require.NoError(t, stream.Close())
		})
	}
}

// The server must not keep the pseudo-replica once the snapshot is complete, even
// if the caller is slow to close the stream.
func TestServerDropsTheConnectionAfterTheSnapshot(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		for _, form := range forms {
			t.Run(form.name, func(t *testing.T) {
				s := redisserver.Start(t, redisserver.Options{Version: version, Config: []string{disklessSync}})
				stream, err := redisconn.OpenSnapshot(t.Context(), optionsOf(s), redisconn.SnapshotOptions{Diskless: form.diskless})
				require.NoError(t, err)
				defer func() { require.NoError(t, stream.Close()) }()
				_, err = io.Copy(io.Discard, stream)
				require.NoError(t, err)
				c := open(t, optionsOf(s))
				s.WaitFor("the replica to be gone", func(ctx context.Context) bool {
					info, err := c.Info(ctx, "replication")
					return err == nil && info.Int("connected_slaves") == 0
				})
			})
		}
	})
}

func TestSnapshotCredentials(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := redisserver.Start(t, redisserver.Options{Version: version, Password: "s3cret", Config: []string{
			disklessSync,
			"user backup on >backuppw resetkeys +sync +psync +replconf +ping",
			"user synconly on >backuppw resetkeys +sync +replconf",
			"user noreplconf on >backuppw resetkeys +sync +psync",
			"user reader on >backuppw ~* +@read",
		}})
		unsecured := redisserver.Start(t, redisserver.Options{Version: version})
		for name, test := range map[string]struct {
			server         *redisserver.Server
			user, password string
			disk           bool
			wantCode       string
			wantSyncOnly   bool
			wantUnused     bool
		}{
			"password":             {password: "s3cret"},
			"minimal user":         {user: "backup", password: "backuppw"},
			"user without PSYNC":   {user: "synconly", password: "backuppw", wantSyncOnly: true},
			"wrong password":       {password: "wr0ng", wantCode: "WRONGPASS"},
			"no password":          {wantCode: "NOAUTH"},
			"no rights":            {user: "reader", password: "backuppw", wantCode: "NOPERM"},
			"no rights on disk":    {user: "reader", password: "backuppw", disk: true, wantCode: "NOPERM"},
			"no REPLCONF":          {user: "noreplconf", password: "backuppw", wantCode: "NOPERM"},
			"no REPLCONF, disk":    {user: "noreplconf", password: "backuppw", disk: true},
			"password not wanted":  {server: unsecured, password: "s3cret", wantUnused: true},
			"no password, no need": {server: unsecured},
		} {
			t.Run(name, func(t *testing.T) {
				server := s
				if test.server != nil {
					server = test.server
				}
				o := optionsOf(server)
				o.Username, o.Password = test.user, test.password
				stream, rdb, err := snapshot(t.Context(), o, redisconn.SnapshotOptions{Diskless: !test.disk})
				if test.wantCode != "" {
					assertReply(t, err, operation.Denied, test.wantCode)
					assert.NotContains(t, err.Error(), "wr0ng")
					return
				}
				require.NoError(t, err)
				assert.True(t, isWholeRDB(rdb))
				assert.Equal(t, test.wantSyncOnly, stream.ReplicationID == "")
				assert.Equal(t, test.wantUnused, stream.PasswordUnused)
			})
		}
	})
}

func TestSnapshotWithRenamedCommands(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		for name, test := range map[string]struct {
			config  []string
			renames redis.Renames
			disk    bool
			wantErr error
			kind    operation.Kind
		}{
			"renamed": {
				config:  []string{"rename-command PSYNC p-1", "rename-command REPLCONF r-1", "rename-command AUTH a-1"},
				renames: redis.Renames{"PSYNC": "p-1", "REPLCONF": "r-1", "AUTH": "a-1"},
			},
			"PSYNC disabled": {
				config:  []string{`rename-command PSYNC ""`, "rename-command SYNC s-1"},
				renames: redis.Renames{"PSYNC": "", "SYNC": "s-1"},
			},
			"both disabled": {
				config:  []string{`rename-command PSYNC ""`, `rename-command SYNC ""`},
				wantErr: operation.ErrNoCommand, kind: operation.Failed,
			},
			"REPLCONF disabled":       {config: []string{`rename-command REPLCONF ""`}, wantErr: operation.ErrNoCommand, kind: operation.Unsupported},
			"REPLCONF disabled, disk": {config: []string{`rename-command REPLCONF ""`}, disk: true},
		} {
			t.Run(name, func(t *testing.T) {
				s := redisserver.Start(t, redisserver.Options{Version: version, Config: append(test.config, disklessSync)})
				o := optionsOf(s)
				o.Renames = test.renames
				o.Password = "unused"
				if test.renames["AUTH"] == "" {
					o.Password = ""
				}
				stream, rdb, err := snapshot(t.Context(), o, redisconn.SnapshotOptions{Diskless: !test.disk})
				if test.wantErr != nil {
					require.ErrorIs(t, err, test.wantErr)
					assert.Equal(t, test.kind, operation.KindOf(err))
					return
				}
				require.NoError(t, err)
				assert.True(t, isWholeRDB(rdb))
				// A renamed PSYNC acts as SYNC.
				_, renamed := test.renames["PSYNC"]
				assert.Equal(t, renamed, stream.ReplicationID == "")
			})
		}
	})
}

func TestSnapshotOverTLS(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := redisserver.Start(t, redisserver.Options{Version: version, TLS: true, Config: []string{disklessSync}})
		require.NoError(t, redisserver.Fill(t.Context(), s.Client(), 3, 300))
		for _, form := range forms {
			o := optionsOf(s)
			o.TLS = s.TLS.Client
			_, rdb, err := snapshot(t.Context(), o, redisconn.SnapshotOptions{Diskless: form.diskless})
			require.NoError(t, err)
			assert.True(t, isWholeRDB(rdb))
		}
	})
}

func TestSnapshotOfAReplicaWithoutItsPrimary(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		primary := redisserver.Start(t, redisserver.Options{Version: version})
		replica := redisserver.Start(t, redisserver.Options{Version: version, ReplicaOf: primary})
		replica.WaitInSync()
		primary.Kill()
		replica.WaitFor("the link to be down", func(ctx context.Context) bool {
			return strings.Contains(replica.Client().Info(ctx, "replication").Val(), "master_link_status:down")
		})
		_, _, err := snapshot(t.Context(), optionsOf(replica), redisconn.SnapshotOptions{Diskless: true})
		assertReply(t, err, operation.Failed, "NOMASTERLINK")
	})
}

func TestSnapshotWaitsForARunningSave(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := redisserver.Start(t, redisserver.Options{Version: version, Config: append([]string{disklessSync}, slow...)})
		fillSimple(t, s, 1000, 1)
		require.NoError(t, s.Client().BgSave(t.Context()).Err())
		require.NoError(t, s.Client().ConfigSet(t.Context(), "rdb-key-save-delay", "0").Err())
		stream, rdb, err := snapshot(t.Context(), optionsOf(s), redisconn.SnapshotOptions{
			Diskless: true,
			Progress: func(p redisconn.SnapshotProgress) {
				if p.Keepalives == 2 && p.State == redisconn.SnapshotPreparing {
					s.KillChildren()
				}
			},
		})
		require.NoError(t, err)
		assert.True(t, isWholeRDB(rdb))
		assert.GreaterOrEqual(t, stream.Keepalives, 2)
	})
}

// The child that writes the snapshot dies: the server has nothing more to say.
func TestSnapshotChildDies(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := redisserver.Start(t, redisserver.Options{Version: version, Config: append([]string{disklessSync, "rdbcompression no"}, slow...)})
		// Large enough for the child not to keep the header in its buffer.
		fillSimple(t, s, 100, 50_000)
		stream, err := redisconn.OpenSnapshot(t.Context(), optionsOf(s), redisconn.SnapshotOptions{Diskless: true})
		require.NoError(t, err)
		s.KillChildren()
		_, err = io.Copy(io.Discard, stream)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.Equal(t, operation.Failed, operation.KindOf(err))
		assert.ErrorContains(t, err, "bytes received")
		require.NoError(t, stream.Close())
	})
}

func fillSimple(t *testing.T, s *redisserver.Server, n, size int) {
	t.Helper()
	_, err := s.Client().Pipelined(t.Context(), func(p goredis.Pipeliner) error {
		for i := range n {
			p.Set(t.Context(), fmt.Sprintf("key:%d", i), strings.Repeat("v", size), 0)
		}
		return nil
	})
	require.NoError(t, err)
}

// script is a fake server of the replication protocol: it answers each command
// with the next of its replies, the last of which may be slow.
func script(t *testing.T, replies []string, last func(conn net.Conn)) func(context.Context) (net.Conn, error) {
	t.Helper()
	return listen(t, func(conn net.Conn) {
		commands := bufio.NewReader(conn)
		for _, reply := range replies {
			if readCommand(commands) != nil {
				return
			}
			if _, err := io.WriteString(conn, reply); err != nil {
				return
			}
		}
		if last != nil && readCommand(commands) == nil {
			last(conn)
		}
		_, _ = io.Copy(io.Discard, conn) // until the client closes
	})
}

func readCommand(r *bufio.Reader) error {
	var args int
	if _, err := fmt.Fscanf(r, "*%d\r\n", &args); err != nil {
		return err
	}
	for range args {
		var length int
		if _, err := fmt.Fscanf(r, "$%d\r\n", &length); err != nil {
			return err
		}
		if _, err := r.Discard(length + 2); err != nil {
			return err
		}
	}
	return nil
}

const (
	mark       = "0123456789abcdef0123456789abcdef01234567"
	fullResync = "+FULLRESYNC 8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb 1234\r\n"
)

func TestSignsOfLifeKeepTheSnapshotAlive(t *testing.T) {
	const beats = 10
	interval := 100 * time.Millisecond
	for name, form := range map[string]struct{ header, end string }{
		"eof":    {"$EOF:" + mark + "\r\n", mark},
		"length": {"$3\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dial := script(t, []string{"+OK\r\n", "+OK\r\n"}, func(conn net.Conn) {
				ticker := time.NewTicker(interval)
				defer ticker.Stop()
				say := func(text string) { _, _ = io.WriteString(conn, text) }
				for range beats {
					<-ticker.C
					say("\n")
				}
				say(fullResync)
				for range beats {
					<-ticker.C
					say("\n")
				}
				say(form.header)
				for _, b := range []string{"R", "D", "B"} {
					<-ticker.C
					say(b)
				}
				say(form.end)
			})
			stream, rdb, err := snapshot(t.Context(), redisconn.Options{Dial: dial}, redisconn.SnapshotOptions{
				Diskless: true, StallTimeout: beats / 2 * interval,
			})
			require.NoError(t, err)
			assert.Equal(t, "RDB", string(rdb))
			assert.Equal(t, 2*beats, stream.Keepalives)
			assert.Equal(t, "8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb", stream.ReplicationID)
			assert.EqualValues(t, 1234, stream.Offset)
		})
	}
}

func TestRefusalsAndNonsense(t *testing.T) {
	for name, test := range map[string]struct {
		replies []string
		kind    operation.Kind
		want    string
	}{
		"refused after keep-alives":   {[]string{"+OK\r\n", "+OK\r\n", "\n\n-LOADING Redis is loading\r\n"}, operation.Failed, "LOADING"},
		"refused after FULLRESYNC":    {[]string{"+OK\r\n", "+OK\r\n", fullResync + "\n-ERR BGSAVE failed, replication can't continue\r\n"}, operation.Failed, "BGSAVE failed"},
		"protected mode":              {[]string{"-DENIED Redis is running in protected mode\r\n"}, operation.Denied, "DENIED"},
		"another protocol":            {[]string{"HTTP/1.1 400 Bad Request\r\n", "\r\nx\r\n", "x\r\n"}, operation.Failed, "unexpected reply to PSYNC"},
		"a partial resynchronisation": {[]string{"+OK\r\n", "+OK\r\n", "+CONTINUE\r\n"}, operation.Failed, "unexpected reply to PSYNC"},
		"an offset that is none":      {[]string{"+OK\r\n", "+OK\r\n", "+FULLRESYNC x y\r\n"}, operation.Failed, "unexpected reply to PSYNC"},
		"no snapshot":                 {[]string{"+OK\r\n", "+OK\r\n", fullResync + "+OK\r\n"}, operation.Failed, "want a snapshot"},
		"a short mark":                {[]string{"+OK\r\n", "+OK\r\n", fullResync + "$EOF:0123\r\n"}, operation.Failed, "end mark has 4 bytes"},
		"a negative length":           {[]string{"+OK\r\n", "+OK\r\n", fullResync + "$-1\r\n"}, operation.Failed, "length is"},
		"an empty snapshot":           {[]string{"+OK\r\n", "+OK\r\n", fullResync + "$0\r\n"}, operation.Failed, "length is"},
		"an absurd length":            {[]string{"+OK\r\n", "+OK\r\n", fullResync + "$99999999999999999999\r\n"}, operation.Failed, "length is"},
		"an endless line":             {[]string{"+OK\r\n", "+OK\r\n", strings.Repeat("x", 1<<20)}, operation.Failed, "not a Redis server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dial := script(t, test.replies, nil)
			_, _, err := snapshot(t.Context(), redisconn.Options{Name: "server x", Dial: dial}, redisconn.SnapshotOptions{Diskless: true})
			require.ErrorContains(t, err, test.want)
			assert.ErrorContains(t, err, "server x: asking for a snapshot")
			assert.Equal(t, test.kind, operation.KindOf(err), "%v", err)
		})
	}
}

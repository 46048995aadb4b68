package redisconn_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/redisconn"
)

// openReplay opens a replay to whatever dial reaches. Rejections other than BUSYKEY end it.
func openReplay(
	ctx context.Context, t *testing.T, dial func(context.Context) (net.Conn, error), connections int, config redis.Config,
) (live.Replay, error) {
	t.Helper()
	c := redisconn.Connector{
		Dial: func(ctx context.Context, _ *operation.Deployment, _ operation.Instance) (net.Conn, error) {
			return dial(ctx)
		},
	}
	return c.OpenReplay(ctx, &operation.Deployment{Name: "test", Config: config}, operation.Instance{Name: "test"}, live.ReplayOptions{
		Connections: connections, Stall: 200 * time.Millisecond,
		Judge: func(r live.Rejection) error {
			if r.Code == "BUSYKEY" {
				return nil
			}
			return fmt.Errorf("%d %s at %d: %w", r.DB, r.Key, r.Position, r.Err)
		},
	})
}

// key is a key whose value is a string of one byte.
func key(db int, name string, position int64) *live.Key {
	return &live.Key{
		DB: db, Name: []byte(name), ExpireAt: rdb.None, Idle: rdb.None, Freq: rdb.None,
		Version: 9, Size: 2, Position: position,
	}
}

var value = []byte{1, 'x'}

// words reads one command.
func words(r *bufio.Reader) ([]string, error) {
	line := func(kind string) (int, error) {
		text, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(text, kind)))
	}
	n, err := line("*")
	if err != nil {
		return nil, err
	}
	var all []string
	for range n {
		size, err := line("$")
		if err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		all = append(all, string(b[:size]))
	}
	return all, nil
}

// answering is a server that answers each command as told; "" ends the connection.
func answering(answer func(words []string) string) func(net.Conn) {
	return func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			command, err := words(r)
			if err != nil {
				return
			}
			reply := answer(command)
			if reply == "" {
				return
			}
			if _, err := io.WriteString(conn, reply); err != nil {
				return
			}
		}
	}
}

func TestReplaySendsWhatRESTOREtakes(t *testing.T) {
	var got []string
	config, err := redis.ParseConfig("rename-command RESTORE put\n")
	require.NoError(t, err)
	r, err := openReplay(t.Context(), t, listen(t, answering(func(w []string) string {
		if len(w) > 3 {
			w[3] = strconv.Itoa(len(w[3])) // the payload
		}
		got = append(got, strings.Join(w, " "))
		return "+OK\r\n"
	})), 1, config)
	require.NoError(t, err)
	plain, full := key(0, "plain", 1), key(3, "full", 2)
	full.ExpireAt, full.Idle, full.Replace = 4_000_000_000_000, 17, true
	frequent := key(3, "frequent", 3)
	frequent.Freq = 5
	for _, k := range []*live.Key{plain, full, frequent} {
		require.NoError(t, r.Restore(k, value))
	}
	require.NoError(t, r.Finish())
	assert.Equal(t, []string{
		"put plain 0 13", "SELECT 3", "put full 4000000000000 13 REPLACE ABSTTL IDLETIME 17", "put frequent 0 13 FREQ 5",
	}, got)
	assert.Equal(t, int64(3), r.Settled().Restored)
	assert.Equal(t, int64(4), r.Settled().Before)
}

// TestReplaySettles: what an error reply leaves is told exactly, whatever has been sent
// behind it.
func TestReplaySettles(t *testing.T) {
	r, err := openReplay(t.Context(), t, listen(t, answering(func(w []string) string {
		switch {
		case w[0] != "RESTORE":
			return "+OK\r\n"
		case w[1] == "k7" || w[1] == "k9":
			return "-BUSYKEY Target key name already exists.\r\n"
		case w[1] == "k500":
			return "-OOM command not allowed when used memory > 'maxmemory'.\r\n"
		default:
			return "+OK\r\n"
		}
	})), 1, redis.Config{})
	require.NoError(t, err)
	for i := range int64(1000) {
		if err := r.Restore(key(0, fmt.Sprintf("k%d", i), i*10), value); err != nil {
			break
		}
	}
	err = r.Finish()
	require.ErrorContains(t, err, "0 k500 at 5000: ")
	require.ErrorContains(t, err, "OOM command not allowed")
	s := r.Settled()
	assert.Equal(t, int64(5000), s.Before)
	assert.Equal(t, int64(498), s.Restored)
	assert.Equal(t, int64(2), s.Rejected)
	assert.GreaterOrEqual(t, s.AllRestored, int64(498))
}

func TestReplayWithoutAnswers(t *testing.T) {
	r, err := openReplay(t.Context(), t, listen(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }), 2, redis.Config{})
	require.NoError(t, err)
	require.NoError(t, r.Restore(key(0, "a", 1), value))
	err = r.Finish()
	assert.Equal(t, operation.TimedOut, operation.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "the server has not answered for 200ms")
	assert.Zero(t, r.Settled().Before)
}

func TestReplayOfABrokenConnection(t *testing.T) {
	for name, reply := range map[string]string{
		"closed": "", "not the protocol": "HTTP/1.1 400\r\n", "half a reply": "+O", "a length that is none": "$x\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			r, err := openReplay(t.Context(), t, listen(t, answering(func([]string) string {
				if n++; n > 3 {
					return reply
				}
				return "+OK\r\n"
			})), 1, redis.Config{})
			require.NoError(t, err)
			for i := range int64(10) {
				require.NoError(t, r.Restore(key(0, "k", i), value))
			}
			require.Error(t, r.Finish())
			assert.Zero(t, r.Settled().Before, "the batch was not answered")
			assert.Zero(t, r.Settled().AllRestored)
		})
	}
}

// TestReplayInterrupted: nothing more is sent, and the replies to what was are waited for.
func TestReplayInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	r, err := openReplay(ctx, t, listen(t, answering(func([]string) string { return "+OK\r\n" })), 2, redis.Config{})
	require.NoError(t, err)
	gone := errors.New("gone")
	sent := int64(0)
	for ; ; sent++ {
		if sent == 100_000 {
			cancel(gone)
		}
		if err := r.Restore(key(int(sent/50_000)%3, "k", sent), value); err != nil {
			require.ErrorIs(t, err, gone)
			break
		}
	}
	require.ErrorIs(t, r.Finish(), gone)
	s := r.Settled()
	assert.Equal(t, s.Before, s.Restored, "every key before that position, and no other")
	assert.Positive(t, s.Restored)
	assert.LessOrEqual(t, s.AllRestored, sent)
}

func TestReplayIsRefused(t *testing.T) {
	_, err := openReplay(t.Context(), t, func(context.Context) (net.Conn, error) { return nil, errors.New("no route") }, 2, redis.Config{})
	require.ErrorContains(t, err, "no route")

	// The right to choose a database is missing.
	r, err := openReplay(t.Context(), t, listen(t, answering(func(w []string) string {
		if w[0] == "SELECT" {
			return "-NOPERM this user has no permissions to run the 'select' command\r\n"
		}
		return "+OK\r\n"
	})), 1, redis.Config{})
	require.NoError(t, err)
	require.NoError(t, r.Restore(key(1, "a", 1), value))
	require.ErrorContains(t, r.Finish(), "NOPERM")
	assert.Zero(t, r.Settled().Restored)
}

// TestReplayOfPieces: a value comes in pieces, commands in order, and both go over one
// connection.
func TestReplayOfPieces(t *testing.T) {
	replies := map[string]string{"RENAMENX": ":0\r\n", "XADD": "$3\r\n1-1\r\n", "XCLAIM": "*2\r\n$3\r\n1-1\r\n*-1\r\n", "UNLINK": ":0\r\n"}
	var got []string
	r, err := openReplay(t.Context(), t, listen(t, answering(func(w []string) string {
		if w[0] == "RESTORE" {
			w[3] = fmt.Sprintf("%d bytes", len(w[3]))
		}
		got = append(got, strings.Join(w, " "))
		if reply, ok := replies[w[0]]; ok {
			return reply
		}
		return "+OK\r\n"
	})), 1, redis.Config{})
	require.NoError(t, err)
	large := key(0, "large", 5)
	large.Size = 3 << 20
	w, err := r.Stream(large)
	require.NoError(t, err)
	for range 3 {
		_, err = w.Write(make([]byte, 1<<20))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	built := key(0, "built", 9)
	for _, command := range []string{"UNLINK t", "XADD t * a b", "XCLAIM t g c 0 1-1"} {
		require.NoError(t, r.Command(built, false, split(command)...))
	}
	require.NoError(t, r.Command(built, true, split("RENAMENX t built")...))
	require.NoError(t, r.Command(built, false, split("UNLINK t")...))
	require.NoError(t, r.Restore(key(0, "after", 11), value))
	require.NoError(t, r.Finish())
	assert.Equal(t, []string{
		"RESTORE large 0 3145739 bytes", "UNLINK t", "XADD t * a b", "XCLAIM t g c 0 1-1", "RENAMENX t built", "UNLINK t",
		"RESTORE after 0 13 bytes",
	}, got)
	s := r.Settled()
	assert.Equal(t, int64(2), s.Restored)
	assert.Equal(t, int64(1), s.Rejected, "RENAMENX has found a key of that name")
	assert.Equal(t, int64(12), s.Before)
}

func split(command string) [][]byte {
	var all [][]byte
	for _, word := range strings.Fields(command) {
		all = append(all, []byte(word))
	}
	return all
}

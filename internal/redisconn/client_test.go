package redisconn_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/testkit/faultproxy"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

func TestClientSpeaksToEveryVersion(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		ctx := t.Context()
		s := redisserver.Start(t, redisserver.Options{Version: version, Password: "s3cret"})
		c := open(t, optionsOf(s))
		require.NoError(t, c.Connect(ctx))
		assert.False(t, c.PasswordUnused())

		info, err := c.Info(ctx)
		require.NoError(t, err)
		v, err := info.Version()
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(version, v.Product+"-"), "%s for %s", v, version)

		// 6.0 takes one section at a time.
		info, err = c.Info(ctx, "replication", "persistence")
		require.NoError(t, err)
		assert.Equal(t, "master", info.Get("role"))
		assert.True(t, info.Has("rdb_bgsave_in_progress"))
		assert.False(t, info.Has("redis_version"))

		values, err := c.ConfigGet(ctx, "maxmemory*")
		require.NoError(t, err)
		assert.Equal(t, "0", values["maxmemory"])
		assert.Contains(t, values, "maxmemory-policy")

		for _, test := range []struct {
			args []any
			want any
		}{
			{[]any{"SET", "k", "v"}, "OK"},
			{[]any{"GET", "k"}, "v"},
			{[]any{"GET", "none"}, nil},
			{[]any{"INCR", "n"}, int64(1)},
			{[]any{"MGET", "k", "none"}, []any{"v", nil}},
		} {
			got, err := c.Do(ctx, test.args...)
			require.NoError(t, err, "%v", test.args)
			assert.Equal(t, test.want, got, "%v", test.args)
		}

		took, err := c.Ping(ctx)
		require.NoError(t, err)
		assert.Positive(t, took)
	})
}

func TestCredentials(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		secured := redisserver.Start(t, redisserver.Options{
			Version: version, Password: "s3cret",
			Config: []string{"user reader on >readpw ~* +get +ping"},
		})
		unsecured := redisserver.Start(t, redisserver.Options{Version: version})
		for name, test := range map[string]struct {
			server         *redisserver.Server
			user, password string
			wantUnused     bool
			wantCode       string // of the refusal
		}{
			"right password":     {server: secured, password: "s3cret"},
			"wrong password":     {server: secured, password: "wr0ng", wantCode: "WRONGPASS"},
			"no password given":  {server: secured, wantCode: "NOAUTH"},
			"user":               {server: secured, user: "reader", password: "readpw"},
			"wrong user":         {server: secured, user: "nobody", password: "wr0ng", wantCode: "WRONGPASS"},
			"no password needed": {server: unsecured, password: "s3cret", wantUnused: true},
		} {
			t.Run(name, func(t *testing.T) {
				o := optionsOf(test.server)
				o.Username, o.Password = test.user, test.password
				c := open(t, o)
				err := c.Connect(t.Context())
				assert.Equal(t, test.wantUnused, c.PasswordUnused())
				if test.wantCode == "" {
					require.NoError(t, err)
					_, err = c.Do(t.Context(), "GET", "k")
					require.NoError(t, err)
					return
				}
				assertReply(t, err, operation.Denied, test.wantCode)
				assert.NotContains(t, err.Error(), "wr0ng")
			})
		}
		t.Run("command not allowed", func(t *testing.T) {
			o := optionsOf(secured)
			o.Username, o.Password = "reader", "readpw"
			_, err := open(t, o).ConfigGet(t.Context(), "*")
			assertReply(t, err, operation.Denied, "NOPERM")
			assert.Contains(t, err.Error(), "CONFIG GET")
		})
	})
}

func assertReply(t *testing.T, err error, kind operation.Kind, code string) {
	t.Helper()
	require.Error(t, err)
	var reply *redisconn.ReplyError
	require.ErrorAs(t, err, &reply)
	assert.Equal(t, code, reply.Code(), "%v", err)
	var e *operation.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, kind, e.Kind, "%v", err)
	assert.NotEmpty(t, e.Object)
	assert.NotEmpty(t, e.Phase)
}

func TestRenamedCommands(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := redisserver.Start(t, redisserver.Options{Version: version, Password: "s3cret", Config: []string{
			"rename-command CONFIG cfg-7f3a", "rename-command FLUSHALL \"\"", "rename-command KEYS \"\"",
		}})
		o := optionsOf(s)
		o.Renames = redis.Renames{"CONFIG": "cfg-7f3a", "FLUSHALL": ""}
		c := open(t, o)
		values, err := c.ConfigGet(t.Context(), "port")
		require.NoError(t, err)
		assert.Contains(t, values, "port")

		for _, args := range [][]any{{"FLUSHALL", "s3cret"}, {"KEYS", "s3cret"}, {"CONFIG", "NONSENSE"}} {
			_, err = c.Do(t.Context(), args...)
			require.ErrorIs(t, err, operation.ErrNoCommand, "%v", args)
			assert.Equal(t, operation.Failed, operation.KindOf(err))
			assert.NotContains(t, err.Error(), "s3cret", "the server quotes arguments")
		}
	})
}

// A server that does not know AUTH quotes its arguments in the error.
func TestPasswordStaysSecretWhenAuthIsUnknown(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := redisserver.Start(t, redisserver.Options{Version: version, Config: []string{"rename-command AUTH auth-7f3a"}})
		o := optionsOf(s)
		o.Password = "s3cret"
		err := open(t, o).Connect(t.Context())
		require.ErrorIs(t, err, operation.ErrNoCommand)
		assert.Contains(t, err.Error(), "authenticating")
		assert.NotContains(t, err.Error(), "s3cret")

		o.Renames = redis.Renames{"AUTH": "auth-7f3a"}
		c := open(t, o)
		require.NoError(t, c.Connect(t.Context()))
		assert.True(t, c.PasswordUnused())
	})
}

func TestTLS(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		s := redisserver.Start(t, redisserver.Options{Version: version, Password: "s3cret", TLS: true})
		files := redisconn.TLSFiles{CA: s.TLS.CAFile, Cert: s.TLS.CertFile, Key: s.TLS.KeyFile}
		for name, change := range map[string]struct {
			files   func(f *redisconn.TLSFiles)
			wantErr string
		}{
			"verified by host":  {files: func(*redisconn.TLSFiles) {}},
			"verified by name":  {files: func(f *redisconn.TLSFiles) { f.ServerName = "localhost" }},
			"wrong name":        {files: func(f *redisconn.TLSFiles) { f.ServerName = "redis.example" }, wantErr: "redis.example"},
			"unknown authority": {files: func(f *redisconn.TLSFiles) { f.CA = "" }, wantErr: "unknown authority"},
			"insecure":          {files: func(f *redisconn.TLSFiles) { f.CA = ""; f.Insecure = true }},
			// The server's alert and its RST race.
			"no client certificate": {files: func(f *redisconn.TLSFiles) { f.Cert, f.Key = "", "" }, wantErr: "connecting"},
		} {
			t.Run(name, func(t *testing.T) {
				f := files
				change.files(&f)
				config, err := f.Load()
				require.NoError(t, err)
				connector := redisconn.Connector{Dial: redisconn.DialInstance, TLS: config, Credentials: always("", "s3cret")}
				server, err := connect(t, connector, s.Addr)
				if change.wantErr != "" {
					require.ErrorContains(t, err, change.wantErr)
					return
				}
				require.NoError(t, err)
				_, err = server.Info(t.Context())
				require.NoError(t, err)
			})
		}
	})
}

func always(user, password string) func(context.Context, *operation.Deployment) (string, string, error) {
	return func(context.Context, *operation.Deployment) (string, string, error) { return user, password, nil }
}

// connect resolves an address and connects to it.
func connect(t *testing.T, c redisconn.Connector, address string) (operation.Server, error) {
	t.Helper()
	d, err := redisconn.Addresses{}.Resolve(t.Context(), operation.Target{Addresses: []string{address}})
	require.NoError(t, err)
	server, err := c.Connect(t.Context(), d, d.Instances[0])
	if err == nil {
		t.Cleanup(func() { assert.NoError(t, server.Close()) })
	}
	return server, err
}

func TestHangingServer(t *testing.T) {
	s := redisserver.Start(t, redisserver.Options{Version: redisserver.Versions(t)[1]})
	o := optionsOf(s)
	o.Timeout = 100 * time.Millisecond
	for name, connected := range map[string]bool{"open connection": true, "new connection": false} {
		t.Run(name, func(t *testing.T) {
			c := open(t, o)
			if connected {
				require.NoError(t, c.Connect(t.Context()))
			}
			s.Signal(syscall.SIGSTOP)
			defer s.Signal(syscall.SIGCONT)
			start := time.Now()
			_, err := c.Info(t.Context())
			assert.Equal(t, operation.TimedOut, operation.KindOf(err), "%v", err)
			assert.ErrorContains(t, err, "no answer within 100ms")
			assert.Less(t, time.Since(start), soon)
		})
	}

	s.Signal(syscall.SIGSTOP)
	defer s.Signal(syscall.SIGCONT)
	o.Timeout = time.Hour
	t.Run("cancelled", func(t *testing.T) {
		c := open(t, o)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		start := time.Now()
		_, err := c.Info(ctx)
		assert.Equal(t, operation.Interrupted, operation.KindOf(err), "%v", err)
		assert.Less(t, time.Since(start), soon)
	})
	t.Run("lease lost", func(t *testing.T) {
		c := open(t, o)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(operation.ErrLeaseLost)
		_, err := c.Info(ctx)
		require.ErrorIs(t, err, operation.ErrLeaseLost)
		assert.Equal(t, operation.Interrupted, operation.KindOf(err))
	})
	t.Run("deadline", func(t *testing.T) {
		c := open(t, o)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := c.Info(ctx)
		assert.Equal(t, operation.TimedOut, operation.KindOf(err), "%v", err)
	})
	t.Run("closed", func(t *testing.T) {
		c := open(t, o)
		time.AfterFunc(20*time.Millisecond, func() { assert.NoError(t, c.Close()) })
		_, err := c.Info(t.Context())
		assert.Equal(t, operation.Failed, operation.KindOf(err), "%v", err)
		_, err = c.Info(t.Context())
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestUnreachableServer(t *testing.T) {
	s := redisserver.Start(t, redisserver.Options{Version: redisserver.Versions(t)[1]})
	p := faultproxy.Start(t, s.Addr, faultproxy.Options{})
	o := optionsOf(s)
	o.Dial = p.Dial
	c := open(t, o)
	p.Refuse()
	_, err := c.Info(t.Context())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	assert.ErrorContains(t, err, "connecting")
	assert.Equal(t, operation.Failed, operation.KindOf(err))
	p.Accept()
	_, err = c.Info(t.Context())
	require.NoError(t, err, "the client must recover with the server")

	t.Run("dial hangs", func(t *testing.T) {
		o := o
		o.DialTimeout = 50 * time.Millisecond
		o.Dial = func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		err := open(t, o).Connect(t.Context())
		assert.Equal(t, operation.TimedOut, operation.KindOf(err), "%v", err)
		assert.ErrorContains(t, err, "connecting: no answer within 50ms")
	})
}

// Commands may have been carried out when their connection breaks, so only
// questions are repeated.
func TestDeadPooledConnection(t *testing.T) {
	s := redisserver.Start(t, redisserver.Options{Version: redisserver.Versions(t)[1]})
	o := optionsOf(s)
	o.Dial = func(ctx context.Context) (net.Conn, error) {
		conn, err := s.Dial(ctx)
		// go-redis looks into idle TCP sockets, but not into streams through
		// Kubernetes: those turn out to be dead only when they are used.
		return struct{ net.Conn }{conn}, err
	}
	c := open(t, o)
	ctx := t.Context()
	for name, test := range map[string]struct{ call func() error }{
		"INFO":       {call: func() error { _, err := c.Info(ctx); return err }},
		"CONFIG GET": {call: func() error { _, err := c.ConfigGet(ctx, "port"); return err }},
		"PING":       {call: func() error { _, err := c.Ping(ctx); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, c.Connect(ctx))
			require.NoError(t, s.Client().Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err())
			require.NoError(t, test.call())
		})
	}
	t.Run("a write is sent once", func(t *testing.T) {
		p := faultproxy.Start(t, s.Addr, faultproxy.Options{})
		o := optionsOf(s)
		o.Dial = p.Dial
		require.NoError(t, s.Client().Set(ctx, "n", 0, 0).Err())
		// The reply to HELLO passes, the one to INCR does not.
		require.NoError(t, open(t, o).Connect(ctx))
		hello := p.ToClient() - int64(len("+PONG\r\n"))
		p.Set(faultproxy.Options{ToClient: faultproxy.Faults{Action: faultproxy.RST, After: hello}})
		_, err := open(t, o).Do(ctx, "INCR", "n")
		require.Error(t, err)
		n, err := s.Client().Get(ctx, "n").Int()
		require.NoError(t, err)
		assert.LessOrEqual(t, n, 1)
	})
}

func TestServersThatCannotAnswerNow(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		t.Run("BUSY", func(t *testing.T) {
			s := redisserver.Start(t, redisserver.Options{Version: version, Config: []string{"lua-time-limit 10"}})
			c := open(t, optionsOf(s))
			var script sync.WaitGroup
			script.Go(func() { _ = s.Client().Eval(t.Context(), "while true do end", nil).Err() })
			var err error
			require.Eventually(t, func() bool {
				_, err = c.Do(t.Context(), "GET", "k")
				return err != nil
			}, soon, time.Millisecond)
			assertReply(t, err, operation.Failed, "BUSY")
			assert.NoError(t, c.Connect(t.Context()), "a busy server is connected")
			_, err = c.Do(t.Context(), "SCRIPT", "KILL")
			require.NoError(t, err)
			script.Wait()
		})
		t.Run("MASTERDOWN", func(t *testing.T) {
			primary := redisserver.Start(t, redisserver.Options{Version: version})
			replica := redisserver.Start(t, redisserver.Options{
				Version: version, ReplicaOf: primary, Config: []string{"replica-serve-stale-data no"},
			})
			replica.WaitInSync()
			primary.Kill()
			c := open(t, optionsOf(replica))
			var err error
			require.Eventually(t, func() bool {
				_, err = c.Do(t.Context(), "GET", "k")
				return err != nil
			}, soon, time.Millisecond)
			assertReply(t, err, operation.Failed, "MASTERDOWN")
		})
	})
}

func TestLoadingServer(t *testing.T) {
	// The real thing lasts too short for a test; the reply is the same everywhere.
	dial := listen(t, func(conn net.Conn) {
		for buf := make([]byte, 4096); ; {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			if _, err := conn.Write([]byte("-LOADING Redis is loading the dataset in memory\r\n")); err != nil {
				return
			}
		}
	})
	c := open(t, redisconn.Options{Name: "server", Dial: dial})
	require.NoError(t, c.Connect(t.Context()))
	_, err := c.Info(t.Context())
	assertReply(t, err, operation.Failed, "LOADING")
}

func TestConcurrentCalls(t *testing.T) {
	s := redisserver.Start(t, redisserver.Options{Version: redisserver.Versions(t)[1]})
	c := open(t, optionsOf(s))
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			_, err := c.Info(t.Context())
			assert.NoError(t, err)
		})
	}
	calls.Wait()
}

func TestNotARedisServer(t *testing.T) {
	dial := listen(t, func(conn net.Conn) { _, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) })
	err := open(t, redisconn.Options{Name: "server", Dial: dial}).Connect(t.Context())
	require.Error(t, err)
	assert.Equal(t, operation.Failed, operation.KindOf(err))
	assert.False(t, errors.Is(err, context.Canceled))
}

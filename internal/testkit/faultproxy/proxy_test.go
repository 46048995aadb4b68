package faultproxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/redisctl/redisctl/internal/testkit/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo starts a server that sends back what it gets, and ends when its client does.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

func dial(t *testing.T, p *faultproxy.Proxy) *net.TCPConn {
	t.Helper()
	conn, err := p.Dial(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	tcp, ok := conn.(*net.TCPConn)
	require.True(t, ok)
	require.NoError(t, tcp.SetDeadline(time.Now().Add(10*time.Second)))
	return tcp
}

func message(n int) []byte { return bytes.Repeat([]byte("0123456789"), n/10+1)[:n] }

func TestPassForwardsBothWaysAndEnds(t *testing.T) {
	p := faultproxy.Start(t, echo(t), faultproxy.Options{})
	conn := dial(t, p)
	_, err := conn.Write(message(100_000))
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, message(100_000), got)
	assert.EqualValues(t, 100_000, p.ToClient())
	assert.EqualValues(t, 100_000, p.ToServer())
	assert.False(t, p.HasFired())
}

func TestFaultsAtExactPositions(t *testing.T) {
	target := echo(t)
	for _, after := range []int64{0, 1, 7, 999} {
		for name, test := range map[string]struct {
			action faultproxy.Action
			check  func(t *testing.T, err error)
		}{
			"FIN":   {faultproxy.FIN, func(t *testing.T, err error) { require.NoError(t, err) }},
			"RST":   {faultproxy.RST, func(t *testing.T, err error) { require.ErrorIs(t, err, syscall.ECONNRESET) }},
			"stall": {faultproxy.Stall, func(t *testing.T, err error) { require.ErrorIs(t, err, os.ErrDeadlineExceeded) }},
		} {
			t.Run(name, func(t *testing.T) {
				p := faultproxy.Start(t, target, faultproxy.Options{ToClient: faultproxy.Faults{Action: test.action, After: after}})
				if after == 0 && test.action == faultproxy.RST {
					// It may come before dialling is done.
					conn, err := p.Dial(t.Context())
					if err == nil {
						_, err = conn.Read(make([]byte, 1))
						require.NoError(t, conn.Close())
					}
					test.check(t, err)
					return
				}
				conn := dial(t, p)
				if after > 0 { // else the connection may be gone before the write
					_, err := conn.Write(message(1000))
					require.NoError(t, err)
				}
				<-p.Fired()
				if test.action == faultproxy.Stall {
					require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
				}
				got, err := io.ReadAll(conn)
				test.check(t, err)
				assert.Equal(t, message(1000)[:after], got)
			})
		}
	}
}

func TestFaultTowardsTheServer(t *testing.T) {
	p := faultproxy.Start(t, echo(t), faultproxy.Options{ToServer: faultproxy.Faults{Action: faultproxy.Stall, After: 5}})
	conn := dial(t, p)
	_, err := conn.Write(message(10))
	require.NoError(t, err)
	got := make([]byte, 5)
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	assert.Equal(t, message(5), got)
	assert.EqualValues(t, 5, p.ToServer())
}

func TestRateAndLatencyDelayButKeepTheBytes(t *testing.T) {
	for name, faults := range map[string]faultproxy.Faults{
		"rate":    {Rate: 100_000},
		"latency": {Latency: 30 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			p := faultproxy.Start(t, echo(t), faultproxy.Options{ToClient: faults})
			conn := dial(t, p)
			start := time.Now()
			_, err := conn.Write(message(5000))
			require.NoError(t, err)
			require.NoError(t, conn.CloseWrite())
			got, err := io.ReadAll(conn)
			require.NoError(t, err)
			assert.Equal(t, message(5000), got)
			assert.GreaterOrEqual(t, time.Since(start), 30*time.Millisecond)
		})
	}
}

func TestRefuseAndAccept(t *testing.T) {
	p := faultproxy.Start(t, echo(t), faultproxy.Options{})
	p.Refuse()
	_, err := p.Dial(t.Context())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	p.Accept()
	dial(t, p)
}

func TestSetChangesConnectionsToCome(t *testing.T) {
	p := faultproxy.Start(t, echo(t), faultproxy.Options{ToClient: faultproxy.Faults{Action: faultproxy.FIN}})
	_, err := dial(t, p).Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	p.Set(faultproxy.Options{})
	conn := dial(t, p)
	_, err = conn.Write([]byte("x"))
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	require.NoError(t, err)
}

func TestDialHonoursItsContext(t *testing.T) {
	p := faultproxy.Start(t, echo(t), faultproxy.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Dial(ctx)
	require.True(t, errors.Is(err, context.Canceled), "%v", err)
}

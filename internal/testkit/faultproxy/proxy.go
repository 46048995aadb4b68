// Package faultproxy is a TCP proxy on the loopback interface that forwards to a
// server and injects the faults of real networks at exact positions of the byte
// stream: connections that end (FIN) or break (RST), fall silent, are slow, or
// are refused.
//
// Nothing in it depends on timing except what is asked for in units of time
// (Rate, Latency): a fault at byte N happens after exactly N bytes have been
// forwarded, however they were packed into segments.
package faultproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Action is what happens to a connection when a direction reaches Faults.After.
type Action int

// The actions.
const (
	// Pass forwards everything.
	Pass Action = iota
	// FIN ends the connection towards both sides in an orderly way.
	FIN
	// RST breaks the connection towards both sides.
	RST
	// Stall forwards nothing more in this direction and keeps the connection open.
	Stall
)

// Faults says what happens to one direction of a connection. The zero value
// forwards everything at once.
type Faults struct {
	// Action happens when After bytes have been forwarded: before the first
	// byte if After is 0.
	Action Action
	After  int64
	// Rate limits the direction to this many bytes per second, 0 means no limit.
	Rate int64
	// Latency delays every byte; it does not limit the throughput.
	Latency time.Duration
}

// Options are the faults of both directions.
type Options struct {
	// ToClient are the faults of what the server sends.
	ToClient Faults
	// ToServer are the faults of what the client sends.
	ToServer Faults
}

// Proxy forwards connections to one server. It ends with the test.
type Proxy struct {
	// Addr is where it listens, on 127.0.0.1.
	Addr string

	t      testing.TB
	dial   func(ctx context.Context) (net.Conn, error)
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	toClient, toServer atomic.Int64
	faults             atomic.Int64
	fired              chan struct{}
	fire               func()

	mu       sync.Mutex
	options  Options // of the connections to come
	listener net.Listener
	conns    map[net.Conn]struct{}
}

// Start starts a proxy in front of target (host:port).
func Start(t testing.TB, target string, o Options) *Proxy {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	p := &Proxy{
		t: t, ctx: ctx, cancel: cancel, options: o,
		dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", target)
		},
		fired: make(chan struct{}),
		conns: make(map[net.Conn]struct{}),
	}
	p.fire = sync.OnceFunc(func() { close(p.fired) })
	p.listen("127.0.0.1:0")
	t.Cleanup(p.close)
	return p
}

// Set changes the faults of the connections that are opened from now on.
func (p *Proxy) Set(o Options) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.options = o
}

// Refuse makes the proxy's port refuse connections. Open ones are not touched.
func (p *Proxy) Refuse() {
	p.t.Helper()
	require.NoError(p.t, p.listener.Close())
}

// Accept undoes Refuse.
func (p *Proxy) Accept() {
	p.t.Helper()
	p.listen(p.Addr)
}

// Fired is closed when the first fault with an Action has happened.
func (p *Proxy) Fired() <-chan struct{} { return p.fired }

// HasFired reports whether a fault with an Action has happened.
func (p *Proxy) HasFired() bool {
	select {
	case <-p.fired:
		return true
	default:
		return false
	}
}

// Faults returns how many faults with an Action have happened.
func (p *Proxy) Faults() int64 { return p.faults.Load() }

// ToClient returns how many bytes were forwarded to clients, over all connections.
func (p *Proxy) ToClient() int64 { return p.toClient.Load() }

// ToServer returns how many bytes were forwarded to the server.
func (p *Proxy) ToServer() int64 { return p.toServer.Load() }

// Dial connects to the proxy.
func (p *Proxy) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", p.Addr)
}

func (p *Proxy) listen(address string) {
	p.t.Helper()
	listener, err := new(net.ListenConfig).Listen(p.ctx, "tcp", address)
	require.NoError(p.t, err)
	p.listener, p.Addr = listener, listener.Addr().String()
	p.wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			p.mu.Lock()
			options := p.options
			p.mu.Unlock()
			p.wg.Go(func() { p.serve(client, options) })
		}
	})
}

func (p *Proxy) close() {
	p.cancel()
	_ = p.listener.Close() // Refuse may have closed it
	p.mu.Lock()
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// track makes close end a connection; it closes it at once if that is over.
func (p *Proxy) track(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[conn] = struct{}{}
	if p.ctx.Err() != nil {
		_ = conn.Close()
	}
}

func (p *Proxy) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
	_ = conn.Close()
}

// serve forwards one connection until both directions have ended.
func (p *Proxy) serve(client net.Conn, o Options) {
	p.track(client)
	defer p.forget(client)
	server, err := p.dial(p.ctx)
	if err != nil {
		breakOff(client)
		return
	}
	p.track(server)
	defer p.forget(server)

	end := func(action Action) {
		p.faults.Add(1)
		p.fire()
		switch action {
		case RST:
			breakOff(client)
			breakOff(server)
		case FIN:
			// Closing a socket that holds unread bytes would send RST, not FIN.
			halfClose(client)
			halfClose(server)
		}
	}
	var directions sync.WaitGroup
	directions.Go(func() { p.forward(client, server, o.ToClient, &p.toClient, end) })
	directions.Go(func() { p.forward(server, client, o.ToServer, &p.toServer, end) })
	directions.Wait()
}

// forward copies one direction. It returns when the source has ended or the
// destination no longer takes bytes; then it passes the end on.
func (p *Proxy) forward(dst, src net.Conn, f Faults, count *atomic.Int64, end func(Action)) {
	w := &faultWriter{ctx: p.ctx, dst: dst, faults: f, count: count, end: end}
	if f.Action != Pass && f.After == 0 {
		w.fault()
	}
	var err error
	if f.Latency > 0 {
		err = w.delayed(src)
	} else {
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{src}, make([]byte, 64<<10))
	}
	switch {
	case f.Action == Stall && w.faulted:
		// The destination must not learn that the source has ended.
	case isReset(err):
		breakOff(dst)
	default:
		halfClose(dst)
	}
}

// faultWriter writes to dst until the fault happens and drops what follows, so
// that the source is drained and its end is seen.
type faultWriter struct {
	ctx    context.Context
	dst    net.Conn
	faults Faults
	count  *atomic.Int64
	end    func(Action)

	written int64
	faulted bool
}

func (w *faultWriter) Write(b []byte) (int, error) {
	rest := b
	for len(rest) > 0 && !w.faulted {
		chunk := rest
		if w.faults.Action != Pass {
			chunk = chunk[:min(int64(len(chunk)), w.faults.After-w.written)]
		}
		if w.faults.Rate > 0 {
			// Chunks of a hundredth of a second keep the stream even.
			chunk = chunk[:min(int64(len(chunk)), max(1, w.faults.Rate/100))]
		}
		// Counted first, so that who has received a byte also finds it counted.
		w.count.Add(int64(len(chunk)))
		n, err := w.dst.Write(chunk)
		w.written += int64(n)
		w.count.Add(int64(n - len(chunk)))
		if err != nil {
			return len(b) - len(rest) + n, err
		}
		rest = rest[n:]
		if w.faults.Action != Pass && w.written == w.faults.After {
			w.fault()
		}
		if w.faults.Rate > 0 {
			w.wait(time.Duration(n) * time.Second / time.Duration(w.faults.Rate))
		}
	}
	return len(b), nil
}

func (w *faultWriter) fault() {
	w.faulted = true
	w.end(w.faults.Action)
}

func (w *faultWriter) wait(d time.Duration) {
	select {
	case <-w.ctx.Done():
	case <-time.After(d):
	}
}

// delayed copies src with the latency added to every chunk. Chunks travel side
// by side, so the latency does not limit the throughput.
func (w *faultWriter) delayed(src io.Reader) error {
	type chunk struct {
		bytes []byte
		due   time.Time
	}
	const inFlight = 1024
	chunks := make(chan chunk, inFlight)
	var readErr error
	go func() {
		defer close(chunks)
		for {
			b := make([]byte, 16<<10)
			n, err := src.Read(b)
			if n > 0 {
				chunks <- chunk{b[:n], time.Now().Add(w.faults.Latency)}
			}
			if err != nil {
				readErr = err
				return
			}
		}
	}()
	var writeErr error
	for c := range chunks {
		if writeErr != nil {
			continue // drains, so that the reader ends
		}
		w.wait(time.Until(c.due))
		_, writeErr = w.Write(c.bytes)
	}
	if errors.Is(readErr, io.EOF) {
		readErr = nil
	}
	return errors.Join(writeErr, readErr)
}

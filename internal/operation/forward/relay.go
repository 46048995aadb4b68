package forward

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// lingering is how long the server may be silent, after the client has said that it sends
// nothing more, until the connection is taken to be over.
const lingering = time.Second

// relay moves bytes between a client and a server.
type relay struct {
	client, server net.Conn
	to             place
	byServer       atomic.Bool
}

// close ends the relay.
func (r *relay) close() {
	_ = r.client.Close()
	_ = r.server.Close()
}

// endedByServer reports whether the server's side ended first.
func (r *relay) endedByServer() bool { return r.byServer.Load() }

// run returns when both directions have ended.
//
// The end of what a client sends is not handed on: the container runtime takes it for the
// end of both directions. Nor does it mean that the client wants no answer (printf | nc).
func (r *relay) run() {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, err := io.Copy(r.server, r.client)
		if err != nil {
			r.close()
			return
		}
		_ = r.server.SetReadDeadline(time.Now().Add(lingering))
	}()
	r.answer(sent)
	r.close()
	<-sent
}

func (r *relay) answer(sent <-chan struct{}) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := r.server.Read(buffer)
		if n > 0 {
			if _, writeErr := r.client.Write(buffer[:n]); writeErr != nil {
				return
			}
			select {
			case <-sent:
				_ = r.server.SetReadDeadline(time.Now().Add(lingering))
			default:
			}
		}
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
				r.byServer.Store(true)
			}
			return
		}
	}
}

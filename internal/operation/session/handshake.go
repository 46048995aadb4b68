package session

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// handshake passes the output of clientScript on once it says that it begins, and holds the
// input back until it says that it is ready. It is the io.Writer that gets that output.
type handshake struct {
	out   io.Writer
	ready chan struct{} // closed when the script is ready, or the session over

	mu    sync.Mutex
	seen  []byte // of the output before it begins
	asked bool
	begun bool
	over  bool
}

func newHandshake(out io.Writer) *handshake {
	return &handshake{out: out, ready: make(chan struct{})}
}

// Write implements io.Writer.
func (h *handshake) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.begun {
		return h.out.Write(p)
	}
	h.seen = append(h.seen, p...)
	if !h.asked && bytes.Contains(h.seen, []byte(markReady)) {
		h.asked = true
		close(h.ready)
	}
	_, rest, begins := bytes.Cut(h.seen, []byte(markBegin))
	if !begins {
		return len(p), nil
	}
	h.begun, h.seen = true, nil
	if len(rest) == 0 {
		return len(p), nil
	}
	if _, err := h.out.Write(rest); err != nil {
		return 0, err
	}
	return len(p), nil
}

// input returns from, held back until the script is ready. After the session there is
// nothing more to read.
func (h *handshake) input(from io.Reader) io.Reader { return heldBack{h, from} }

type heldBack struct {
	*handshake
	from io.Reader
}

// Read implements io.Reader.
func (r heldBack) Read(p []byte) (int, error) {
	<-r.ready
	r.mu.Lock()
	over := r.over
	r.mu.Unlock()
	if over {
		return 0, io.EOF
	}
	return r.from.Read(p)
}

// end lets a reader that waits go.
func (h *handshake) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	if !h.asked {
		h.asked = true
		close(h.ready)
	}
}

// hidden returns what was printed by a script that never began. When it had asked for the
// password, nothing: the terminal may have echoed it.
func (h *handshake) hidden() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.asked {
		return ""
	}
	return strings.TrimSpace(string(h.seen))
}

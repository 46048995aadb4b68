package kube

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// relayLimit is how long a relay may take to start and its server to answer.
const relayLimit = 5 * time.Second

// relayNoTool is the exit code of relayScript where the image has nothing to
// open a connection with.
const relayNoTool = 90

// relayScript joins its stdin and stdout to the address $1, port $2, with what
// the image has: bash in the Debian images, nc in the Alpine ones. It ends when
// either side hangs up, and leaves no process behind.
//
// In bash, the writer ends the reader when stdin ends, rather than the main
// shell both: after a cut, containerd kills the main process alone, and a reader
// that waits for Redis would stay for ever. Job control (-m) gives the writer's
// subshell a process group, by which it is ended together with its cat when the
// server hangs up. nc must be told to stop at the end of stdin where it does not
// do so by itself (OpenBSD: -N, traditional: -q).
const relayScript = `
if command -v bash >/dev/null 2>&1; then
	exec bash -c '
		exec 3<>"/dev/tcp/$1/$2" || exit 111
		exec 4<&0
		set -m
		cat <&3 2>/dev/null &
		reader=$!
		{ cat <&4 >&3 2>/dev/null; kill $reader; } 2>/dev/null &
		writer=$!
		wait $reader 2>/dev/null
		kill -- -$writer 2>/dev/null
		exit 0
	' relay "$1" "$2"
fi
if command -v nc >/dev/null 2>&1; then
	case "$(nc -h 2>&1)" in
	*-N*) exec nc -N "$1" "$2" ;;
	*-q*) exec nc -q 0 "$1" "$2" ;;
	*) exec nc "$1" "$2" ;;
	esac
fi
exit 90
`

// relayCommand returns the command line of a relay. It holds no secret: AUTH
// goes through the connection.
func relayCommand(host string, port int) []string {
	return []string{"sh", "-c", relayScript, "relay", host, strconv.Itoa(port)}
}

// relay connects to the pod's own address from inside the Redis container, over
// exec. It asks for a PONG before it returns, because an exec does not tell
// otherwise when it has begun.
func (t *tunnel) relay(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	// The relay lives until it is closed, not until dialling is done.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &conn{
		Conn:   near,
		remote: address(net.JoinHostPort(t.target.host, strconv.Itoa(t.target.port)) + " in " + t.String()),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		said := &firstBytes{limit: messageLimit}
		err := t.client.Exec(running, t.namespace, t.pod, t.target.container,
			relayCommand(t.target.host, t.target.port), onlyReader{far}, onlyWriter{far}, said)
		c.end(t.relayEnding(err, said.String()))
		_ = far.Close()
	}()
	c.hangUp = func() {
		wait(ended, closeGrace) // the end of its stdin ends the relay
		cancel()
		<-ended
	}
	if err := probe(ctx, c, relayLimit); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// relayEnding says why a relay ended, given what Exec returned and what the
// script wrote to stderr.
func (t *tunnel) relayEnding(err error, said string) error {
	var exit *ExitError
	switch {
	case err == nil:
		return io.EOF
	case errors.As(err, &exit) && exit.Code == relayNoTool:
		return &operation.Error{
			Kind:   operation.Failed,
			Object: "pod " + t.String(),
			Err:    fmt.Errorf("container %s has neither bash nor nc to relay a connection with", t.target.container),
			Next:   "let Redis listen on 127.0.0.1 as well (directive bind)",
		}
	case errors.As(err, &exit):
		// OpenBSD's nc fails without a word.
		return &ForwardError{Pod: t.String(), Message: cmp.Or(said, "relay: "+exit.Error())}
	default:
		return err
	}
}

// firstBytes keeps the beginning of what is written to it.
type firstBytes struct {
	bytes.Buffer
	limit int
}

// Write implements io.Writer. It never fails.
func (b *firstBytes) Write(p []byte) (int, error) {
	if room := b.limit - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

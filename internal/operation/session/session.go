// Package session opens interactive sessions in the containers of instances: redis-cli, or
// a shell.
//
// Arguments of a remote command reach the API server's audit log and everybody who sees the
// node's processes. So redis-cli's password, and the commands that it is given, go through
// the session's own input: a small script in the container reads them, before it becomes
// redis-cli.
package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
)

// Size of a terminal, in characters.
type Size struct{ Width, Height int }

// Streams are the local side of a session.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// TTY gives the remote side a terminal. Everything then comes through Out, and Sizes
	// delivers how large the local terminal is, at first and whenever that changes.
	TTY   bool
	Sizes <-chan Size
}

// Containers runs commands in containers.
type Containers interface {
	// Interact runs a command until it ends, or ctx does. A command that ended with another
	// code than 0 is an error with a method ExitCode() int.
	Interact(ctx context.Context, namespace, pod, container string, command []string, s Streams) error
}

// Options of a session.
type Options struct {
	// Shell opens a shell instead of redis-cli.
	Shell bool
	// Args are handed to the program. A shell's are visible in the cluster's audit log.
	Args []string
	// Password for redis-cli; empty for none.
	Password string
}

// exitNoClient is the exit code of clientScript where the image has no redis-cli.
const exitNoClient = 90

// Marks in the output of clientScript, for terminals: what comes before begin is not shown.
const (
	markReady = "\x1eredisctl-ready\x1e"
	markBegin = "\x1eredisctl-begin\x1e"
)

// clientScript reads the password, the number of arguments, and the arguments, a line each
// and encoded by encode, and becomes redis-cli. $1 is "tty" where there is a terminal, $2
// and $3 the server's host and port.
//
// On a terminal it asks for them when echo is off, and not line by line, which the kernel
// limits to 4096 bytes. What an image without stty echoes is not shown either.
const clientScript = `
cli=
for name in redis-cli valkey-cli; do
	if command -v "$name" >/dev/null 2>&1; then cli=$name; break; fi
done
[ -n "$cli" ] || exit 90
mode=$1 host=$2 port=$3
if [ "$mode" = tty ]; then
	saved=$(stty -g 2>/dev/null)
	stty -echo -icanon min 1 time 0 2>/dev/null
	printf '\036redisctl-ready\036'
fi
get() { IFS= read -r line || exit 91; value=$(printf '%bx' "$line"); value=${value%x}; }
get; password=$value
get; count=$value
set --
while [ "$count" -gt 0 ]; do get; set -- "$@" "$value"; count=$((count - 1)); done
if [ "$mode" = tty ]; then
	[ -n "$saved" ] && stty "$saved" 2>/dev/null
	printf '\036redisctl-begin\036'
fi
if [ -n "$password" ]; then REDISCLI_AUTH=$password; export REDISCLI_AUTH; fi
unset password value line
exec "$cli" -h "$host" -p "$port" "$@"
`

// shellScript becomes a shell, the best that the image has.
const shellScript = `if command -v bash >/dev/null 2>&1; then exec bash "$@"; fi; exec sh "$@"`

// Open runs a session with an instance until it ends. A program that ended with another
// code than 0 is an error with a method ExitCode() int.
func Open(ctx context.Context, c Containers, d *operation.Deployment, i operation.Instance, o Options, s Streams) error {
	if d.Workload == nil || i.Pod == nil {
		return &operation.Error{
			Kind: operation.Usage, Object: "server " + i.Name, Err: errors.New("is not a pod: there is no container to open a session in"),
			Next: fmt.Sprintf("redis-cli -h %s -p %d", i.Host, i.Port),
		}
	}
	if err := i.Down(); err != nil {
		return err
	}
	run := func(command []string, s Streams) error {
		return c.Interact(ctx, d.Namespace, i.Name, d.Workload.Container, command, s)
	}
	if o.Shell {
		return explain(d, i, run(append([]string{"sh", "-c", shellScript, "shell"}, o.Args...), s))
	}
	if err := checkArgs(o.Args); err != nil {
		return err
	}
	mode := "pipe"
	preamble := strings.NewReader(preamble(o))
	if !s.TTY {
		s.In = io.MultiReader(preamble, orEmpty(s.In))
		return explain(d, i, run(clientCommand(mode, d, i), s))
	}
	mode = "tty"
	h := newHandshake(s.Out)
	defer h.end()
	s.In, s.Out = h.input(io.MultiReader(preamble, orEmpty(s.In))), h
	err := run(clientCommand(mode, d, i), s)
	if said := h.hidden(); err != nil && said != "" && exitCode(err) != exitNoClient {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return explain(d, i, err)
}

func clientCommand(mode string, d *operation.Deployment, i operation.Instance) []string {
	return []string{"sh", "-c", clientScript, "redisctl", mode, host(d, i), strconv.Itoa(i.Port)}
}

func orEmpty(r io.Reader) io.Reader {
	if r == nil {
		return strings.NewReader("")
	}
	return r
}

// host is where redis-cli finds the server from inside of its pod: localhost, where a
// server without a password lets it in, unless it was told to listen elsewhere only.
func host(d *operation.Deployment, i operation.Instance) string {
	const local = "127.0.0.1"
	bind, ok := d.Config.Get("bind")
	if !ok || i.Host == "" {
		return local
	}
	for address := range strings.FieldsSeq(bind) {
		switch strings.TrimPrefix(address, "-") {
		case local, "localhost", "*", "0.0.0.0":
			return local
		}
	}
	return i.Host
}

// checkArgs refuses what would put a password into the argument list of a process.
func checkArgs(args []string) error {
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			return nil // the command itself begins
		}
		switch arg {
		case "-a", "--pass", "-u":
			return operation.Errorf(operation.Usage, "%s would show a password in the list of processes; redisctl hands the release's own over without that", arg)
		}
	}
	return nil
}

// preamble is what clientScript reads.
func preamble(o Options) string {
	lines := []string{encode(o.Password), strconv.Itoa(len(o.Args))}
	for _, arg := range o.Args {
		lines = append(lines, encode(arg))
	}
	return strings.Join(lines, "\n") + "\n"
}

// encode writes every byte that a shell or a terminal might treat specially as the escape
// sequence of printf's %b: a backslash, 0 and three octal digits.
func encode(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("._:/@+-=,", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\0%03o`, c)
		}
	}
	return b.String()
}

func exitCode(err error) int {
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// explain says what an operator can do where the image lacks what a session needs.
func explain(d *operation.Deployment, i operation.Instance, err error) error {
	if err == nil {
		return nil
	}
	e := &operation.Error{
		Kind: operation.Failed, Object: "pod " + d.Namespace + "/" + i.Name, Phase: "opening a session",
		Next: fmt.Sprintf("redisctl port-forward -n %s --to %s, and redis-cli on this machine", d.Namespace, i.Name),
	}
	text := err.Error()
	switch {
	case exitCode(err) == exitNoClient:
		e.Err = fmt.Errorf("container %s has no redis-cli and no valkey-cli", d.Workload.Container)
		return e
	case strings.Contains(text, `exec: "sh"`), strings.Contains(text, `"sh": executable file not found`):
		e.Err = fmt.Errorf("container %s has no shell: its image is minimal", d.Workload.Container)
		return e
	}
	return err
}

package kube

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
)

// readFileScript prints a file, or what follows a beginning that is here already,
// behind a line with its size and before its SHA-256. The file is opened once, so that
// everything is of the same file even when the server replaces it meanwhile, as it does
// at the end of every save; and everything is of the size that it has at first, so that
// the server may append.
//
// $1 is the path, $2 the most bytes, $3 and $4 are the length and the SHA-256 of what
// is here. While a digest is computed an empty line comes every second: files of many
// gigabytes would look like a stall otherwise.
const readFileScript = `exec 3<"$1" || exit 1
size=$(wc -c </proc/self/fd/3) || exit 1
[ -z "$2" ] || [ $size -le "$2" ] || size=$2
from=0
rest() {
  if [ $from = 0 ]; then head -c $size; else tail -c "+$((from + 1))" | head -c "$((size - from))"; fi
}
beat() { while sleep 1 >/dev/null 2>&1; do echo; done; }
digest() {
  beat & beating=$!
  sum=$("$@" </proc/self/fd/3 | sha256sum)
  ended=$?
  kill $beating
  wait $beating 2>/dev/null
  sum=${sum%% *}
  return $ended
}
if [ "$3" -gt 0 ] && [ "$3" -le $size ]; then
  digest head -c "$3" || exit 1
  [ "$sum" != "$4" ] || from=$3
fi
printf 'redisctl-file %s %s %s\n' $size $from "$(stat -L -c '%i %Y' /proc/self/fd/3 2>/dev/null)"
rest <&3
digest rest || exit 1
printf 'redisctl-sha256 %s\n' "$sum"`

// ReadFile implements backup.Files for the Redis container of an instance. The reader
// returns io.EOF only when the announced number of bytes has arrived and has the digest
// that was computed in the container: exec by itself reports success after a cut (see
// Exec). A transfer in which nothing comes for o.Stall ends with an error of kind
// TimedOut. The container needs sh, wc, head, tail and sha256sum; with stat, the file's
// state is known.
func (c *Client) ReadFile(
	parent context.Context, d *operation.Deployment, i operation.Instance, path string, o backup.ReadOptions,
) (operation.File, error) {
	command := []string{"sh", "-c", readFileScript, "sh", path, "", strconv.FormatInt(o.Have.Bytes, 10), o.Have.SHA256}
	if o.Limit > 0 {
		command[5] = strconv.FormatInt(o.Limit, 10)
	}
	ctx, cancel := context.WithCancelCause(parent)
	out, in := io.Pipe()
	f := &remoteFile{
		name: "pod " + d.Namespace + "/" + i.Name + ": " + path, ctx: ctx, cancel: cancel, out: out,
		reader: bufio.NewReaderSize(out, 256<<10), digest: sha256.New(), stall: o.Stall,
	}
	f.watchdog = time.AfterFunc(o.Stall, func() {
		cancel(fmt.Errorf("no byte for %s: %w", o.Stall, context.DeadlineExceeded))
	})
	go func() {
		said := firstBytes{limit: messageLimit}
		err := c.Exec(ctx, d.Namespace, i.Name, d.Workload.Container, command, nil, in, &said)
		var exit *ExitError
		if errors.As(err, &exit) && said.Len() > 0 {
			err = errors.New(firstLine(said.String()))
			// As strerror, bash, dash and BusyBox put it.
			if strings.Contains(strings.ToLower(said.String()), "no such file") {
				err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
			}
		}
		in.CloseWithError(err) // nil means io.EOF
	}()
	if err := f.begin(); err != nil {
		_ = f.Close() // the first error counts
		return nil, err
	}
	return f, nil
}

// remoteFile reads what readFileScript prints.
type remoteFile struct {
	name       string
	ctx        context.Context //nolint:containedctx // it is the life of the transfer, as in net/http's bodies
	cancel     context.CancelCauseFunc
	out        *io.PipeReader
	reader     *bufio.Reader
	digest     hash.Hash
	size, left int64
	offset     int64
	state      operation.FileState
	stall      time.Duration
	watchdog   *time.Timer
	done       bool
}

// Size implements operation.File.
func (f *remoteFile) Size() int64 { return f.size }

// Offset implements operation.File.
func (f *remoteFile) Offset() int64 { return f.offset }

// State implements operation.File.
func (f *remoteFile) State() operation.FileState { return f.state }

// Close ends the transfer.
func (f *remoteFile) Close() error {
	f.watchdog.Stop()
	f.cancel(nil)
	return f.out.Close()
}

func (f *remoteFile) begin() error {
	value, err := f.line("redisctl-file ")
	if err != nil {
		return f.failed(err)
	}
	fields := strings.Fields(value)
	if len(fields) < 2 {
		return f.failed(fmt.Errorf("the container announced %q", value))
	}
	size, err := strconv.ParseInt(fields[0], 10, 64)
	offset, offsetErr := strconv.ParseInt(fields[1], 10, 64)
	if err != nil || offsetErr != nil || offset < 0 || size < offset {
		return f.failed(fmt.Errorf("the container announced the size %q and the offset %q", fields[0], fields[1]))
	}
	f.size, f.offset, f.left = size, offset, size-offset
	if len(fields) == 4 {
		f.state = operation.FileState{Inode: fields[2], Modified: fields[3]}
	}
	return nil
}

// Read implements io.Reader, see Client.ReadFile.
func (f *remoteFile) Read(p []byte) (int, error) {
	if f.done {
		return 0, io.EOF
	}
	if f.left == 0 {
		return 0, f.finish()
	}
	n, err := f.reader.Read(p[:min(int64(len(p)), f.left)])
	if n > 0 {
		f.watchdog.Reset(f.stall)
		f.digest.Write(p[:n])
		f.left -= int64(n)
		return n, nil
	}
	if err != nil {
		return 0, f.failed(err)
	}
	return 0, nil
}

// finish compares the digests.
func (f *remoteFile) finish() error {
	want, err := f.line("redisctl-sha256 ")
	if err != nil {
		return f.failed(err)
	}
	if got := hex.EncodeToString(f.digest.Sum(nil)); got != want {
		return &operation.Error{
			Kind: operation.Corrupt, Object: f.name, Phase: "copying",
			Err: fmt.Errorf("SHA-256 in the container is %.64s, of what arrived %s", want, got),
		}
	}
	f.done = true
	f.watchdog.Stop()
	return io.EOF
}

// line reads a short line of the framing, and those before it that only say that the
// container is busy.
func (f *remoteFile) line(prefix string) (string, error) {
	for {
		text, err := f.reader.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		f.watchdog.Reset(f.stall)
		text = bytes.TrimSpace(text)
		if len(text) == 0 {
			continue
		}
		value, ok := bytes.CutPrefix(text, []byte(prefix))
		if !ok {
			return "", fmt.Errorf("unexpected output of the container: %.80q", text)
		}
		return string(value), nil
	}
}

// failed explains a transfer that ended early.
func (f *remoteFile) failed(err error) error {
	e := &operation.Error{Kind: operation.KindOf(err), Object: f.name, Phase: "copying", Err: err}
	var known *operation.Error
	switch cause := context.Cause(f.ctx); {
	case errors.Is(cause, context.DeadlineExceeded), errors.Is(cause, operation.ErrLeaseLost):
		e.Kind, e.Err = operation.KindOf(cause), cause
		if errors.Is(cause, operation.ErrLeaseLost) {
			e.Kind = operation.Interrupted
		}
	case errors.Is(err, io.EOF):
		e.Err = fmt.Errorf("%w after %d of %d bytes", io.ErrUnexpectedEOF, f.size-f.left, f.size)
	case errors.As(err, &known):
		return known
	}
	return e
}

// FreeSpace returns the free bytes of the file system that holds path in the
// Redis container, as df reports them. The container needs df.
func (c *Client) FreeSpace(ctx context.Context, d *operation.Deployment, i operation.Instance, path string) (int64, error) {
	_, free, err := c.Space(ctx, d, i, path)
	return free, err
}

// Space implements check.Cluster like FreeSpace.
func (c *Client) Space(parent context.Context, d *operation.Deployment, i operation.Instance, path string) (size, free int64, err error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	out, said := firstBytes{limit: messageLimit}, firstBytes{limit: messageLimit}
	err = c.Exec(ctx, d.Namespace, i.Name, d.Workload.Container, []string{"df", "-Pk", path}, nil, &out, &said)
	if err != nil {
		return 0, 0, err
	}
	if size, free, err = fileSystem(out.String()); err != nil {
		return 0, 0, fmt.Errorf("%s/%s: %w", d.Namespace, i.Name, err)
	}
	return size, free, nil
}

// lockTTL is how long the lock outlives a process that was killed.
const lockTTL = 30 * time.Second

// Lock implements operation.Locker with a Lease named after the workload.
func (c *Client) Lock(ctx context.Context, d *operation.Deployment) (context.Context, func(), error) {
	held, release, err := c.Acquire(ctx, d.Namespace, d.Name, Holder(), lockTTL)
	if err != nil {
		return nil, nil, err
	}
	// A Lease that cannot be given back expires.
	return held, func() { _ = release() }, nil
}

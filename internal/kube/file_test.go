package kube

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
)

// received returns a file whose container printed output and then ended with err.
func received(t *testing.T, output string, err error, stall time.Duration) *remoteFile {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	out, in := io.Pipe()
	f := &remoteFile{
		name: "pod prod/cache-redis-0: /data/dump.rdb", ctx: ctx, cancel: cancel, out: out,
		reader: bufio.NewReader(out), digest: sha256.New(), stall: stall,
	}
	f.watchdog = time.AfterFunc(stall, func() {
		cancel(fmt.Errorf("no byte for %s: %w", stall, context.DeadlineExceeded))
		_ = out.CloseWithError(context.Canceled)
	})
	t.Cleanup(func() { _ = f.Close() })
	go func() {
		_, _ = io.WriteString(in, output)
		if !errors.Is(err, errSilence) {
			_ = in.CloseWithError(err)
		}
	}()
	return f
}

var errSilence = errors.New("the container says nothing more")

func contents(f *remoteFile) ([]byte, error) {
	if err := f.begin(); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

func framed(content, digest string) string {
	return fmt.Sprintf("redisctl-size %d\n%sredisctl-sha256 %s\n", len(content), content, digest)
}

func TestFileArrivesWhole(t *testing.T) {
	for _, content := range []string{"", "x", strings.Repeat("redis\n", 100_000)} {
		f := received(t, framed(content, fmt.Sprintf("%x", sha256.Sum256([]byte(content)))), nil, time.Minute)
		got, err := contents(f)
		require.NoError(t, err)
		assert.Equal(t, content, string(got))
		assert.EqualValues(t, len(content), f.Size())
	}
}

// TestFileCutAnywhere: exec may report success after a cut, so that the end of the
// output proves nothing.
func TestFileCutAnywhere(t *testing.T) {
	const content = "REDIS0010 and more"
	whole := framed(content, fmt.Sprintf("%x", sha256.Sum256([]byte(content))))
	for n := range len(whole) {
		for _, end := range []error{nil, errors.New("connection reset")} {
			_, err := contents(received(t, whole[:n], end, time.Minute))
			require.Error(t, err, "cut after %d bytes, then %v", n, end)
		}
	}
}

func TestFileWithAnotherDigestIsCorrupt(t *testing.T) {
	_, err := contents(received(t, framed("content", strings.Repeat("0", 64)), nil, time.Minute))
	assert.Equal(t, operation.Corrupt, operation.KindOf(err))
	assert.ErrorContains(t, err, "SHA-256")
}

func TestFileThatStalls(t *testing.T) {
	_, err := contents(received(t, "redisctl-size 10\nREDIS", errSilence, 50*time.Millisecond))
	assert.Equal(t, operation.TimedOut, operation.KindOf(err), "%v", err)
	assert.ErrorContains(t, err, "no byte for 50ms")
}

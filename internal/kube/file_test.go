package kube

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
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
	return fmt.Sprintf("redisctl-file %d 0 77 1700000000\n%sredisctl-sha256 %s\n", len(content), content, digest)
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
	_, err := contents(received(t, "redisctl-file 10 0\nREDIS", errSilence, 50*time.Millisecond))
	assert.Equal(t, operation.TimedOut, operation.KindOf(err), "%v", err)
	assert.ErrorContains(t, err, "no byte for 50ms")
}

// scripted runs readFileScript on this machine, with the shells that containers have.
func scripted(t *testing.T, shell []string, path, limit string, have int64, digest string) (*remoteFile, []byte, error) {
	t.Helper()
	args := slices.Concat(shell[1:], []string{"-c", readFileScript, "sh", path, limit, strconv.FormatInt(have, 10), digest})
	cmd := exec.CommandContext(t.Context(), shell[0], args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	require.NoError(t, err, said.String())
	f := received(t, string(out), nil, time.Minute)
	got, err := contents(f)
	return f, got, err
}

func TestScriptGoesOnWhereWhatIsHereEnds(t *testing.T) {
	content := strings.Repeat("redis\n", 100_000)
	path := filepath.Join(t.TempDir(), "dump rdb")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	info, err := os.Stat(path)
	require.NoError(t, err)
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	for _, shell := range [][]string{{"sh"}, {"bash", "--posix"}} {
		for name, c := range map[string]struct {
			limit  string
			have   int64
			digest string
			offset int64
			want   string
		}{
			"anew":                     {want: content},
			"limited":                  {limit: "10", want: content[:10]},
			"limit beyond the end":     {limit: "9999999999", want: content},
			"the beginning is here":    {have: 12345, digest: sum(content[:12345]), offset: 12345, want: content[12345:]},
			"all is here":              {have: int64(len(content)), digest: sum(content), offset: int64(len(content))},
			"other contents are here":  {have: 12345, digest: sum(content[1:12346]), want: content},
			"more is here":             {have: int64(len(content)) + 1, digest: sum(content + "r"), want: content},
			"more is here than wanted": {limit: "10", have: 12, digest: sum(content[:12]), want: content[:10]},
		} {
			t.Run(shell[0]+" "+name, func(t *testing.T) {
				f, got, err := scripted(t, shell, path, c.limit, c.have, c.digest)
				require.NoError(t, err)
				assert.Equal(t, c.offset, f.Offset())
				assert.True(t, c.want == string(got), "%d bytes", len(got))
				assert.Equal(t, operation.FileState{
					Inode: strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10), Modified: strconv.FormatInt(info.ModTime().Unix(), 10),
				}, f.State())
			})
		}
	}
}

// While a container computes a digest it says that it is alive.
func TestFileOfABusyContainer(t *testing.T) {
	const content = "redis"
	digest := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	f := received(t, "\n\nredisctl-file 5 0 \n"+content+"\n\n\nredisctl-sha256 "+digest+"\n", nil, time.Minute)
	got, err := contents(f)
	require.NoError(t, err)
	assert.Equal(t, content, string(got))
	assert.Equal(t, operation.FileState{}, f.State())
	for _, announced := range []string{"5", "x 0", "5 x", "5 6", "-1 0", "5 -1"} {
		_, err := contents(received(t, "redisctl-file "+announced+"\n"+content, nil, time.Minute))
		require.ErrorContains(t, err, "the container announced", announced)
	}
}

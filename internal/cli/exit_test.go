package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// kinds lists all kinds of failure.
func kinds() []operation.Kind {
	var all []operation.Kind
	for k := operation.Failed; !strings.HasPrefix(k.String(), "Kind("); k++ {
		all = append(all, k)
	}
	return all
}

// TestExitCodesAreUniqueAndDocumented: each kind of failure has a code of its own, and
// docs/exit-codes.md lists exactly these codes.
func TestExitCodesAreUniqueAndDocumented(t *testing.T) {
	codes := map[int]string{exitCode(nil): "done"}
	for _, k := range kinds() {
		code := exitCode(operation.Errorf(k, "x"))
		assert.NotContains(t, codes, code, "%s has the code of %s", k, codes[code])
		codes[code] = k.String()
	}

	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "exit-codes.md"))
	require.NoError(t, err)
	documented := make(map[int]string)
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| (\w+) \|`).FindAllStringSubmatch(string(text), -1) {
		code, err := strconv.Atoi(row[1])
		require.NoError(t, err)
		assert.NotContains(t, documented, code, "documented twice")
		documented[code] = row[2]
	}
	assert.Equal(t, codes, documented)
}

// TestExitCodeOfErrors: wrapping does not change the code, and packages that know
// nothing of operations are understood.
func TestExitCodeOfErrors(t *testing.T) {
	wrapped := func(err error) error { return fmt.Errorf("outer: %w", err) }
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{fs.ErrNotExist, 1},
		{wrapped(operation.Errorf(operation.Refused, "x")), 5},
		{outcome(operation.Unhealthy, "x"), 10},
		{outcome(operation.Corrupt, "x: %w", snapshot.ErrCorrupt), 4},
		{wrapped(rdb.ErrCorrupt), 4},
		{&rdb.FormatError{Kind: rdb.ErrTruncated}, 4},
		{&rdb.FormatError{Kind: rdb.ErrUnsupported}, 9},
		{wrapped(snapshot.ErrCorrupt), 4},
		{wrapped(snapshot.ErrUnsupported), 9},
		{operation.Errorf(operation.Failed, "%w", rdb.ErrCorrupt), 4},
		{wrapped(context.DeadlineExceeded), 7},
		{wrapped(context.Canceled), 130},
	} {
		assert.Equal(t, c.want, exitCode(c.err), "%v", c.err)
	}
}

func TestPrintError(t *testing.T) {
	full := &operation.Error{
		Kind: operation.Refused, Object: "prod/cache", Phase: "backup rdb", Err: errors.New("no space"),
		Unchanged: "nothing was changed", Next: "free some",
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("plain"), "error: plain\n"},
		{full, "error: prod/cache: backup rdb: no space\n  unchanged: nothing was changed\n  next: free some\n"},
		{outcome(operation.Unhealthy, "said already"), ""},
	} {
		var out bytes.Buffer
		printError(&out, c.err)
		assert.Equal(t, c.want, out.String())
	}
}

// TestInterruptedKeepsWhatIsUnchanged: after Ctrl-C the operator must know what state
// things are in.
func TestInterruptedKeepsWhatIsUnchanged(t *testing.T) {
	err := interrupted(fmt.Errorf("outer: %w", &operation.Error{
		Kind: operation.Failed, Object: "prod/cache", Phase: "receiving", Err: errors.New("connection closed"),
		Unchanged: "no backup was stored", Next: "try again",
	}))
	assert.Equal(t, 130, exitCode(err))
	var out bytes.Buffer
	printError(&out, err)
	assert.Equal(t, "error: prod/cache: receiving: interrupted\n  unchanged: no backup was stored\n  next: try again\n", out.String())
	assert.Equal(t, 130, exitCode(interrupted(errors.New("plain"))))
}

package filelock

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSecondWaitsForFirst(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sub", "lock")
	unlock, err := Lock(file, func() { t.Error("nobody to wait for") })
	require.NoError(t, err)

	waiting, locked := make(chan struct{}), make(chan error, 1)
	go func() {
		second, err := Lock(file, func() { close(waiting) })
		if err == nil {
			second()
		}
		locked <- err
	}()
	select {
	case <-waiting:
	case <-time.After(10 * time.Second):
		t.Fatal("the second did not say that it waits")
	}
	assert.Empty(t, locked, "the second must not get the lock yet")
	unlock()
	select {
	case err := <-locked:
		assert.NoError(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("the second did not get the lock")
	}
}

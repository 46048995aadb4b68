package rdbdiff

import (
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a comparison writes to the disk tells nothing of the keys: the backups may be
// encrypted.
func TestSpillIsEncrypted(t *testing.T) {
	s := newSpill(t.TempDir(), 0, new(pool))
	defer s.close()
	const records = 1000
	for i := range records {
		require.NoError(t, s.add(&record{name: fmt.Appendf(nil, "customer:%d", i), hash: [16]byte{7}}))
	}
	require.Greater(t, s.end, int64(2*bufferSize), "several pieces are on the disk")
	onDisk, err := io.ReadAll(io.NewSectionReader(s.file, 0, s.end))
	require.NoError(t, err)
	assert.NotContains(t, string(onDisk), "customer")
	assert.NotContains(t, string(onDisk), string(make([]byte, 16)), "not even what is zero in each record shows")

	b, err := s.read(7, nil)
	require.NoError(t, err)
	for i := range records {
		r := parseRecord(b)
		require.Equal(t, fmt.Sprintf("customer:%d", i), string(r.name))
		b = b[r.size():]
	}
	assert.Empty(t, b)
}

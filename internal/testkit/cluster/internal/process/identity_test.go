package process

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseStat(t *testing.T) {
	const rest = " 1 7 7 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 5 0 4711 123 456"
	for name, test := range map[string]struct {
		stat  string
		state byte
		ticks uint64
	}{
		"plain name":                  {"7 (redis-server) S" + rest, 'S', 4711},
		"name with space and bracket": {"7 (a) b (c) Z" + rest, 'Z', 4711},
	} {
		t.Run(name, func(t *testing.T) {
			state, ticks, err := parseStat(test.stat)
			require.NoError(t, err)
			assert.Equal(t, test.state, state)
			assert.Equal(t, test.ticks, ticks)
		})
	}
	for name, stat := range map[string]string{
		"empty":     "",
		"no name":   "7 S 1",
		"too short": "7 (x) S 1 2 3",
		"no number": "7 (x) S 1 7 7 0 -1 0 0 0 0 0 1 2 0 0 20 0 5 0 soon 1",
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := parseStat(stat)
			assert.ErrorIs(t, err, errStat)
		})
	}
}

func TestIdentifyOwnProcess(t *testing.T) {
	id, err := Identify(os.Getpid())
	require.NoError(t, err)
	assert.True(t, id.Alive())
}

func TestIdentifyNoProcess(t *testing.T) {
	_, err := Identify(1 << 30)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// A number that was given to another process must not be mistaken for the
// process that had it before.
func TestReusedNumberIsNotTheSameProcess(t *testing.T) {
	id, err := Identify(os.Getpid())
	require.NoError(t, err)
	for name, other := range map[string]Identity{
		"started at another time": {PID: id.PID, StartTicks: id.StartTicks - 1, Boot: id.Boot},
		"in another boot":         {PID: id.PID, StartTicks: id.StartTicks, Boot: "another"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.False(t, other.Alive())
			// Were it sent, the test would end here.
			assert.NoError(t, other.Signal(9))
		})
	}
}

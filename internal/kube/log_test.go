package kube

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
)

func TestEachLine(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"nothing":              {"", nil},
		"lines":                {"one\ntwo\r\n\nthree\n", []string{"one", "two", "", "three"}},
		"no end":               {"one\ntwo", []string{"one", "two"}},
		"a line of a megabyte": {strings.Repeat("a", 1<<20) + "\ntwo\n", []string{strings.Repeat("a", logLine), "two"}},
		"a long last line":     {"one\n" + strings.Repeat("a", 3*logLine), []string{"one", strings.Repeat("a", logLine)}},
	} {
		for _, reader := range []io.Reader{strings.NewReader(c.text), iotest.OneByteReader(strings.NewReader(c.text))} {
			var got []string
			require.NoError(t, eachLine(reader, func(line string) { got = append(got, line) }), name)
			assert.Equal(t, c.want, got, name)
		}
	}
	cut := errors.New("connection reset")
	var got []string
	err := eachLine(io.MultiReader(bytes.NewBufferString("one\n"), iotest.ErrReader(cut)), func(line string) { got = append(got, line) })
	require.ErrorIs(t, err, cut)
	assert.Equal(t, []string{"one"}, got)
}

// TestReadLog: client-go's fake answers every log with "fake logs".
func TestReadLog(t *testing.T) {
	client, _ := fakeClient(chart{namespace: "prod", release: "redis", fullName: "redis", replicas: 1}.objects())
	d, err := client.Resolve(t.Context(), operation.Target{Namespace: "prod", Release: "redis"})
	require.NoError(t, err)
	var got []string
	complete, err := client.ReadLog(t.Context(), d, d.Instances[0], 100, func(line string) { got = append(got, line) })
	require.NoError(t, err)
	assert.True(t, complete)
	assert.Equal(t, []string{"fake logs"}, got)
	complete, err = client.ReadLog(t.Context(), d, d.Instances[0], 8, func(string) {})
	require.NoError(t, err)
	assert.False(t, complete)
}

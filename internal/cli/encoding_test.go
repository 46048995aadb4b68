package cli

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
)

// terminal is an app that gets answers typed, and the prompts that it showed.
func onTerminal(answers ...string) (*app, *[]string) {
	prompts := new([]string)
	a := newApp(System{ReadSecret: func(prompt string) (string, error) {
		*prompts = append(*prompts, prompt)
		if len(answers) == 0 {
			return "", io.EOF
		}
		answer := answers[0]
		answers = answers[1:]
		return answer, nil
	}})
	return a, prompts
}

func TestPassphraseIsAskedTwice(t *testing.T) {
	o := encodingOptions{askPassphrase: true}
	a, prompts := onTerminal("one", "one")
	e, err := a.encoding(o, false)
	require.NoError(t, err)
	assert.Equal(t, []string{codec.Passphrase}, e.Names())
	assert.Equal(t, []string{"Passphrase for the backup: ", "The same again: "}, *prompts)

	a, _ = onTerminal("one", "other")
	_, err = a.encoding(o, false)
	require.ErrorContains(t, err, "the two passphrases differ")
	assert.Equal(t, operation.Usage, kind(err))
	a, _ = onTerminal("", "")
	_, err = a.encoding(o, false)
	require.ErrorContains(t, err, "the passphrase is empty")
	a, _ = onTerminal("one")
	_, err = a.encoding(o, false)
	require.ErrorIs(t, err, io.EOF)

	a, prompts = onTerminal()
	_, err = a.encoding(o, true)
	require.NoError(t, err)
	assert.Empty(t, *prompts, "a dry run needs no passphrase")
}

func TestPassphraseIsAskedWhenABackupNeedsIt(t *testing.T) {
	r, err := codec.PassphraseRecipient("words")
	require.NoError(t, err)
	var data bytes.Buffer
	w, err := codec.Encoding{Recipients: []codec.Recipient{r}}.NewWriter(&data)
	require.NoError(t, err)
	require.NoError(t, w.Close())

	a, prompts := onTerminal("words")
	keys, err := a.keys(keyOptions{})
	require.NoError(t, err)
	_, err = codec.NewReader(bytes.NewReader([]byte("REDIS0011")), keys)
	require.NoError(t, err)
	assert.Empty(t, *prompts)
	for range 2 { // two backups are compared, and one answer is enough
		_, err = codec.NewReader(bytes.NewReader(data.Bytes()), keys)
		require.NoError(t, err)
	}
	assert.Equal(t, []string{"Passphrase of the backup: "}, *prompts)

	keys, err = newApp(System{}).keys(keyOptions{})
	require.NoError(t, err)
	_, err = codec.NewReader(bytes.NewReader(data.Bytes()), keys)
	require.ErrorIs(t, err, codec.ErrKey, "there is nobody to ask")
	assert.Equal(t, operation.Denied, kind(err))
}

func TestPassphraseFile(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "passphrase")
	for _, c := range [][2]string{{"words", "words"}, {"words\n", "words"}, {"words\r\nmore\n", "words"}, {" two words \n", " two words "}} {
		require.NoError(t, os.WriteFile(file, []byte(c[0]), 0o600))
		got, err := passphraseOptions{file}.read()
		require.NoError(t, err)
		assert.Equal(t, c[1], got)
	}
	require.NoError(t, os.WriteFile(file, []byte("\nwords"), 0o600))
	_, err := passphraseOptions{file}.read()
	require.ErrorContains(t, err, "first line is empty")
	_, err = passphraseOptions{filepath.Join(folder, "hunter2")}.read()
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "hunter2", "it may have been given by mistake")
	_, err = newApp(System{}).keys(keyOptions{identities: []string{"AGE-SECRET-KEY-1SQLY0"}})
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "SQLY0")
	require.False(t, errors.Is(err, codec.ErrKey))
}

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
)

// encodingOptions say how a backup is stored.
type encodingOptions struct {
	compress       string
	encryptTo      []string
	recipientsFile []string
	passphrase     passphraseOptions
	askPassphrase  bool
}

func (o *encodingOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.compress, "compress", "none", "compress what is stored: none, zstd or zstd:LEVEL (fastest, default, better, or 1 to 9)")
	f.StringSliceVar(&o.encryptTo, "encrypt-to", nil, "encrypt what is stored to this public key: age1…, ssh-ed25519 … (repeatable)")
	f.StringSliceVar(&o.recipientsFile, "recipients-file", nil, "encrypt to the public keys in this file, one per line (repeatable)")
	o.passphrase.addFlags(cmd, "encrypt with the passphrase in this file")
	f.BoolVar(&o.askPassphrase, "ask-passphrase", false, "encrypt with a passphrase, asked for twice")
	words := []string{"none"}
	for _, level := range codec.Levels() {
		words = append(words, codec.Zstd+":"+level)
	}
	mustComplete(cmd, "compress", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	mustComplete(cmd, "encrypt-to", cobra.NoFileCompletions)
}

// encoding returns what the flags ask for. dryRun asks for no passphrase.
func (a *app) encoding(o encodingOptions, dryRun bool) (codec.Encoding, error) {
	var e codec.Encoding
	var err error
	if e.Level, err = codec.ParseCompression(o.compress); err != nil {
		return e, operation.Errorf(operation.Usage, "--compress: %w", err)
	}
	for i, name := range o.encryptTo {
		r, err := codec.ParseRecipient(name)
		if err != nil {
			return e, operation.Errorf(operation.Usage, "--encrypt-to, number %d: %w", i+1, err)
		}
		e.Recipients = append(e.Recipients, r)
	}
	for _, name := range o.recipientsFile {
		text, err := readKeyFile("--recipients-file", name)
		if err != nil {
			return e, err
		}
		found, err := codec.ParseRecipients(bytes.NewReader(text))
		if err != nil {
			return e, operation.Errorf(operation.Usage, "--recipients-file %s: %w", name, err)
		}
		e.Recipients = append(e.Recipients, found...)
	}
	if o.askPassphrase || o.passphrase.file != "" {
		r, err := a.newPassphrase(o, dryRun)
		if err != nil {
			return e, err
		}
		e.Recipients = append(e.Recipients, r)
	}
	if err := e.Check(); err != nil {
		return e, operation.Errorf(operation.Usage, "%w", err)
	}
	return e, nil
}

// newPassphrase returns the recipient that a new passphrase stands for.
func (a *app) newPassphrase(o encodingOptions, dryRun bool) (codec.Recipient, error) {
	passphrase := "dry run"
	switch {
	case o.askPassphrase && o.passphrase.file != "":
		return codec.Recipient{}, operation.Errorf(operation.Usage, "choose --ask-passphrase or --passphrase-file")
	case o.passphrase.file != "":
		var err error
		if passphrase, err = o.passphrase.read(); err != nil {
			return codec.Recipient{}, err
		}
	case a.system.ReadSecret == nil:
		return codec.Recipient{}, operation.Errorf(operation.Usage, "--ask-passphrase needs a terminal; use --passphrase-file")
	case !dryRun:
		var err error
		if passphrase, err = a.askTwice(); err != nil {
			return codec.Recipient{}, err
		}
	}
	r, err := codec.PassphraseRecipient(passphrase)
	if err != nil {
		return r, operation.Errorf(operation.Usage, "%w", err)
	}
	return r, nil
}

// askTwice finds typing errors while they can still be corrected.
func (a *app) askTwice() (string, error) {
	var answers [2]string
	for i, prompt := range []string{"Passphrase for the backup: ", "The same again: "} {
		answer, err := a.askPassphrase(prompt)
		if err != nil {
			return "", err
		}
		answers[i] = answer
	}
	if answers[0] != answers[1] {
		return "", operation.Errorf(operation.Usage, "the two passphrases differ")
	}
	return answers[0], nil
}

func (a *app) askPassphrase(prompt string) (string, error) {
	answer, err := a.system.ReadSecret(prompt)
	if err != nil {
		return "", operation.Errorf(operation.Failed, "reading the passphrase: %w", err)
	}
	return answer, nil
}

// passphraseOptions name a passphrase. It is never a flag's value: arguments are
// visible to every user of the machine.
type passphraseOptions struct{ file string }

func (o *passphraseOptions) addFlags(cmd *cobra.Command, usage string) {
	cmd.Flags().StringVar(&o.file, "passphrase-file", "", usage)
}

// read returns the first line of the file.
func (o passphraseOptions) read() (string, error) {
	text, err := readKeyFile("--passphrase-file", o.file)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", operation.Errorf(operation.Usage, "--passphrase-file: its first line is empty")
	}
	return line, nil
}

// keyOptions say what opens encrypted backups.
type keyOptions struct {
	identities []string
	passphrase passphraseOptions
}

func (o *keyOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVarP(&o.identities, "identity", "i", nil, "file with the key of an encrypted backup: from age-keygen, or an SSH private key (repeatable)")
	o.passphrase.addFlags(cmd, "file with the passphrase of an encrypted backup (default: asked for in a terminal)")
}

// keys reads the keys. A passphrase is read, or asked for, only if a backup needs
// one.
func (a *app) keys(o keyOptions) (*codec.Keys, error) {
	keys := &codec.Keys{}
	for _, name := range o.identities {
		text, err := readKeyFile("--identity", name)
		if err != nil {
			return nil, err
		}
		var ask func() (string, error)
		if a.system.ReadSecret != nil {
			ask = func() (string, error) { return a.askPassphrase("Passphrase of " + name + ": ") }
		}
		if err := keys.AddIdentities(bytes.NewReader(text), ask); err != nil {
			k := operation.Usage
			if errors.Is(err, codec.ErrKey) {
				k = operation.Denied
			}
			return nil, operation.Errorf(k, "--identity %s: %w", name, err)
		}
	}
	switch {
	case o.passphrase.file != "":
		keys.SetPassphrase(o.passphrase.read)
	case a.system.ReadSecret != nil:
		keys.SetPassphrase(func() (string, error) { return a.askPassphrase("Passphrase of the backup: ") })
	}
	return keys, nil
}

// maxKeyFile bounds files of keys, in bytes.
const maxKeyFile = 1 << 20

// readKeyFile reads a small file. Its errors do not repeat a name that could be the
// secret itself, given by mistake.
func readKeyFile(flag, name string) ([]byte, error) {
	text, err := readBounded(name)
	if err == nil {
		return text, nil
	}
	var failed *fs.PathError
	if errors.As(err, &failed) {
		err = failed.Err
	}
	if flag != "--passphrase-file" && !strings.Contains(strings.ToUpper(name), "SECRET-KEY") {
		flag += " " + name
	}
	return nil, operation.Errorf(operation.Usage, "%s: %w", flag, err)
}

func readBounded(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("it is longer than %d bytes", maxKeyFile)
	}
	return text, err
}

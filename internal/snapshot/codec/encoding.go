package codec

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"github.com/klauspost/compress/zstd"
)

// Level is how hard zstd tries. The empty Level does not compress.
type Level string

// The levels are those of the library: about the zstd tool's levels 1, 3 and 7. Its
// highest one is left out: the tables take 34 MiB, which is too much beside the rest
// of the process, and it is slower than any server sends.
const (
	Fastest Level = "fastest"
	Default Level = "default"
	Better  Level = "better"
)

// Levels lists the levels from the fastest to the smallest result.
func Levels() []string {
	return []string{string(Fastest), string(Default), string(Better)}
}

// maxZstdLevel is the highest level of the zstd tool that Better stands for.
const maxZstdLevel = 9

// ParseCompression reads "none", "zstd", or "zstd:LEVEL" with one of the levels
// or a level of the zstd tool from 1 to 9, which stands for the nearest of ours.
func ParseCompression(s string) (Level, error) {
	name, level, given := strings.Cut(s, ":")
	switch {
	case s == "none" || s == "":
		return "", nil
	case name != Zstd:
		return "", fmt.Errorf("%q: choose none, zstd or zstd:LEVEL", s)
	case !given:
		return Default, nil
	}
	for _, l := range Levels() {
		if level == l {
			return Level(l), nil
		}
	}
	n, err := strconv.Atoi(level)
	if err != nil || n < 1 || n > maxZstdLevel {
		return "", fmt.Errorf("level %q: choose %s, or 1 to %d", level, strings.Join(Levels(), ", "), maxZstdLevel)
	}
	switch zstd.EncoderLevelFromZstd(n) {
	case zstd.SpeedFastest:
		return Fastest, nil
	case zstd.SpeedDefault:
		return Default, nil
	default:
		return Better, nil
	}
}

// Recipient is whom data is encrypted to.
type Recipient struct {
	name string
	key  age.Recipient
}

// Passphrase is the name of a recipient that is a passphrase.
const Passphrase = "passphrase"

// String returns the public key, or Passphrase.
func (r Recipient) String() string { return r.name }

// errSecretKey does not repeat what was given.
var errSecretKey = errors.New("this is a secret key, not a recipient; consider it disclosed, and give the public key that goes with it (age-keygen -y)")

// ParseRecipient reads a public key: age1… (X25519, or post-quantum age1pq1…),
// ssh-ed25519 or ssh-rsa as in authorized_keys. Its errors do not repeat s, which
// may be a secret given by mistake.
func ParseRecipient(s string) (Recipient, error) {
	s = strings.TrimSpace(s)
	var key age.Recipient
	var err error
	switch upper := strings.ToUpper(s); {
	case strings.HasPrefix(upper, "AGE-SECRET-KEY-"), strings.HasPrefix(upper, "AGE-PLUGIN-"), strings.Contains(upper, "PRIVATE KEY"):
		return Recipient{}, errSecretKey
	case strings.HasPrefix(s, "age1pq1"):
		key, err = age.ParseHybridRecipient(s)
	case strings.HasPrefix(s, "age1"):
		key, err = age.ParseX25519Recipient(s)
	case strings.HasPrefix(s, "ssh-"):
		// The comment names a person or a machine, and is nobody's business.
		s = strings.Join(strings.Fields(s)[:min(2, len(strings.Fields(s)))], " ")
		key, err = agessh.ParseRecipient(s)
	default:
		return Recipient{}, errors.New("not a public key: age1…, ssh-ed25519 … or ssh-rsa …")
	}
	if err != nil {
		return Recipient{}, errors.New("not a valid public key: it is incomplete or mistyped")
	}
	return Recipient{name: s, key: key}, nil
}

// maxKeyFile bounds files of keys, in bytes.
const maxKeyFile = 1 << 20

// ParseRecipients reads one recipient from each line. Empty lines and those that
// begin with # are left out.
func ParseRecipients(r io.Reader) ([]Recipient, error) {
	text, err := readBounded(r)
	if err != nil {
		return nil, err
	}
	var found []Recipient
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		recipient, err := ParseRecipient(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		found = append(found, recipient)
	}
	if len(found) == 0 {
		return nil, errors.New("it has no recipients")
	}
	return found, nil
}

func readBounded(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("it is longer than %d bytes", maxKeyFile)
	}
	return text, err
}

// The cost of a passphrase: scrypt with N = 2^18, r = 8, p = 1, which is what the
// age tool uses, takes about a second and ScryptMemory bytes. Less would make
// guessing cheaper, and passphrases are guessed.
const (
	scryptLogN   = 18
	ScryptMemory = 128 * 8 << scryptLogN
)

// releaseScrypt gives ScryptMemory back before the data flows. The garbage collector
// would take it for what the process needs, and allow twice as much.
func releaseScrypt() { debug.FreeOSMemory() }

// PassphraseRecipient returns a recipient that needs no key but the passphrase.
// It cannot be combined with others.
func PassphraseRecipient(passphrase string) (Recipient, error) {
	key, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return Recipient{}, errors.New("the passphrase is empty")
	}
	key.SetWorkFactor(scryptLogN)
	return Recipient{name: Passphrase, key: key}, nil
}

// Encoding is what is done to data before it is stored. The zero value stores it
// as it is.
type Encoding struct {
	// Level of the compression; empty for none.
	Level Level
	// Recipients can read the data. Without any it is not encrypted.
	Recipients []Recipient
}

// Check refuses recipients that age does not combine: a passphrase with anything
// else, post-quantum keys with others.
func (e Encoding) Check() error {
	if len(e.Recipients) < 2 {
		return nil
	}
	for _, r := range e.Recipients {
		if _, ok := r.key.(*age.ScryptRecipient); ok {
			return errors.New("a passphrase cannot be combined with other recipients")
		}
	}
	if _, err := age.Encrypt(io.Discard, e.keys()...); err != nil {
		return err
	}
	return nil
}

// Codecs names what is done, in this order. It is empty for the zero value.
func (e Encoding) Codecs() []string {
	var codecs []string
	if e.Level != "" {
		codecs = append(codecs, Zstd)
	}
	if len(e.Recipients) > 0 {
		codecs = append(codecs, Age)
	}
	return codecs
}

// Names returns the recipients as strings, see Recipient.String.
func (e Encoding) Names() []string {
	var names []string
	for _, r := range e.Recipients {
		names = append(names, r.name)
	}
	return names
}

func (e Encoding) keys() []age.Recipient {
	keys := make([]age.Recipient, len(e.Recipients))
	for i, r := range e.Recipients {
		keys[i] = r.key
	}
	return keys
}

// Suffix is what is appended to the name of a file that went through the codecs,
// such as ".zst.age". It is false for codecs that this package does not have, or
// not in this order.
func Suffix(codecs []string) (suffix string, ok bool) {
	switch strings.Join(codecs, " ") {
	case "":
		return "", true
	case Zstd:
		return ".zst", true
	case Age:
		return ".age", true
	case Zstd + " " + Age:
		return ".zst.age", true
	default:
		return "", false
	}
}

// Suffixes lists all that Suffix returns, the longest first.
func Suffixes() []string { return []string{".zst.age", ".zst", ".age", ""} }

// NewWriter returns a writer that encodes into w. Errors of w are passed on, by
// Write or, as compression works ahead, by Close.
func (e Encoding) NewWriter(w io.Writer) (*Writer, error) {
	out := &Writer{top: w}
	if len(e.Recipients) > 0 {
		encrypted, err := age.Encrypt(w, e.keys()...)
		if err != nil {
			return nil, fmt.Errorf("starting the encryption: %w", err)
		}
		if e.Recipients[0].name == Passphrase {
			releaseScrypt()
		}
		out.age, out.top = encrypted, encrypted
	}
	if e.Level != "" {
		compressed, err := e.Level.newEncoder(out.top)
		if err != nil {
			return nil, err
		}
		out.zstd, out.top = compressed, compressed
	}
	return out, nil
}

// Writer encodes what is written to it. It ends with Close or Discard.
type Writer struct {
	top  io.Writer
	zstd *zstd.Encoder  // nil without compression
	age  io.WriteCloser // nil without encryption
}

// Write encodes a piece.
func (w *Writer) Write(p []byte) (int, error) { return w.top.Write(p) }

// Close writes what was held back and the end of the stream. It does not close the
// underlying writer.
func (w *Writer) Close() error {
	if w.zstd != nil {
		if err := w.zstd.Close(); err != nil {
			return err
		}
	}
	if w.age != nil {
		return w.age.Close()
	}
	return nil
}

// Discard ends the encoding without finishing the stream, which no Reader accepts
// then. When it returns, nothing is written any more.
func (w *Writer) Discard() {
	if w.zstd != nil {
		w.zstd.Reset(nil) // waits for the blocks that are being compressed
	}
}

// MaxWindow is how far back compressed data may refer, in bytes: the 8 MiB that
// RFC 8878 recommends every decoder to support. `zstd -19` needs no more.
const MaxWindow = 8 << 20

// encoderWindow is a quarter of it: RDB files hardly become smaller with more, and the
// encoder needs twice as much memory.
const encoderWindow = MaxWindow / 4

// encoderThreads lets one block be compressed while the next one is received.
// More would not be faster than any server sends, and each takes memory.
const encoderThreads = 2

func (l Level) newEncoder(w io.Writer) (*zstd.Encoder, error) {
	level, ok := map[Level]zstd.EncoderLevel{
		Fastest: zstd.SpeedFastest, Default: zstd.SpeedDefault, Better: zstd.SpeedBetterCompression,
	}[l]
	if !ok {
		return nil, fmt.Errorf("compression level %q", string(l))
	}
	return zstd.NewWriter(w,
		zstd.WithEncoderLevel(level), zstd.WithWindowSize(encoderWindow), zstd.WithEncoderConcurrency(encoderThreads),
		zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true), zstd.WithEncoderCRC(true))
}

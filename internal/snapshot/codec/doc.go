// Package codec compresses and encrypts what is stored, and reads it back. It is
// the only importer of zstd and age.
//
// # Formats
//
// Data is compressed first and encrypted afterwards: cipher text does not
// compress. Compression is zstd (RFC 8878), one frame with its content checksum
// and a window of at most MaxWindow; encryption is age (age-encryption.org/v1),
// binary. `age -d | zstd -d` reads what an Encoding writes, and a Reader reads
// what these tools write.
//
// # Memory
//
// Both directions stream. Neither depends on the length of the data, except that
// a passphrase costs ScryptMemory while the key is derived from it, before the
// first byte.
//
// # Trust
//
// What a Reader reads is untrusted: windows, headers and the cost of a
// passphrase are bounded. age authenticates everything; a reader sees the data of
// an encrypted stream only as far as it is what the writer encrypted, and io.EOF
// only at its true end. Compression alone has a checksum of 32 bits against
// damage.
//
// # Secrets
//
// No error has a secret key, a passphrase, or text that could be one.
package codec

import (
	"errors"
	"fmt"
)

// The names of the codecs, as a manifest states them.
const (
	Zstd = "zstd"
	Age  = "age"
)

// Kinds of errors of a Reader, for errors.Is. Those of the underlying reader are
// none of these.
var (
	// ErrCorrupt means that the data is damaged, cut, or followed by something else.
	ErrCorrupt = errors.New("damaged data")
	// ErrUnsupported means that the data needs more than this package does: a
	// larger window, a dictionary, or a costlier passphrase.
	ErrUnsupported = errors.New("unsupported encoding")
	// ErrKey means that the data is encrypted and no key that was given opens it.
	ErrKey = errors.New("no key for encrypted data")
)

// Error says what is wrong with encoded data.
type Error struct {
	// Kind is one of the sentinel errors of this package.
	Kind error
	// Codec found it: Zstd or Age.
	Codec string
	// Msg describes the problem.
	Msg string
}

func (e *Error) Error() string {
	if e.Kind == ErrKey { //nolint:errorlint // Kind is one of the sentinels themselves
		return e.Msg
	}
	return fmt.Sprintf("%v in the %s stream: %s", e.Kind, e.Codec, e.Msg)
}

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Kind }

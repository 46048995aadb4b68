package rdb

import (
	"errors"
	"fmt"
)

// Kinds of format errors, for errors.Is. ErrTruncated, ErrChecksum and
// ErrTrailing are special cases of ErrCorrupt and match it too.
//
// An error of the underlying reader or of a Visitor is none of these: it is
// passed on (the reader's with the offset added) and says nothing about the file.
var (
	// ErrCorrupt means that the bytes are not what any server writes.
	ErrCorrupt = errors.New("corrupt RDB data")
	// ErrTruncated means that the input ended before the end of the RDB data.
	ErrTruncated = errors.New("truncated RDB data")
	// ErrChecksum means that the structure is sound but the stored CRC64 is not
	// that of the bytes read.
	ErrChecksum = errors.New("RDB checksum mismatch")
	// ErrTrailing means that the RDB data is complete and something follows it.
	ErrTrailing = errors.New("data after the end of the RDB data")
	// ErrUnsupported means a version, type or opcode that this reader does not
	// know. It does not match ErrCorrupt: a newer reader may read the file.
	ErrUnsupported = errors.New("unsupported RDB data")
)

// A FormatError says what is wrong with the RDB data, and where.
type FormatError struct {
	// Kind is one of the sentinel errors of this package.
	Kind error
	// Offset is where the problem was found, in bytes from the start of the
	// RDB data. Damage can lie earlier: a wrong length is often noticed later.
	Offset int64
	// Section names the part of the file being read, such as "aux field" or
	// "value of type hash (listpack)".
	Section string
	// Start is the offset where that part begins.
	Start int64
	// Msg describes the problem.
	Msg string
}

func (e *FormatError) Error() string {
	if e.Section == "" {
		return fmt.Sprintf("%v at offset %d: %s", e.Kind, e.Offset, e.Msg)
	}
	return fmt.Sprintf("%v at offset %d, in the %s that starts at %d: %s", e.Kind, e.Offset, e.Section, e.Start, e.Msg)
}

// Is reports whether target is the error's kind, or ErrCorrupt when the kind is
// a special case of it.
func (e *FormatError) Is(target error) bool {
	return target == e.Kind || target == ErrCorrupt && e.Kind != ErrUnsupported
}

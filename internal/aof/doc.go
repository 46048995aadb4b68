// Package aof reads append-only files of Redis and Valkey: the manifest of a
// multi-part one (7.0 and later) and the files themselves, which hold commands in
// RESP, possibly behind an RDB preamble.
//
// Scan walks a file in one pass with bounded memory: values are counted, never
// kept. It tells a tail that a server was still writing, or lost in a crash, from
// damage in the middle.
//
// A Log is such a file with all its parts. Log.Survey finds out where a Cut comes, for
// example before a FLUSHALL, and what it keeps and drops; a Slice reads what is kept.
//
// The format is defined by loadSingleAppendOnlyFile and aofLoadManifestFromFile in
// aof.c of Redis 7.0.
package aof

import (
	"errors"
	"fmt"
)

// Kinds of format errors, for errors.Is.
var (
	// ErrCorrupt means that the bytes are not what any server writes. A file that
	// merely ends too early is not corrupt, see Summary.Truncated.
	ErrCorrupt = errors.New("corrupt append-only file")
	// ErrManifest means that a manifest is not one that a server writes.
	ErrManifest = errors.New("corrupt manifest of an append-only file")
)

// FormatError says what is wrong with the commands of a file, and where. Damage in
// an RDB preamble is reported by an *rdb.FormatError instead.
type FormatError struct {
	// Offset is where the problem was found, in bytes from the start of the file.
	Offset int64
	// Command is the offset at which the command with the problem begins.
	Command int64
	// Msg describes the problem.
	Msg string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%v at offset %d, in the command that starts at %d: %s", ErrCorrupt, e.Offset, e.Command, e.Msg)
}

// Unwrap returns ErrCorrupt.
func (e *FormatError) Unwrap() error { return ErrCorrupt }

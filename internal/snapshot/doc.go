// Package snapshot defines what a stored snapshot of a Redis server is: how it
// is named, what its manifest says, how it is made, found and verified.
//
// # Layout
//
// Below the root of a store (DefaultRoot unless configured), each deployment has
// a folder and each snapshot two objects in it:
//
//	<namespace>/<release>/<id>.rdb             the RDB file, as the server sent it
//	<namespace>/<release>/<id>.manifest.json   what is known about it
//	address/<host>_<port>/<id>....             servers named by plain addresses
//
// The manifest is stored last: a snapshot exists if and only if its manifest
// does. A process that is killed earlier leaves at most a file without a
// manifest, which List reports as such and nothing takes for a snapshot.
//
// An id is rdb-20261123T090501Z-k7mq: the kind, the start of the backup in UTC
// to the second, and four random characters. Ids of a kind sort by time, are
// unambiguous in every time zone, and are legal file names everywhere (no colon,
// which Windows and shells reserve) as well as S3 keys that need no escaping. The
// random part is always there because a name is fixed before the transfer
// begins: two backups that start in the same second would otherwise find out
// about each other when the second one is complete and has to be thrown away.
//
// # Trust
//
// Everything read back is untrusted input. Manifests are bounded, decoded
// strictly and cannot name anything outside their folder; RDB files go through
// package rdb. The digests find damage and mix-ups, not forgery: whoever may
// write to the storage can also compute new digests.
//
// # Errors
//
// ErrCorrupt and ErrUnsupported tell data that failed verification, and data
// that is too new to judge, from everything else (storage, network, context),
// whose errors are passed on wrapped.
package snapshot

import (
	"errors"
	"fmt"
)

// DefaultRoot is the folder of the default store, relative to the working
// directory. It is where the chart's Makefile kept its backups.
const DefaultRoot = "tmp/redis-backups"

// Kinds of errors, for errors.Is. rdb.ErrCorrupt and rdb.ErrUnsupported are
// matched by these where they caused the failure.
var (
	// ErrCorrupt means that data is not what was stored, or is no snapshot at all.
	ErrCorrupt = errors.New("the snapshot failed verification")
	// ErrUnsupported means that a newer redisctl may understand the data.
	ErrUnsupported = errors.New("the snapshot's format is not supported by this version of redisctl")
)

// kindError is err, and matches kind without repeating it in its text.
type kindError struct{ kind, err error }

func (e *kindError) Error() string   { return e.err.Error() }
func (e *kindError) Unwrap() []error { return []error{e.kind, e.err} }

func corrupt(format string, args ...any) error {
	return &kindError{ErrCorrupt, fmt.Errorf(format, args...)}
}

func unsupported(format string, args ...any) error {
	return &kindError{ErrUnsupported, fmt.Errorf(format, args...)}
}

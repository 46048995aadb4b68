// Package live restores a backup into a running server: it replays the keys with
// pipelined RESTORE commands, whose payloads are the bytes of the RDB file.
//
// The file is read twice. The first time everything is verified and counted, so that
// whatever the server cannot take is known before anything is sent. The second time it
// is sent, over several connections at once; nothing is held in memory but what is on its
// way.
//
// How far the replies have come is noted about once a second together with the backup
// (Record): a restore that was interrupted, also by kill -9, goes on from there. A second
// mark, the horizon, is noted before anything behind it is sent. Keys between the two may
// have been restored or not.
package live

import (
	"context"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
)

// Method is what records of this way of restoring are told by.
const Method = "live"

// Restore restores into running servers. All fields are required.
type Restore struct {
	Connector operation.Connector
	Replayer  Replayer
	Locker    operation.Locker
	Notes     operation.Notes
	Keeper    Keeper
	Comparer  restore.Comparer
	Reporter  operation.Reporter
	Now       func() time.Time
	// By names the operator in the record.
	By string
}

// Keeper backs up what a restore replaces.
type Keeper interface {
	// Keep stores a backup of an instance and returns where it is.
	Keep(ctx context.Context, d *operation.Deployment, i operation.Instance) (string, error)
}

// Defaults of Options.
const (
	DefaultConnections = 2
	// DefaultMaxLag is half of the output buffer that a replica may have by default
	// (client-output-buffer-limit replica 256mb): beyond, its primary drops it.
	DefaultMaxLag = 128 << 20
	// DefaultMaxPayload is the largest value, in bytes as it is stored in the file, that
	// is sent whole. A server does nothing else while it loads one.
	DefaultMaxPayload = 64 << 20
)

// Options are the user's choices. What says which keys are restored, and how, is kept in
// the Record.
type Options struct {
	restore.Overrides
	Selection
	// Instance is the server that the user chose; empty for the primary.
	Instance string
	// NoSafetyBackup leaves out the backup of the present data.
	NoSafetyBackup bool
	// Connections is over how many connections keys are sent.
	Connections int
	// MaxLag is how many bytes a replica may be behind before sending waits.
	MaxLag int64
	// Sample is about how many keys are compared with the backup; 0 for all.
	Sample int64
	// Timeout bounds each answer of a server, Stall how long it may not get on.
	Timeout, Stall time.Duration
}

// DefaultOptions are those of the command line.
func DefaultOptions() Options {
	return Options{
		Selection:   Selection{MaxPayload: DefaultMaxPayload},
		Connections: DefaultConnections, MaxLag: DefaultMaxLag, Sample: restore.DefaultSample,
		Timeout: 5 * time.Second, Stall: 30 * time.Second,
	}
}

// Selection says which keys are restored, and how. Its JSON form is part of a Record.
type Selection struct {
	Filter
	// DBs maps databases of the backup to those of the server; others keep their number.
	DBs map[int]int `json:"mapDatabases,omitempty"`
	// Replace overwrites keys that are there already, SkipExisting keeps them.
	Replace      bool `json:"replace,omitempty"`
	SkipExisting bool `json:"skipExisting,omitempty"`
	// SkipUnsupported leaves out what the server cannot take.
	SkipUnsupported bool `json:"skipUnsupported,omitempty"`
	// NoFunctions leaves out function libraries.
	NoFunctions bool `json:"noFunctions,omitempty"`
	// MaxPayload is the largest value that is sent whole, in bytes; larger ones are built
	// by commands.
	MaxPayload int64 `json:"maxPayloadBytes"`
}

// target returns the database of the server for one of the backup.
func (s *Selection) target(db int) int {
	if to, ok := s.DBs[db]; ok {
		return to
	}
	return db
}

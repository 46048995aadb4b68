package failover

import (
	"fmt"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// relation is what the replication histories tell of two servers' data.
type relation struct {
	// contained is set when it is certain that the other server has everything.
	contained bool
	// own is how many bytes of writes only this server has; -1 when that cannot be
	// told.
	own int64
	why string
}

// compare finds out by their histories whether the server other has everything that
// m has. A history is named by its replication ID, and a position in it by an
// offset; a server that leaves one, because it was promoted or restarted, remembers
// its name and the next offset as the second ID (replication.c, shiftReplicationId).
func compare(m, other *topology.Member) relation {
	a, b := m.Replication, other.Replication
	switch {
	case a.ID == b.ID:
		return within(a.Offset, b.Offset)
	case a.ID == b.SecondID:
		// The other one went on from this history.
		return within(a.Offset, b.SecondOffset-1)
	case a.SecondID == "" || !counts(m):
		return unrelated(m)
	}
	// This one left a history that the other one is in, or has left later.
	var shared int64
	switch a.SecondID {
	case b.ID:
		shared = b.Offset
	case b.SecondID:
		shared = b.SecondOffset - 1
	default:
		return unrelated(m)
	}
	left := a.SecondOffset - 1
	own := a.Offset - left + max(0, left-shared)
	if own <= 0 {
		return relation{contained: true, why: "it has taken no write since their histories parted"}
	}
	return relation{own: own, why: fmt.Sprintf("it has taken %s since their histories parted", operation.Bytes(own))}
}

func unrelated(m *topology.Member) relation {
	if m.Info.TotalKeys() == 0 {
		return relation{contained: true, why: "it is empty"}
	}
	return relation{own: -1, why: "their histories have nothing in common"}
}

func within(offset, end int64) relation {
	if offset <= end {
		return relation{contained: true, why: "its history is a part of the other one's"}
	}
	return relation{own: offset - end, why: fmt.Sprintf("its history goes on for %s", operation.Bytes(offset-end))}
}

// counts reports whether a server's offset moves with every write. Before 7.0 it
// stands still while there is no backlog, that is until a replica has connected.
func counts(m *topology.Member) bool {
	return m.Info.Int("repl_backlog_active") == 1 || m.Version.Major >= 7
}

// fingerprint changes with every write that a server takes. Neither the replication
// ID nor the offset is part of it: the first snapshot of a primary's life gives it a
// new ID, its pings move the offset, and before 7.0 not every write does.
type fingerprint struct {
	run                string
	changes, lastSaved int64
}

func fingerprintOf(info redis.Info) fingerprint {
	return fingerprint{
		run: info.Get("run_id"), changes: info.Int("rdb_changes_since_last_save"), lastSaved: info.Int("rdb_last_save_time"),
	}
}

// tookWrites reports whether a server has taken writes while its data was compared. A
// snapshot that went over its disk counts as a save, which leaves the changes since
// then.
func tookWrites(before, after fingerprint) bool {
	if after.lastSaved != before.lastSaved {
		return after.run != before.run || after.changes != 0
	}
	return after != before
}

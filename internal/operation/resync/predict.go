package resync

import (
	"fmt"

	"github.com/redisctl/redisctl/internal/operation/topology"
)

// predict tells how the primary will answer the replica's PSYNC, which asks for the
// byte after its offset in the history it knows: masterTryPartialResynchronization in
// Redis's replication.c. The servers move on between the prediction and the fact.
func predict(primary, m *topology.Member) (Kind, string) {
	if m.Replication.Upstream.SyncInProgress {
		return KindFull, "one is in progress already"
	}
	if lost := foreignHistory(primary, m); lost != "" {
		return KindFull, lost
	}
	if primary.Info.Int("repl_backlog_active") == 0 {
		return KindFull, primary.Name + " keeps no backlog"
	}
	wanted, first := m.Replication.Offset+1, primary.Info.Int("repl_backlog_first_byte_offset")
	if wanted < first {
		return KindFull, fmt.Sprintf("the backlog of %s begins %d bytes too late", primary.Name, first-wanted)
	}
	return KindPartial, fmt.Sprintf("the backlog of %s has all that follows offset %d", primary.Name, m.Replication.Offset)
}

// foreignHistory says how the history of m is not a part of the primary's, or returns
// "" when it is: then the primary has all that m has. A server that was promoted goes
// on with a new history, which shares the second one up to the second offset.
func foreignHistory(primary, m *topology.Member) string {
	p, r := primary.Replication, m.Replication
	switch {
	case r.ID == p.ID && r.Offset <= p.Offset:
		return ""
	case r.ID == p.ID:
		return fmt.Sprintf("it has %d bytes more of the history %.8s than %s", r.Offset-p.Offset, r.ID, primary.Name)
	case r.ID == p.SecondID && r.Offset < p.SecondOffset:
		return ""
	case r.ID == p.SecondID:
		return fmt.Sprintf("it has %d bytes of the history %.8s from after the point where %s was promoted", r.Offset+1-p.SecondOffset, r.ID, primary.Name)
	default:
		return fmt.Sprintf("it has a history of its own (%.8s), which %s does not know", r.ID, primary.Name)
	}
}

package backup

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// chooseSource picks the instance to take the snapshot from: the connected
// replica that lags least, because a snapshot makes the server fork; the primary
// when there is none. The findings say why, and what speaks against it.
//
// Without any usable instance the error is the instance's own one when there is
// a single one to blame, so that a hanging server ends as a time-out and not as a
// refusal.
func chooseSource(t *topology.Topology, o Options) (*topology.Member, []operation.Finding, error) {
	if o.Instance != "" {
		return namedSource(t, o)
	}
	if t.Independent() && len(t.Members) > 1 {
		return nil, nil, operation.Errorf(operation.Usage,
			"%s has several independent servers; choose one with --pod or --address: %s", t.Deployment, t.Deployment.InstanceNames())
	}
	replicas := usableReplicas(t)
	primary, err := t.Primary()
	switch {
	case len(t.Primaries()) > 1:
		return nil, nil, &operation.Error{
			Kind: operation.Refused, Object: t.Deployment.String(), Phase: "choosing the source", Err: err,
			Unchanged: "nothing was changed", Next: "compare them with redisctl replication info, then choose one with --pod",
		}
	case len(replicas) > 0:
		return replicas[0], lagUnknown(t, replicas[0]), nil
	case err == nil && !primary.Info.Persistence().Loading:
		return primary, []operation.Finding{{
			Code: "source-is-primary", Severity: operation.Notice, Subject: primary.Name,
			Message: "no connected replica: the snapshot is taken from the primary, which forks for it",
		}}, nil
	default:
		return nil, nil, noSource(t)
	}
}

// usableReplicas returns the replicas with a sound copy of the primary's data,
// the closest first. Replicas whose primary could not be asked are usable only while no
// primary answers: where another one was promoted meanwhile, they hold old data.
func usableReplicas(t *topology.Topology) []*topology.Member {
	headless := len(t.Primaries()) == 0
	var usable []*topology.Member
	for i := range t.Members {
		m := &t.Members[i]
		if m.Err == nil && m.Link() == "up" && !m.Info.Persistence().Loading && (m.Behind >= 0 || headless && primarySilent(t, m)) {
			usable = append(usable, m)
		}
	}
	slices.SortStableFunc(usable, func(a, b *topology.Member) int {
		// As unsigned numbers, the unknown -1 is behind everything.
		return cmp.Or(cmp.Compare(uint64(a.Behind), uint64(b.Behind)), cmp.Compare(a.Silence, b.Silence))
	})
	return usable
}

// primarySilent reports whether it is unknown what m's primary has: it does not
// answer, or it was not listed among the addresses. A release's replica that follows a
// server elsewhere is something else: it holds other data.
func primarySilent(t *topology.Topology, m *topology.Member) bool {
	if m.Follows == "" {
		return t.Deployment.Workload == nil
	}
	return t.Member(m.Follows).Err != nil
}

// lagUnknown says so when nobody can tell what the replica has not yet got.
func lagUnknown(t *topology.Topology, m *topology.Member) []operation.Finding {
	if m.Behind >= 0 {
		return nil
	}
	f := operation.Finding{
		Code: "source-lag-unknown", Severity: operation.Warning, Subject: m.Name,
		Message: fmt.Sprintf("how far it is behind is not known: its primary %s does not answer", m.Upstream()),
	}
	if t.Member(m.Follows) == nil {
		f.Severity = operation.Notice
		f.Message = fmt.Sprintf("how far it is behind is not known: its primary %s was not listed", m.Upstream())
	}
	return []operation.Finding{f}
}

// namedSource checks the instance that the user chose.
func namedSource(t *topology.Topology, o Options) (*topology.Member, []operation.Finding, error) {
	m := t.Member(o.Instance)
	if m == nil {
		return nil, nil, operation.Errorf(operation.Usage, "%s has no instance %q; it has %s", t.Deployment, o.Instance, t.Deployment.InstanceNames())
	}
	if m.Err != nil {
		return nil, nil, m.Err
	}
	if m.Replication.Role != redis.RoleReplica || m.Link() == "up" {
		return m, nil, nil
	}
	f := operation.Finding{
		Code: "source-is-stale", Severity: operation.Critical, Subject: m.Name,
		Message:  fmt.Sprintf("its link to %s is %s: the data is as old as the link's last byte", m.Upstream(), m.Link()),
		Override: "--allow-stale", Overridden: o.AllowStale,
	}
	if o.Method == MethodStream {
		// The server answers SYNC with NOMASTERLINK (syncCommand in replication.c).
		f.Message += ", and a replica without its primary streams no snapshot"
		f.Hint = "its data is then read key by key, or with --method bgsave copied as a file"
	}
	return m, []operation.Finding{f}, nil
}

func noSource(t *topology.Topology) error {
	var reasons []string
	var first error
	for i := range t.Members {
		m := &t.Members[i]
		switch {
		case m.Err != nil:
			first = cmp.Or(first, m.Err)
			reasons = append(reasons, m.Err.Error())
		case m.Info.Persistence().Loading:
			reasons = append(reasons, m.Name+" is loading its data set")
		case m.Link() == "up":
			reasons = append(reasons, fmt.Sprintf("%s has another history than %s, which it follows", m.Name, m.Upstream()))
		case m.Link() != "":
			reasons = append(reasons, fmt.Sprintf("%s is a replica whose link is %s", m.Name, m.Link()))
		}
	}
	if first != nil && len(t.Members) == 1 {
		return first
	}
	kind := operation.Failed
	if first != nil {
		kind = operation.KindOf(first)
	}
	return &operation.Error{
		Kind: kind, Object: t.Deployment.String(), Phase: "choosing the source",
		Err:       fmt.Errorf("no instance to take a snapshot from: %s", strings.Join(reasons, "; ")),
		Unchanged: "nothing was changed",
		Next:      "redisctl health; a replica with old data can be chosen with --pod and --allow-stale",
	}
}

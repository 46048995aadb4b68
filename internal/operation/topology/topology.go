// Package topology observes a deployment: it asks every instance at once who it
// is, whom it follows and how far it has come, and answers the questions that
// other operations rest on: which instance is the primary, who follows whom,
// how far behind each replica is.
//
// Roles are always the servers' own answer. A pod's name or ordinal says nothing
// about its role, because a promotion changes the one without the other.
package topology

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/redis"
)

// Topology is what was observed at one moment. It is immutable.
type Topology struct {
	Deployment *operation.Deployment
	// Members are the deployment's instances, in its order.
	Members []Member
}

// Member is one instance and its answer.
type Member struct {
	operation.Instance
	// Err says why the instance could not be asked. The fields below are zero
	// when it is set.
	Err error
	// Latency is how long INFO took over a warm connection.
	Latency time.Duration
	// Info is the reply to INFO (default sections).
	Info        redis.Info
	Replication redis.Replication
	Version     redis.Version
	// PasswordUnused is set when the deployment has a password but the server lets
	// everybody in.
	PasswordUnused bool
	// SavePoints is set when the server saves an RDB by itself, also on SIGTERM.
	SavePoints bool
	// Follows names the instance that a replica follows. Empty for a primary,
	// and for a replica of a server outside the deployment.
	Follows string
	// Behind is how many bytes of the primary's history the replica has not
	// applied. -1 when it cannot be told: the primary did not answer or their
	// histories differ.
	Behind int64
	// Silence is the time since the replica last heard from or acknowledged to
	// its primary, whichever is longer. Negative when it never heard from it.
	Silence time.Duration
}

// Observe asks every instance of d in parallel, each for at most timeout. An
// instance that does not answer is a Member with Err set; Observe itself does
// not fail.
func Observe(ctx context.Context, connector operation.Connector, d *operation.Deployment, timeout time.Duration) Topology {
	t := Topology{Deployment: d, Members: make([]Member, len(d.Instances))}
	answers := inspect.Each(ctx, connector, d, timeout, func(ctx context.Context, s operation.Server) (Member, error) {
		return Ask(ctx, s, d)
	})
	for i, a := range answers {
		m := a.Value
		m.Instance, m.Err, m.Behind = d.Instances[i], a.Err, -1
		t.Members[i] = m
	}
	t.link()
	return t
}

// Assemble makes a Topology of answers that were collected otherwise, one for each instance
// of d and in its order, with Instance and Err set.
func Assemble(d *operation.Deployment, members []Member) Topology {
	t := Topology{Deployment: d, Members: members}
	for i := range t.Members {
		t.Members[i].Behind = -1
	}
	t.link()
	return t
}

// Ask asks one server of d. What concerns several of them is missing: see Assemble.
func Ask(ctx context.Context, server operation.Server, d *operation.Deployment) (Member, error) {
	// The first command also opens the connection, which Latency must not count. A server
	// whose saves fail refuses PING (MISCONF), and serves reads all the same.
	if _, err := server.Ping(ctx); err != nil && (!operation.Answered(err) || operation.KindOf(err) == operation.Denied) {
		return Member{}, err
	}
	begin := time.Now()
	info, err := server.Info(ctx)
	if err != nil {
		return Member{}, err
	}
	m := Member{Latency: time.Since(begin), Info: info, PasswordUnused: server.PasswordUnused()}
	if m.Replication, err = info.Replication(); err != nil {
		return Member{}, err
	}
	if m.Version, err = info.Version(); err != nil {
		return Member{}, err
	}
	m.SavePoints = savePoints(ctx, server, d)
	return m, nil
}

// savePoints asks whether the server saves by itself. Where CONFIG is disabled
// or refused, the chart's own file is the best that can be known.
func savePoints(ctx context.Context, server operation.Server, d *operation.Deployment) bool {
	values, err := server.ConfigGet(ctx, "save")
	if err != nil {
		return d.Config.HasSavePoints()
	}
	return values["save"] != ""
}

// IsDown reports whether the member's container does not run.
func (m *Member) IsDown() bool { return errors.Is(m.Err, operation.ErrDown) }

// Upstream names what a replica follows: the instance, or the address of a
// server outside the deployment. Empty for a primary.
func (m *Member) Upstream() string {
	if m.Follows != "" || m.Replication.Upstream == nil {
		return m.Follows
	}
	return m.Replication.Upstream.Address()
}

// Link is the state of a replica's link: "up", "syncing" or "down". Empty for a
// primary.
func (m *Member) Link() string {
	up := m.Replication.Upstream
	switch {
	case up == nil:
		return ""
	case up.SyncInProgress:
		return "syncing"
	case up.LinkUp:
		return "up"
	default:
		return "down"
	}
}

// link fills in who follows whom and how far behind each replica is.
func (t *Topology) link() {
	for i := range t.Members {
		m := &t.Members[i]
		up := m.Replication.Upstream
		if up == nil {
			continue
		}
		// Without a link the server has no last byte; it knows since when there is none.
		m.Silence = max(up.LastIO, up.LinkDownFor)
		primary := t.at(up.Host, up.Port)
		if primary == nil {
			continue
		}
		m.Follows = primary.Name
		if primary.Err != nil || primary.Replication.ID != m.Replication.ID {
			continue
		}
		// The replica may have been asked later than its primary, and be ahead
		// of that answer.
		m.Behind = max(0, primary.Replication.Offset-m.Replication.Offset)
		for _, f := range primary.Replication.Replicas {
			if f.Host == m.Host && f.Port == m.Port {
				m.Silence = max(m.Silence, f.Lag)
			}
		}
	}
}

// at finds the member that listens on host and port. A host is an IP address or,
// as the chart configures it, the pod's DNS name.
func (t *Topology) at(host string, port int) *Member {
	label, _, _ := strings.Cut(host, ".")
	for i := range t.Members {
		m := &t.Members[i]
		if m.Port == port && (m.Host == host || m.Pod != nil && m.Name == label && !isIPv4(host)) {
			return m
		}
	}
	return nil
}

func isIPv4(host string) bool { return strings.Trim(host, "0123456789.") == "" }

// Address returns how the other instances are to reach m. Pods are named as the
// chart does it, by the DNS name below the headless Service, because a pod's IP
// changes with every restart: the name that some replica uses for its primary, with
// m's own first label. The pod's IP is the answer when no replica uses a name, and
// the listed host and port for a server without Kubernetes.
func (t *Topology) Address(m *Member) (host string, port int) {
	if m.Domain != "" {
		return m.Name + "." + m.Domain, m.Port
	}
	for i := range t.Members {
		up := t.Members[i].Replication.Upstream
		if m.Pod == nil || up == nil || net.ParseIP(up.Host) != nil {
			continue
		}
		if label, domain, ok := strings.Cut(up.Host, "."); ok && label == t.Members[i].Follows {
			return m.Name + "." + domain, m.Port
		}
	}
	return m.Host, m.Port
}

// Member returns the member with the given name, or nil.
func (t *Topology) Member(name string) *Member {
	for i := range t.Members {
		if t.Members[i].Name == name {
			return &t.Members[i]
		}
	}
	return nil
}

// Primaries returns the members that answered that they are primaries.
func (t *Topology) Primaries() []*Member {
	var primaries []*Member
	for i := range t.Members {
		if m := &t.Members[i]; m.Err == nil && m.Replication.Role == redis.RolePrimary {
			primaries = append(primaries, m)
		}
	}
	return primaries
}

// ErrNoPrimary matches the error of Primary when no instance says that it is one.
var ErrNoPrimary = errors.New("no instance says that it is the primary")

// ErrManyPrimaries matches the error of Primary when several do.
var ErrManyPrimaries = errors.New("several instances say that they are primaries")

// Primary returns the one primary. The error, which names every candidate or
// every instance that did not answer, matches ErrNoPrimary or ErrManyPrimaries.
func (t *Topology) Primary() (*Member, error) {
	primaries := t.Primaries()
	switch len(primaries) {
	case 1:
		return primaries[0], nil
	case 0:
		var silent []string
		for _, m := range t.Members {
			if m.Err != nil {
				silent = append(silent, m.Name)
			}
		}
		if len(silent) > 0 {
			return nil, fmt.Errorf("%w (no answer from %s)", ErrNoPrimary, strings.Join(silent, ", "))
		}
		return nil, ErrNoPrimary
	default:
		names := make([]string, len(primaries))
		for i, p := range primaries {
			names[i] = p.Name
		}
		return nil, fmt.Errorf("%w: %s", ErrManyPrimaries, strings.Join(names, ", "))
	}
}

// Loop returns the names of instances that follow each other in a circle, each the
// next and the last the first; one that follows itself is a circle of one. It returns
// nil when there is none.
func (t *Topology) Loop() []string {
	for i := range t.Members {
		var path []string
		for m := &t.Members[i]; m != nil && m.Follows != ""; m = t.Member(m.Follows) {
			if at := slices.Index(path, m.Name); at >= 0 {
				return path[at:]
			}
			path = append(path, m.Name)
		}
	}
	return nil
}

// Independent reports whether the members are servers of their own that are not
// meant to follow each other: several pods of the chart's standalone mode, or
// addresses without a replica and without a common history.
func (t *Topology) Independent() bool {
	if t.Deployment.ReplicaMode() {
		return false
	}
	history := make(map[string]bool)
	for _, m := range t.Members {
		if m.Err != nil {
			continue
		}
		if m.Replication.Role == redis.RoleReplica || t.leads(&m) {
			return false
		}
		for _, id := range []string{m.Replication.ID, m.Replication.SecondID} {
			if id != "" && history[id] {
				return false
			}
		}
		history[m.Replication.ID] = true
		history[m.Replication.SecondID] = true
	}
	return true
}

// leads reports whether m has another member among its replicas, which may be silent
// itself.
func (t *Topology) leads(m *Member) bool {
	return slices.ContainsFunc(m.Replication.Replicas, func(f redis.Follower) bool { return t.at(f.Host, f.Port) != nil })
}

// Denied returns the error of the members that could not be asked because of
// missing permissions or credentials, when that holds for every one of them:
// then there is nothing to report but the error.
func (t *Topology) Denied() error {
	var denied error
	for _, m := range t.Members {
		if m.Err == nil || operation.KindOf(m.Err) != operation.Denied {
			return nil
		}
		denied = m.Err
	}
	var e *operation.Error
	if advice := t.Deployment.AccessAdvice(denied); advice != "" && errors.As(denied, &e) && e.Next == "" {
		advised := *e
		advised.Next = advice
		return &advised
	}
	return denied
}

// Unsent returns "" when the primary sends its writes to the replica as they come, and
// otherwise what it does. For a second after a full resynchronisation the replica finds
// its link up although nothing is sent to it yet.
func Unsent(primary, replica *Member) string {
	const online = "online"
	for _, f := range primary.Replication.Replicas {
		if f.Host == replica.Host && f.Port == replica.Port && f.State != online {
			return f.State
		}
	}
	return "" // or it is known there by another address
}

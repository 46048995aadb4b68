package validate

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/redis"
)

// pair is a server that holds data of its own, and what was recorded of that data.
type pair struct {
	member *topology.Member
	// now is what the server says, or err why it does not.
	now upgrade.BaselineData
	err error
	// before is nil when nothing was recorded of it.
	before *upgrade.BaselineData
}

// ask fills in what the servers say.
func (r *run) ask(ctx context.Context) {
	r.pairs = r.pair()
	pings := upgrade.Pings
	if r.o.Quick {
		pings = 0
	}
	for i := range r.pairs {
		p := &r.pairs[i]
		p.now, p.err = upgrade.TakeData(ctx, r.Connector, r.topology.Deployment, p.member, pings, r.o.Health.Timeout)
	}
}

// pair returns the primary, or all independent servers, that answer. A primary goes with
// the primary of before, whatever its name: an upgrade hands it over.
func (r *run) pair() []pair {
	t := r.topology
	if !t.Independent() {
		primary, err := t.Primary()
		if err != nil {
			return nil
		}
		return []pair{{member: primary, before: r.only(primary.Name)}}
	}
	var found []pair
	for i := range t.Members {
		m := &t.Members[i]
		if m.Err != nil {
			continue
		}
		p := pair{member: m}
		if len(t.Members) == 1 {
			p.before = r.only(m.Name)
		} else if r.before != nil {
			p.before = r.before.Data(m.Name)
		}
		found = append(found, p)
	}
	return found
}

// only returns the one recorded data set, or of several that of the instance name.
func (r *run) only(name string) *upgrade.BaselineData {
	if r.before == nil {
		return nil
	}
	if r.before.Primary != "" {
		name = r.before.Primary
	}
	return r.before.Data(name)
}

// keys compares how many keys there are with how many there were.
func (r *run) keys() {
	if len(r.pairs) == 0 {
		r.add("keys", Skipped, nil, "no server to count them in")
		return
	}
	state := OK
	var findings []operation.Finding
	var said []string
	for _, p := range r.pairs {
		now := p.member.Info.TotalKeys()
		text := counted(now, "key")
		switch {
		case p.member.Info.Persistence().Loading:
			text = "still loading" // health says so; a comparison would be of a part
		case p.before != nil:
			before := total(p.before.Keys)
			if before != now {
				state = Changed
			}
			text += fmt.Sprintf(", before %d", before)
			findings = append(findings, missing(p)...)
		}
		if len(r.pairs) > 1 {
			text = p.member.Name + ": " + text
		}
		said = append(said, text)
	}
	r.add("keys", state, findings, "%s", strings.Join(said, "; "))
}

func total(dbs []redis.DBKeys) int64 {
	var n int64
	for _, db := range dbs {
		n += db.Keys
	}
	return n
}

// missing finds databases with fewer keys than expiry and eviction explain.
func missing(p pair) []operation.Finding {
	evicted := evictedSince(p)
	now := map[int]redis.DBKeys{}
	for _, db := range p.member.Info.Keyspace() {
		now[db.DB] = db
	}
	var findings []operation.Finding
	for _, before := range p.before.Keys {
		lost := before.Keys - now[before.DB].Keys
		if lost <= before.Expires+evicted {
			continue
		}
		f := operation.Finding{
			Code: "keys-missing", Severity: operation.Warning, Subject: p.member.Name,
			Message: fmt.Sprintf("database %d has %s, before %d: %d fewer, of which at most %d can have expired and %d were evicted since",
				before.DB, counted(now[before.DB].Keys, "key"), before.Keys, lost, before.Expires, evicted),
			Hint: "clients may have deleted them; redisctl backup diff compares with the backup taken before the upgrade",
		}
		if now[before.DB].Keys == 0 {
			f.Severity = operation.Critical
		}
		findings = append(findings, f)
	}
	return findings
}

// evictedSince counts evictions since the record. The counter begins anew with the
// server: then those of before its restart are unknown, and not counted.
func evictedSince(p pair) int64 {
	evicted := p.member.Info.Int("evicted_keys")
	if evicted >= p.before.Evicted {
		return evicted - p.before.Evicted
	}
	return evicted
}

// settings compares what keeps the data.
func (r *run) settings() {
	state := Skipped
	said := []string{"nothing was recorded to compare with"}
	var findings []operation.Finding
	for _, p := range r.pairs {
		switch {
		case p.before == nil:
			continue
		case p.err != nil:
			findings = append(findings, unanswered(p))
			continue
		case state == Skipped:
			state, said = OK, nil
		}
		text := persistence(p.now)
		if len(r.pairs) > 1 {
			text = p.member.Name + ": " + text
		}
		said = append(said, text)
		if p.now.AOF == p.before.AOF && p.now.Save == p.before.Save {
			continue
		}
		state = Changed
		f := operation.Finding{
			Code: "persistence-changed", Severity: operation.Notice, Subject: p.member.Name,
			Message: fmt.Sprintf("keeps its data by %s, before by %s", persistence(p.now), persistence(*p.before)),
		}
		if p.before.AOF && !p.now.AOF || p.before.Save != "" && p.now.Save == "" {
			f.Severity = operation.Warning
			f.Hint = "what was set with CONFIG SET is gone with a restart; put it into the release's values"
		}
		findings = append(findings, f)
	}
	r.add("settings", state, findings, "%s", strings.Join(said, "; "))
}

func unanswered(p pair) operation.Finding {
	return operation.Finding{
		Code: "not-checked", Severity: operation.Warning, Subject: p.member.Name, Message: "could not be asked: " + p.err.Error(),
	}
}

// persistence names what a server keeps its data by.
func persistence(data upgrade.BaselineData) string {
	var by []string
	if data.Save != "" {
		by = append(by, "save points ("+data.Save+")")
	}
	if data.AOF {
		by = append(by, "append-only file")
	}
	if len(by) == 0 {
		return "nothing"
	}
	return strings.Join(by, " and ")
}

// How much slower answers may be than before. Below slowFloor they are network and chance.
const (
	slowFactor = 5
	slowFloor  = 5 * time.Millisecond
)

// slower reports whether a latency is worth a finding.
func slower(now, before upgrade.Latency) bool {
	return now.P99 > slowFactor*before.P99 && now.P99-before.P99 > slowFloor.Microseconds()
}

// latency compares how quickly servers answer, as this computer sees it.
func (r *run) latency(ctx context.Context) {
	if r.o.Quick {
		r.add("latency", Skipped, nil, "left out (--quick)")
		return
	}
	var said []string
	var findings []operation.Finding
	for _, p := range r.pairs {
		if p.err == nil && p.before != nil && slower(p.now.Latency, p.before.Latency) {
			p.again(ctx, r)
		}
		if p.err != nil {
			findings = append(findings, unanswered(p))
			continue
		}
		text := latencyText(p.now.Latency)
		if p.before != nil {
			text += ", before " + latencyText(p.before.Latency)
			if slower(p.now.Latency, p.before.Latency) {
				findings = append(findings, operation.Finding{
					Code: "latency-higher", Severity: operation.Warning, Subject: p.member.Name,
					Message: fmt.Sprintf("%d PINGs took %s", upgrade.Pings, text),
					Hint:    "measured from here: the way to the cluster counts, too; redisctl health ping measures again",
				})
			}
		}
		if len(r.pairs) > 1 {
			text = p.member.Name + ": " + text
		}
		said = append(said, text)
	}
	state := OK
	if len(said) == 0 {
		state, said = Skipped, []string{"no server to measure"}
	}
	r.add("latency", state, findings, "%s", strings.Join(said, "; "))
}

// again measures once more: one burst of traffic on the way is no news.
func (p *pair) again(ctx context.Context, r *run) {
	data, err := upgrade.TakeData(ctx, r.Connector, r.topology.Deployment, p.member, upgrade.Pings, r.o.Health.Timeout)
	if err != nil {
		p.err = err
	} else if data.Latency.P99 < p.now.Latency.P99 {
		p.now.Latency = data.Latency
	}
}

func latencyText(l upgrade.Latency) string {
	in := func(us int64) time.Duration { return time.Duration(us) * time.Microsecond }
	return fmt.Sprintf("p50 %s, p99 %s, max %s", in(l.P50), in(l.P99), in(l.Max))
}

package maintenance

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// Flush empties a deployment.
type Flush struct {
	Maintenance
	Locker operation.Locker
	Notes  operation.Notes
	Keeper Keeper
}

// Keeper keeps what is about to be deleted.
type Keeper interface {
	// Keep stores a backup of an instance and returns where it is.
	Keep(ctx context.Context, d *operation.Deployment, i operation.Instance) (string, error)
}

// FlushOptions are the user's choices.
type FlushOptions struct {
	// DB is the database that is emptied; below 0 for all (FLUSHALL).
	DB int
	// Instance is the primary's name; empty for the observed one.
	Instance string
	// NoBackup deletes without a backup.
	NoBackup bool
	// Settle is how long the replicas may take to follow.
	Settle time.Duration
}

// DefaultSettle is how long replicas may take to carry out what the primary has.
const DefaultSettle = 30 * time.Second

// FlushPlan is what a flush is going to do.
type FlushPlan struct {
	operation.Plan
	Instance string `json:"instance"`
	// Command is FLUSHALL or FLUSHDB.
	Command string `json:"command"`
	// DB is the database that FLUSHDB empties.
	DB *int `json:"db,omitempty"`
	// Keys are there now, in Databases.
	Keys      int64          `json:"keys"`
	Databases []redis.DBKeys `json:"databases"`
	// Replicas follow the primary and are emptied with it.
	Replicas []string `json:"replicas"`
	Backup   bool     `json:"backup"`

	deployment *operation.Deployment
	topology   topology.Topology
	options    FlushOptions
}

// Flushed is what became of a flush.
type Flushed struct {
	Named
	Command string `json:"command"`
	DB      *int   `json:"db,omitempty"`
	// Deleted is how many keys were there right before.
	Deleted int64 `json:"deleted"`
	// Backup is where they are kept; left out without one.
	Backup string `json:"backup,omitempty"`
	// WrittenAfterBackup are the bytes of replication history between the backup and the
	// command: writes that are in neither. It may be a few without any, which are PINGs to
	// the replicas.
	WrittenAfterBackup int64 `json:"writtenAfterBackupBytes"`
	// WrittenMeanwhile is how many keys clients have written since.
	WrittenMeanwhile int64 `json:"writtenMeanwhile"`
	// Confirmed is set when the server has answered OK. Without it the answer was lost,
	// and that nothing is left is the proof.
	Confirmed bool `json:"confirmed"`
	// MemoryBefore and MemoryAfter are what the primary has allocated, in bytes. ASYNC
	// gives the memory back in the background: FreeingObjects are still to come.
	MemoryBefore   int64            `json:"memoryBefore"`
	MemoryAfter    int64            `json:"memoryAfter"`
	FreeingObjects int64            `json:"freeingObjects"`
	Replicas       []FlushedReplica `json:"replicas"`
	Seconds        float64          `json:"seconds"`
	// Hints say what of the old data is left where.
	Hints []string `json:"hints"`
}

// FlushedReplica is what became of a replica.
type FlushedReplica struct {
	Name string `json:"name"`
	// State is "flushed" when it has carried the command out, "behind" when it had not in
	// time, or "no answer".
	State string `json:"state"`
	// Keys it has now.
	Keys int64 `json:"keys"`
}

// The states of a FlushedReplica.
const (
	ReplicaFlushed = "flushed"
	ReplicaBehind  = "behind"
	ReplicaSilent  = "no answer"
)

// Verified reports whether every replica has followed.
func (f Flushed) Verified() bool {
	for _, r := range f.Replicas {
		if r.State != ReplicaFlushed {
			return false
		}
	}
	return true
}

func (o FlushOptions) command() string {
	if o.DB < 0 {
		return "FLUSHALL"
	}
	return "FLUSHDB"
}

func (o FlushOptions) concerns(db int) bool { return o.DB < 0 || o.DB == db }

func (o FlushOptions) db() *int {
	if o.DB < 0 {
		return nil
	}
	return &o.DB
}

// Plan looks at what would be deleted, and at what stands in the way. It only reads.
func (f Flush) Plan(ctx context.Context, d *operation.Deployment, o FlushOptions) (*FlushPlan, error) {
	p := &FlushPlan{
		Plan:    operation.Plan{Operation: "maintenance " + map[bool]string{true: "flushall", false: "flushdb"}[o.DB < 0], Object: d.String()},
		Command: o.command(), DB: o.db(), Backup: !o.NoBackup, deployment: d, options: o,
	}
	p.topology = topology.Observe(ctx, f.Connector, d, f.Timeout)
	if err := p.topology.Denied(); err != nil {
		return nil, err
	}
	primary, err := f.target(p)
	if err != nil {
		return nil, err
	}
	p.Instance = primary.Name
	for _, db := range primary.Info.Keyspace() {
		if o.concerns(db.DB) {
			p.Databases = append(p.Databases, db)
			p.Keys += db.Keys
		}
	}
	for i := range p.topology.Members {
		if p.topology.Members[i].Follows == primary.Name {
			p.Replicas = append(p.Replicas, p.topology.Members[i].Name)
		}
	}
	if err := f.check(ctx, p, primary); err != nil {
		return nil, err
	}
	p.addSteps()
	return p, nil
}

// target is the primary that is to be emptied.
func (f Flush) target(p *FlushPlan) (*topology.Member, error) {
	name := p.options.Instance
	if name == "" {
		return f.primary(&p.topology)
	}
	m := p.topology.Member(name)
	switch {
	case m.Err != nil:
		return nil, m.Err
	case m.Replication.Role != redis.RolePrimary:
		return nil, &operation.Error{
			Kind: operation.Refused, Object: p.Object, Phase: p.Operation, Err: fmt.Errorf("%s is a replica of %s", name, m.Upstream()),
			Unchanged: "nothing was changed", Next: "leave --pod out: the primary is emptied, and its replicas with it",
		}
	}
	return m, nil
}

func (f Flush) check(ctx context.Context, p *FlushPlan, primary *topology.Member) error {
	for _, unfinished := range []func(context.Context, operation.Notes, *operation.Deployment) ([]operation.Finding, error){
		restore.UnfinishedRestore, restore.UnfinishedFailover,
	} {
		found, err := unfinished(ctx, f.Notes, p.deployment)
		if err != nil {
			return err
		}
		p.Findings = append(p.Findings, found...)
	}
	if w := p.deployment.Workload; w != nil && w.Annotations[operation.NoteUpgrade] != "" {
		p.Findings = append(p.Findings, operation.Finding{
			Code: "unfinished-upgrade", Severity: operation.Critical, Subject: p.Object,
			Message: "an upgrade is not finished", Hint: "redisctl upgrade resume or abort",
		})
	}
	if len(p.topology.Primaries()) > 1 && !p.topology.Independent() {
		p.Findings = append(p.Findings, operation.Finding{
			Code: "two-primaries", Severity: operation.Critical, Subject: p.Object,
			Message: "several instances say that they are primaries", Hint: "redisctl replication heal",
		})
	}
	for i := range p.topology.Members {
		if m := &p.topology.Members[i]; m.Err != nil {
			p.Findings = append(p.Findings, operation.Finding{
				Code: "unreachable", Severity: operation.Warning, Subject: m.Name,
				Message: "does not answer: whether it was emptied, too, cannot be told: " + m.Err.Error(),
			})
		}
	}
	if primary.Info.Persistence().Loading {
		p.Findings = append(p.Findings, operation.Finding{
			Code: "loading", Severity: operation.Critical, Subject: primary.Name, Message: "it reads its data set at start-up", Hint: "wait until it is ready",
		})
	}
	return f.checkCommand(ctx, p, primary)
}

// checkCommand finds out whether the server has the command.
func (f Flush) checkCommand(ctx context.Context, p *FlushPlan, primary *topology.Member) error {
	name, disabled := p.deployment.Config.Renames().Lookup(p.Command)
	if disabled {
		name = p.Command // the server may run with an older configuration: its answer is the truth
	}
	s, err := f.Sessions.OpenSession(ctx, p.deployment, primary.Instance, max(0, p.options.DB))
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // the reply is here
	reply, err := ask(ctx, s, f.Timeout, "COMMAND", "INFO", name)
	if err != nil {
		return nil // it is not allowed: the command itself will tell
	}
	if reply.item(0).Kind != Array {
		p.Findings = append(p.Findings, operation.Finding{
			Code: "command-disabled", Severity: operation.Critical, Subject: primary.Name,
			Message: fmt.Sprintf("the server does not know %s: it was disabled or renamed (rename-command)", p.Command),
			Hint:    "a name that the release's redis.conf gives it is found by itself; otherwise enable it in the chart's values, or delete by key: redisctl maintenance keys",
		})
	}
	return nil
}

func (p *FlushPlan) addSteps() {
	what := "all databases"
	if p.options.DB >= 0 {
		what = "database " + strconv.Itoa(p.options.DB)
	}
	if p.Backup {
		p.Steps = append(p.Steps, operation.Step{Action: "back up the whole data set", Subject: p.Instance})
	}
	p.Steps = append(p.Steps,
		operation.Step{Action: fmt.Sprintf("delete the %d keys of %s (%s ASYNC)", p.Keys, what, p.Command), Subject: p.Instance, Mutates: true})
	for _, r := range p.Replicas {
		p.Steps = append(p.Steps, operation.Step{Action: "wait until it has done so, too", Subject: r})
	}
}

// Apply deletes, and looks at what is left. The error is of kind Failed when that is not
// to be told, and the result then says how far it came.
func (f Flush) Apply(ctx context.Context, p *FlushPlan) (Flushed, error) {
	r := Flushed{Named: named(p.deployment, p.Instance), Command: p.Command, DB: p.DB}
	if err := p.Refusal(); err != nil {
		return r, err
	}
	locked, release, err := f.Locker.Lock(ctx, p.deployment)
	if err != nil {
		return r, err
	}
	defer release()
	x := flushing{Flush: f, plan: p, object: objectOf(p.deployment, *p.deployment.Instance(p.Instance)), result: &r}
	return r, x.run(locked)
}

// flushing is a flush in progress.
type flushing struct {
	Flush
	plan   *FlushPlan
	object string
	result *Flushed
	server operation.Server
	before redis.Info
	offset int64 // of the backup
}

func (x *flushing) run(ctx context.Context) (err error) {
	i := *x.plan.deployment.Instance(x.plan.Instance)
	if x.server, err = x.Connector.Connect(ctx, x.plan.deployment, i); err != nil {
		return err
	}
	defer func() { _ = x.server.Close() }() // what it was asked is answered
	if err := x.recheck(ctx); err != nil {
		return err
	}
	x.offset = x.before.Int("master_repl_offset")
	if x.plan.Backup {
		x.Reporter.Step("backing up %s first", x.plan.Instance)
		if x.result.Backup, err = x.Keeper.Keep(ctx, x.plan.deployment, i); err != nil {
			return x.unchanged("backing up first", err)
		}
		x.Reporter.Note("kept in %s", x.result.Backup)
		if err := x.recheck(ctx); err != nil {
			return err
		}
	}
	s, err := x.Sessions.OpenSession(ctx, x.plan.deployment, i, max(0, x.plan.options.DB))
	if err != nil {
		return x.unchanged(x.plan.Command, err)
	}
	defer func() { _ = s.Close() }() // the answer is here, or the primary is looked at
	if err := x.send(ctx, s); err != nil {
		return err
	}
	// What was begun is looked at to the end, whoever interrupts it.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.plan.options.Settle+2*x.Timeout)
	defer cancel()
	return x.verify(after)
}

func (x *flushing) unchanged(phase string, err error) error {
	e := &operation.Error{Kind: operation.KindOf(err), Object: x.object, Phase: phase, Err: err}
	var known *operation.Error
	if errors.As(err, &known) {
		kept := *known
		e = &kept
	}
	if e.Unchanged == "" {
		e.Unchanged = "nothing was deleted"
	}
	return e
}

// recheck makes sure that the server is still the one that was planned with.
func (x *flushing) recheck(ctx context.Context) error {
	info, err := x.server.Info(ctx)
	if err != nil {
		return x.unchanged("looking at the primary", err)
	}
	planned := x.plan.topology.Member(x.plan.Instance)
	state, err := info.Replication()
	switch {
	case err != nil:
		return x.unchanged("looking at the primary", err)
	case info.Get("run_id") != planned.Info.Get("run_id"):
		err = errors.New("it was restarted since the plan was made")
	case state.Role != redis.RolePrimary:
		err = errors.New("it is not the primary any more")
	}
	if err != nil {
		return &operation.Error{
			Kind: operation.Refused, Object: x.object, Phase: x.plan.Operation, Err: err, Unchanged: "nothing was deleted", Next: "run the command again",
		}
	}
	x.before = info
	return nil
}

// send sends the command. When the answer is lost, verify tells.
func (x *flushing) send(ctx context.Context, s Session) error {
	r := x.result
	r.Deleted, r.MemoryBefore = x.keysIn(x.before), x.before.Memory().Used
	if r.Backup != "" {
		r.WrittenAfterBackup = max(0, x.before.Int("master_repl_offset")-x.offset)
	}
	x.Reporter.Step("%s ASYNC on %s: %d keys", x.plan.Command, x.plan.Instance, r.Deleted)
	begin := time.Now()
	_, err := ask(ctx, s, x.Timeout, x.plan.Command, "ASYNC")
	r.Seconds = time.Since(begin).Seconds()
	r.Confirmed = err == nil
	var refused interface{ Code() string }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return x.unchanged(x.plan.Command, err)
	default:
		x.Reporter.Warn("the answer was lost (%v); looking at what has happened", err)
		return nil
	}
}

func (x *flushing) keysIn(info redis.Info) (keys int64) {
	for _, db := range info.Keyspace() {
		if x.plan.options.concerns(db.DB) {
			keys += db.Keys
		}
	}
	return keys
}

// verify looks at what is left on the primary and on the replicas.
func (x *flushing) verify(ctx context.Context) error {
	r := x.result
	info, err := x.server.Info(ctx)
	if err == nil && !r.Confirmed {
		info, err = x.awaitArrival(ctx, info)
	}
	if err != nil {
		return &operation.Error{
			Kind: operation.KindOf(err), Object: x.object, Phase: "looking at what is left", Err: err, Next: "redisctl maintenance dbsize",
		}
	}
	if !r.Confirmed && x.untouched(info) {
		return &operation.Error{
			Kind: operation.Failed, Object: x.object, Phase: x.plan.Command,
			Err:  fmt.Errorf("there was no answer, and the keys are still there after %s", x.Timeout),
			Next: "redisctl maintenance dbsize, and again: nobody can tell that the command does not arrive later",
		}
	}
	r.WrittenMeanwhile = x.keysIn(info)
	r.MemoryAfter, r.FreeingObjects = info.Memory().Used, info.Int("lazyfree_pending_objects")
	r.Hints = x.hints(info)
	x.awaitReplicas(ctx, info)
	return nil
}

// untouched reports whether as many keys are there as before.
func (x *flushing) untouched(info redis.Info) bool {
	return x.result.Deleted > 0 && x.keysIn(info) >= x.result.Deleted
}

// awaitArrival waits as long as an answer was waited for: a command may still be on its way
// when its connection is given up here.
func (x *flushing) awaitArrival(ctx context.Context, info redis.Info) (redis.Info, error) {
	until := time.Now().Add(x.Timeout)
	for wait := newPoll(); x.untouched(info) && time.Now().Before(until); {
		if err := wait.next(ctx); err != nil {
			return info, err
		}
		var err error
		if info, err = x.server.Info(ctx); err != nil {
			return info, err
		}
	}
	return info, nil
}

// awaitReplicas waits until every replica has come to where the primary was right after
// the command: then it has carried it out.
func (x *flushing) awaitReplicas(ctx context.Context, primary redis.Info) {
	id, offset := primary.Get("master_replid"), primary.Int("master_repl_offset")
	deadline := time.Now().Add(x.plan.options.Settle)
	if len(x.plan.Replicas) > 0 {
		x.Reporter.Step("waiting for %d replicas", len(x.plan.Replicas))
	}
	for _, name := range x.plan.Replicas {
		x.result.Replicas = append(x.result.Replicas, x.awaitReplica(ctx, name, id, offset, deadline))
	}
	// Those that could not be asked before, and may follow this primary.
	for i := range x.plan.topology.Members {
		if m := &x.plan.topology.Members[i]; m.Err != nil && len(x.plan.topology.Members) > 1 && !x.plan.topology.Independent() {
			x.result.Replicas = append(x.result.Replicas, FlushedReplica{Name: m.Name, State: ReplicaSilent})
		}
	}
}

func (x *flushing) awaitReplica(ctx context.Context, name, id string, offset int64, deadline time.Time) FlushedReplica {
	r := FlushedReplica{Name: name, State: ReplicaSilent}
	s, err := x.Connector.Connect(ctx, x.plan.deployment, *x.plan.deployment.Instance(name))
	if err != nil {
		return r
	}
	defer func() { _ = s.Close() }() // it has been judged
	for wait := newPoll(); ; {
		info, err := s.Info(ctx, "replication", "keyspace")
		if err != nil {
			return r
		}
		r.State, r.Keys = ReplicaBehind, x.keysIn(info)
		if info.Get("master_replid") == id && info.Int("slave_repl_offset") >= offset {
			r.State = ReplicaFlushed
			return r
		}
		if time.Now().After(deadline) || wait.next(ctx) != nil {
			return r
		}
	}
}

// hints say what of the old data is left where.
func (x *flushing) hints(info redis.Info) []string {
	var hints []string
	if x.result.Backup != "" {
		hints = append(hints, "redisctl restore rdb "+x.result.Backup+" brings them back")
	}
	p := info.Persistence()
	if p.AOFEnabled {
		hints = append(hints, "the append-only file holds the old data until its next rewrite, which redisctl maintenance aof-rewrite begins")
	}
	member := x.plan.topology.Member(x.plan.Instance)
	switch {
	case member.SavePoints && x.plan.Command == "FLUSHALL":
		hints = append(hints, "the RDB file has been written anew: FLUSHALL saves where save points are set")
	case member.SavePoints:
		hints = append(hints, "the RDB file holds the old data until the next save")
	case !p.AOFEnabled:
		hints = append(hints, "nothing is saved by itself: an RDB file from before would be loaded at a restart")
	}
	return hints
}

package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/rdb"
)

// Plan is what a live restore is going to do.
type Plan struct {
	operation.Plan
	// Backup is what is restored, Method is "live".
	Backup string `json:"backup"`
	Method string `json:"method"`
	// Instance is the server that it is restored into.
	Instance string `json:"instance"`
	// OfKeys is how many keys the backup holds, Keys how many of them are selected, and
	// Bytes their size as they are stored in the file. Expired of these would have expired
	// already, and are left out.
	OfKeys  int64 `json:"ofKeys"`
	Keys    int64 `json:"keys"`
	Expired int64 `json:"expired"`
	Bytes   int64 `json:"bytes"`
	// Unsupported keys are of types that the server does not know, Rebuilt ones are made by
	// commands, because they are in a form that it does not know (Converted of them), or too
	// large to be sent whole.
	Unsupported int64 `json:"unsupported"`
	Rebuilt     int64 `json:"rebuilt"`
	Converted   int64 `json:"converted"`
	// Functions is how many function libraries are restored.
	Functions int64 `json:"functions"`
	// FunctionsLeftOut is how many are left out, because the server has none.
	FunctionsLeftOut int64 `json:"functionsLeftOut"`
	// Databases are those of the server that keys go to.
	Databases []int `json:"databases"`

	deployment *operation.Deployment
	backup     restore.Backup
	from, ref  string // as the record names the backup
	contents   restore.Contents
	options    Options
	target     *topology.Member
	limits     limits
	survey     *survey
	begun      time.Time
	// skew is how much the server's clock is ahead.
	skew time.Duration
	// refused are the type bytes that the server does not know.
	refused map[byte]bool
	// converted are the type bytes that the server does not know, but takes as commands.
	converted map[byte]bool
	wasEmpty  bool
	// libraries is how many function libraries the server has.
	libraries int
	// safety is set when the present data is backed up first.
	safety bool
	// record is that of the restore that is resumed; nil for a new one.
	record *Record
}

// Refusal is that of operation.Plan, of kind Unsupported when the server cannot take what
// the backup holds.
func (p *Plan) Refusal() error {
	err := p.Plan.Refusal()
	var e *operation.Error
	if errors.As(err, &e) && slices.ContainsFunc(p.Blockers(), func(f operation.Finding) bool { return f.Code == codeUnsupported }) {
		refused := *e
		refused.Kind = operation.Unsupported
		return &refused
	}
	return err
}

// Judge gives the refusal of this plan the kind that Refusal gives it; other errors stay
// as they are.
func (p *Plan) Judge(err error) error {
	if operation.KindOf(err) != operation.Refused {
		return err
	}
	if refusal := p.Refusal(); refusal != nil {
		return refusal
	}
	return err
}

// NameSource says how the record of the restore is to name the backup, and the store that
// has it, so that both are found again; from is empty when ref alone does.
func (p *Plan) NameSource(from, ref string) { p.from, p.ref = from, ref }

// codeUnsupported is the code of findings about what a server cannot take.
const codeUnsupported = "unsupported-by-target"

// Plan verifies the backup, observes d, and lists every obstacle. It only reads, but for
// one RESTORE with a payload that no server takes.
func (r Restore) Plan(ctx context.Context, d *operation.Deployment, backup restore.Backup, o Options) (*Plan, error) {
	return r.plan(ctx, d, backup, o, nil)
}

func (r Restore) plan(
	ctx context.Context, d *operation.Deployment, backup restore.Backup, o Options, record *Record,
) (*Plan, error) {
	p := &Plan{
		Plan:   operation.Plan{Operation: "restore rdb", Object: d.String(), Findings: []operation.Finding{}, Steps: []operation.Step{}},
		Backup: backup.Name(), Method: Method, deployment: d, backup: backup, options: o, refused: make(map[byte]bool), converted: make(map[byte]bool), record: record,
		begun: r.Now(), ref: backup.Name(),
	}
	if record != nil {
		p.begun = record.Begun
	}
	t := topology.Observe(ctx, r.Connector, d, o.Timeout)
	var err error
	if p.target, err = chooseTarget(&t, o.Instance); err != nil {
		return nil, err
	}
	p.Instance = p.target.Name
	server, err := r.Connector.Connect(ctx, d, p.target.Instance)
	if err != nil {
		return nil, err
	}
	defer func() { _ = server.Close() }() // it was only asked
	if err := r.askServer(ctx, p, server); err != nil {
		return nil, err
	}
	if err := r.readBackup(ctx, p); err != nil {
		return nil, err
	}
	if err := p.probe(ctx, server); err != nil {
		return nil, err
	}
	if err := r.checkRecords(ctx, p); err != nil {
		return nil, err
	}
	if record == nil { // else taking the lock says so: the one who was killed may still have it
		p.Findings = append(p.Findings, restore.Locked(ctx, r.Locker, d)...)
	}
	p.findings()
	p.steps()
	return p, nil
}

// block adds an obstacle that no flag overrides.
func (p *Plan) block(subject, code, message, hint string) {
	p.Findings = append(p.Findings, operation.Finding{
		Code: code, Severity: operation.Critical, Subject: subject, Message: message, Hint: hint,
	})
}

func (r Restore) askServer(ctx context.Context, p *Plan, server operation.Server) error {
	if p.target.Info.Persistence().Loading {
		p.block(p.Instance, "loading", "it is loading its data set", "wait until it has: redisctl health")
		return nil
	}
	p.limits = askLimits(ctx, server)
	clock, err := operation.ServerTime(ctx, server)
	if err != nil {
		return err
	}
	p.skew = clock.Sub(r.Now())
	p.options.MaxPayload = min(p.options.MaxPayload, p.limits.payload)
	keys := p.target.Info.TotalKeys()
	if p.libraries, err = countLibraries(ctx, server, p.target.Version); err != nil {
		return err
	}
	p.wasEmpty = keys == 0 && p.libraries == 0
	if p.record != nil {
		p.wasEmpty = p.record.WasEmpty
		return nil
	}
	if !p.options.SkipExisting {
		p.Findings = append(p.Findings, restore.NotEmpty(p.Instance, keys, "--replace or --skip-existing", p.options.Replace)...)
	}
	p.safety = keys > 0 && p.options.Replace && !p.options.NoSafetyBackup
	return nil
}

// readBackup verifies the backup and counts what is selected.
func (r Restore) readBackup(ctx context.Context, p *Plan) error {
	r.Reporter.Step("verifying %s", p.Backup)
	p.backup.Visitor = func() rdb.Visitor {
		p.survey = newSurvey(&p.options.Selection, p.begun, p.limits.payload)
		return p.survey.visitor()
	}
	p.backup.Visitor()
	var err error
	if p.contents, err = p.backup.Verify(ctx, r.Now(), r.Reporter); err != nil {
		return err
	}
	s := p.survey
	p.OfKeys, p.Keys, p.Expired, p.Bytes, p.Databases = s.total, s.keys, s.expired, s.bytes, s.databases()
	if !p.options.NoFunctions {
		p.Functions = s.functions
	}
	return nil
}

func (p *Plan) probe(ctx context.Context, server operation.Server) error {
	if p.target.Info.Persistence().Loading {
		return nil // that blocks the plan already
	}
	err := probe(ctx, server, p.survey.probe)
	if err == nil {
		return nil
	}
	e := &operation.Error{
		Kind: operation.KindOf(err), Object: p.Instance, Phase: "asking whether it takes writes", Err: err, Unchanged: "nothing was changed",
	}
	var reply interface{ Code() string }
	if errors.As(err, &reply) {
		if e.Kind == operation.Failed {
			e.Kind = operation.Refused
		}
		e.Next = map[string]string{
			"NOPERM": "allow the user to run RESTORE and SELECT on all keys", "OOM": "raise maxmemory, or free memory",
			"MISCONF": "redisctl health names why it cannot save", "READONLY": "redisctl replication info shows the primary",
		}[reply.Code()]
	}
	return e
}

// checkRecords blocks what would interfere with another unfinished operation.
func (r Restore) checkRecords(ctx context.Context, p *Plan) error {
	if p.record == nil {
		found, err := restore.UnfinishedRestore(ctx, r.Notes, p.deployment)
		if err != nil {
			return err
		}
		p.Findings = append(p.Findings, found...)
	}
	found, err := restore.UnfinishedFailover(ctx, r.Notes, p.deployment)
	p.Findings = append(p.Findings, found...)
	return err
}

func (p *Plan) findings() {
	common := p.options.Overrides
	p.Findings = append(p.Findings, common.Common(p.Backup, p.deployment, p.contents)...)
	// Nothing is done to objects that a controller owns.
	p.Findings = slices.DeleteFunc(p.Findings, func(f operation.Finding) bool { return f.Code == "managed-by-controller" })
	if p.record == nil {
		p.Findings = append(p.Findings, p.memory()...)
	}
	p.checkTypes()
	for _, db := range p.Databases {
		if p.limits.databases > 0 && db >= p.limits.databases {
			p.block(p.Instance, "no-such-database", fmt.Sprintf("%d keys are for database %d, it has %d", p.survey.dbs[db], db, p.limits.databases),
				"choose others with --map-db, or raise its setting databases")
		}
	}
	if n := p.survey.longKeys; n > 0 {
		p.block(p.Backup, codeUnsupported, fmt.Sprintf("%d keys have names of more than %s", n, operation.Bytes(rdb.DefaultKeyLimit)), "exclude them with --exclude")
	}
	if p.record == nil && p.Functions > 0 && p.libraries > 0 && !p.options.Replace && !p.options.SkipExisting {
		p.Findings = append(p.Findings, operation.Finding{
			Code: "target-has-functions", Severity: operation.Critical, Subject: p.Instance,
			Message: fmt.Sprintf("it holds %d function libraries", p.libraries), Override: "--replace, --skip-existing or --no-functions",
		})
	}
	if n := p.survey.impossible; n > 0 {
		p.block(p.Instance, codeUnsupported, fmt.Sprintf("%d values of modules are larger than the %s that it takes at once", n, operation.Bytes(p.limits.payload)),
			"raise its setting proto-max-bulk-len")
	}
	if p.Keys == 0 && p.Functions == 0 && p.contents.Problem == nil {
		p.Findings = append(p.Findings, operation.Finding{
			Code: "nothing-selected", Severity: operation.Warning, Subject: p.Backup, Message: fmt.Sprintf("none of its %d keys is selected", p.OfKeys),
		})
	}
}

// memory judges what the selected keys will take, in proportion to their size.
func (p *Plan) memory() []operation.Finding {
	c := p.contents
	needed, err := strconv.ParseInt(c.Summary.Aux["used-mem"], 10, 64)
	if err != nil || p.survey.total == 0 || c.Size == 0 {
		return nil
	}
	share := min(1, float64(p.Bytes)/float64(c.Size))
	if p.options.All() {
		share = 1
	}
	c.Summary.Aux = map[string]string{"used-mem": strconv.FormatInt(int64(float64(needed)*share), 10)}
	return p.options.FitsMemory(p.Instance, p.target.Info, c, false)
}

// checkTypes finds what the server cannot take.
func (p *Plan) checkTypes() {
	version, s := p.target.Version, p.contents.Summary
	override := "--skip-unsupported"
	add := func(message, hint string) {
		p.Findings = append(p.Findings, operation.Finding{
			Code: codeUnsupported, Severity: operation.Critical, Subject: p.Instance, Message: message, Hint: hint,
			Override: override, Overridden: p.options.SkipUnsupported,
		})
	}
	p.Rebuilt = p.survey.oversized
	var forms []*form
	for _, f := range p.survey.unsupported(version.RDBVersion(), s.Origin) {
		if rdb.Expressible(f.rdbType, version.RDBVersion()) {
			p.converted[f.rdbType] = true
			p.Converted += f.keys
			p.Rebuilt += f.keys - f.oversized
			continue
		}
		p.refused[f.rdbType] = true
		forms = append(forms, f)
	}
	if text, keys := describe(forms); keys > 0 {
		p.Unsupported = keys
		add(fmt.Sprintf("%s cannot take %d of the %d keys: %s", version, keys, p.Keys, text),
			"restore into a newer server, or leave them out")
	}
	if p.Functions > 0 && !knowsFunctions(version) {
		add(fmt.Sprintf("%s has no functions, the backup has %d libraries", version, p.Functions), "leave them out with --no-functions")
		p.FunctionsLeftOut, p.Functions = p.Functions, 0
		p.options.NoFunctions = true
	}
}

func (p *Plan) steps() {
	add := func(mutates bool, subject, format string, args ...any) {
		p.Steps = append(p.Steps, operation.Step{Action: fmt.Sprintf(format, args...), Subject: subject, Mutates: mutates})
	}
	add(true, p.Object, "take the lock, and note what is begun")
	if p.safety {
		add(false, p.Instance, "back up the present data")
	}
	if p.Functions > 0 {
		add(true, p.Instance, "restore %d function libraries", p.Functions)
	}
	into := make([]string, len(p.Databases))
	for i, db := range p.Databases {
		into[i] = strconv.Itoa(db)
	}
	what := fmt.Sprintf("restore %d of the %d keys into database %s", p.Keys-p.Unsupported, p.OfKeys, strings.Join(into, ", "))
	switch {
	case p.options.Replace:
		what += ", in place of those that are there"
	case p.options.SkipExisting:
		what += ", but for those that are there"
	}
	add(true, p.Instance, "%s", what)
	if p.Converted > 0 {
		add(true, p.Instance, "make %d values by commands: it does not know the form that the backup has them in", p.Converted)
	}
	if n := p.Rebuilt - p.Converted; n > 0 {
		add(true, p.Instance, "build %d values of more than %s by commands", n, operation.Bytes(p.options.MaxPayload))
	}
	add(false, p.Instance, "compare values and expiry times with the backup")
}

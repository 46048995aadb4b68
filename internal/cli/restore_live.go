package cli

import (
	"context"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/storage"
)

// liveOptions are those of --method live alone.
type liveOptions struct {
	filter          live.Filter
	expiry          string
	mapDB           []string
	skipExisting    bool
	skipUnsupported bool
	noFunctions     bool
	maxPayload      int64
	pace            paceOptions
}

// paceOptions say how fast keys are sent.
type paceOptions struct {
	connections int
	maxLag      int64
	stall       time.Duration
}

func (o *paceOptions) addFlags(cmd *cobra.Command) {
	defaults := live.DefaultOptions()
	f := cmd.Flags()
	f.IntVar(&o.connections, "connections", defaults.Connections, "live: over how many connections keys are sent")
	f.Int64Var(&o.maxLag, "max-lag", defaults.MaxLag, "live: bytes that a replica may be behind before sending waits")
	f.DurationVar(&o.stall, "stall-timeout", defaults.Stall, "live: how long the server may not answer, or a replica not catch up")
}

func (o paceOptions) options(timeout time.Duration) (live.Options, error) {
	p := live.DefaultOptions()
	p.Connections, p.MaxLag, p.Stall, p.Timeout = o.connections, o.maxLag, o.stall, timeout
	const most = 64
	if p.Connections < 1 || p.Connections > most {
		return p, operation.Errorf(operation.Usage, "--connections %d: choose 1 to %d", p.Connections, most)
	}
	if p.MaxLag < 0 || p.Stall <= 0 {
		return p, operation.Errorf(operation.Usage, "--max-lag and --stall-timeout must be positive")
	}
	return p, nil
}

func (o *liveOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntSliceVar(&o.filter.InDBs, "db", nil, "live: only keys of these databases of the backup")
	f.StringArrayVar(&o.filter.Match, "match", nil, "live: only keys that match one of these patterns, as of SCAN MATCH (repeatable)")
	f.StringArrayVar(&o.filter.Exclude, "exclude", nil, "live: no keys that match one of these patterns (repeatable)")
	f.StringSliceVar(&o.filter.Types, "type", nil, "live: only keys of these types: "+strings.Join(rdb.TypeNames(), ", "))
	f.Int64Var(&o.filter.MinSize, "min-size", 0, "live: only values of at least so many bytes, as they are stored in the backup")
	f.Int64Var(&o.filter.MaxSize, "max-size", 0, "live: only values of at most so many bytes")
	f.StringVar(&o.expiry, "expiry", "any", "live: any keys, only those that expire (set), or only those that do not (none)")
	f.DurationVar(&o.filter.MinTTL, "min-ttl", 0, "live: only keys that have at least so long to live")
	f.DurationVar(&o.filter.MaxTTL, "max-ttl", 0, "live: only keys that have at most so long to live")
	f.StringArrayVar(&o.mapDB, "map-db", nil, "live: restore a database into another one: 0=3 (repeatable)")
	f.BoolVar(&o.skipExisting, "skip-existing", false, "live: keep keys that are there already, and restore the others")
	f.BoolVar(&o.skipUnsupported, "skip-unsupported", false, "live: leave out what the server is too old for (exit code 3)")
	f.BoolVar(&o.noFunctions, "no-functions", false, "live: leave function libraries out")
	f.Int64Var(&o.maxPayload, "max-payload", live.DefaultMaxPayload, "live: build values of more bytes by commands, instead of sending them whole")
	o.pace.addFlags(cmd)
	mustComplete(cmd, "type", cobra.FixedCompletions(rdb.TypeNames(), cobra.ShellCompDirectiveNoFileComp))
	mustComplete(cmd, "expiry", cobra.FixedCompletions([]string{"any", string(live.ExpirySet), string(live.ExpiryNone)}, cobra.ShellCompDirectiveNoFileComp))
}

// used reports whether a choice was made that only --method live knows.
func (o liveOptions) used() bool {
	pristine := liveOptions{expiry: "any", maxPayload: live.DefaultMaxPayload, pace: o.pace}
	return !reflect.DeepEqual(o, pristine)
}

// options fills in the operation's options.
func (o liveOptions) options(timeout time.Duration) (live.Options, error) {
	p, err := o.pace.options(timeout)
	if err != nil {
		return p, err
	}
	p.Filter, p.SkipExisting, p.SkipUnsupported, p.NoFunctions = o.filter, o.skipExisting, o.skipUnsupported, o.noFunctions
	switch o.expiry {
	case "any":
	case string(live.ExpirySet), string(live.ExpiryNone):
		p.Expiry = live.Expiry(o.expiry)
	default:
		return p, operation.Errorf(operation.Usage, "--expiry %q: choose any, set or none", o.expiry)
	}
	for _, word := range p.Types {
		if !isTypeName(word) {
			return p, operation.Errorf(operation.Usage, "--type %q: choose among %s", word, strings.Join(rdb.TypeNames(), ", "))
		}
	}
	const leastPayload = 64 << 10
	if p.MaxPayload = o.maxPayload; p.MaxPayload < leastPayload {
		return p, operation.Errorf(operation.Usage, "--max-payload %d: choose at least %d", o.maxPayload, leastPayload)
	}
	if f := p.Filter; f.MinSize < 0 || f.MaxSize < 0 || f.MinTTL < 0 || f.MaxTTL < 0 {
		return p, operation.Errorf(operation.Usage, "sizes and times to live cannot be negative")
	}
	p.DBs, err = parseMapDB(o.mapDB)
	return p, err
}

func isTypeName(word string) bool {
	for _, name := range rdb.TypeNames() {
		if name == word {
			return true
		}
	}
	return false
}

// parseMapDB reads --map-db.
func parseMapDB(words []string) (map[int]int, error) {
	var m map[int]int
	for _, word := range words {
		from, to, _ := strings.Cut(word, "=")
		a, errFrom := strconv.ParseUint(from, 10, 31)
		b, errTo := strconv.ParseUint(to, 10, 31)
		if errFrom != nil || errTo != nil {
			return nil, operation.Errorf(operation.Usage, "--map-db %q: write 0=3 for database 0 of the backup and 3 of the server", word)
		}
		if m == nil {
			m = make(map[int]int)
		}
		if _, twice := m[int(a)]; twice {
			return nil, operation.Errorf(operation.Usage, "--map-db names database %d twice", a)
		}
		m[int(a)] = int(b)
	}
	return m, nil
}

// liveRestore wires the way through a running server.
func (a *app) liveRestore(b *backend, safety storage.Store, reporter operation.Reporter) live.Restore {
	return live.Restore{
		Connector: b.Connector, Replayer: b.Replayer, Locker: b.Locker, Notes: b.Notes,
		Keeper:   copies{backup: a.rdbBackup(b, safety, reporter), stall: defaultStall, timeout: a.globals.timeout},
		Comparer: restore.Comparer{Connector: b.Connector, Values: b.Values, Reporter: reporter},
		Reporter: reporter, Now: a.system.Now, By: operator(),
	}
}

// runRestoreLive restores into a running server.
func (a *app) runRestoreLive(
	ctx context.Context, b *backend, d *operation.Deployment, o restoreRDBOptions, ref string, safety storage.Store, sample int64,
) error {
	options, err := o.live.options(a.globals.timeout)
	if err != nil {
		return err
	}
	if o.replace && options.SkipExisting {
		return operation.Errorf(operation.Usage, "choose --replace or --skip-existing")
	}
	options.Overrides, options.Replace, options.NoSafetyBackup, options.Sample = o.overrides, o.replace, o.noSafety, sample
	options.Instance = a.globals.target.Pod
	source, err := a.findSource(ctx, o.source, ref, withRDB()...)
	if err != nil {
		return err
	}
	reporter, done := a.narrator()
	defer done()
	op := a.liveRestore(b, safety, reporter)
	plan, err := op.Plan(ctx, d, source, options)
	if err != nil {
		return err
	}
	plan.NameSource(recordedSource(source))
	if proceed, err := a.review(ctx, reporter, o.dryRun, plan.Plan, planDocument(plan.Plan, plan)); !proceed {
		return plan.Judge(err)
	}
	if !o.yes {
		if err := a.confirmName(d, "restore %d keys of %s into %s", plan.Keys, source.Name(), plan.Instance); err != nil {
			return err
		}
	}
	result, failed := op.Apply(ctx, plan)
	done()
	return a.finishLive(result, failed, a.targetFlags(d))
}

// recordedSource is how a record names a backup, so that it is found again from any
// folder: a store that is a URL and an id, or the path of a file.
func recordedSource(b restore.Backup) (from, ref string) {
	from, ref = b.Store.Location(""), b.Name()
	if strings.Contains(from, "://") {
		return from, ref
	}
	path := b.Store.Location(b.Entry.DataName)
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	return "", path
}

// finishLive prints what became of a restore. failed is its error.
func (a *app) finishLive(result live.Result, failed error, target string) error {
	if failed != nil {
		return withTarget(failed, target)
	}
	if err := a.print(liveDocument(result)); err != nil {
		return err
	}
	if err := result.Verdict(); err != nil {
		return outcome(operation.KindOf(err), "%w", err)
	}
	return nil
}

// withTarget adds the flags that name the target to the commands that an error suggests.
func withTarget(err error, target string) error {
	var e *operation.Error
	if !asError(err, &e) || e.Next == "" {
		return err
	}
	kept := *e
	for _, command := range []string{"redisctl restore resume", "redisctl restore abort", "redisctl restore status"} {
		kept.Next = strings.ReplaceAll(kept.Next, command, command+target)
	}
	return &kept
}

// onUnfinishedLive does something about the record of an unfinished live restore. handled
// is false when there is none.
func (a *app) onUnfinishedLive(
	ctx context.Context, do func(context.Context, *backend, *operation.Deployment, *live.Record) error,
) (handled bool, err error) {
	b, d, err := a.open(ctx)
	if err != nil {
		return true, err
	}
	defer b.Close()
	record, err := a.liveRestore(b, nil, operation.DiscardReporter{}).Unfinished(ctx, d)
	if err != nil || record == nil {
		return err != nil, err
	}
	return true, do(ctx, b, d, record)
}

// resumeLive goes on with a live restore.
func (a *app) resumeLive(ctx context.Context, b *backend, d *operation.Deployment, o restoreResumeOptions, sample int64, record *live.Record) error {
	options, err := o.pace.options(a.globals.timeout)
	if err != nil {
		return err
	}
	options.Sample = sample
	if len(o.source.store.urls) == 0 && record.From != "" {
		o.source.store.urls = []string{record.From}
	}
	source, err := a.findSource(ctx, o.source, record.Backup, withRDB()...)
	if err != nil {
		return withNext(err, "say with --from where the backup is now")
	}
	if !o.yes {
		if err := a.confirm("go on with the restore of %s into %s, begun by %s", record.Backup, record.Instance, record.By); err != nil {
			return err
		}
	}
	reporter, done := a.narrator()
	defer done()
	result, failed := a.liveRestore(b, nil, reporter).Resume(ctx, d, source, options)
	done()
	return a.finishLive(result, failed, a.targetFlags(d))
}

// abortLive gives a live restore up.
func (a *app) abortLive(ctx context.Context, b *backend, d *operation.Deployment, yes bool, record *live.Record) error {
	if !yes {
		if err := a.confirm("give up the restore of %s into %s, begun by %s: what was restored stays", record.Backup, record.Instance, record.By); err != nil {
			return err
		}
	}
	given, err := a.liveRestore(b, nil, operation.DiscardReporter{}).Abort(ctx, d)
	if err != nil {
		return err
	}
	return a.print(liveAbortDocument(d, &given))
}

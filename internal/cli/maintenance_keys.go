package cli

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
	"github.com/redisctl/redisctl/internal/render"
)

func (a *app) newDBSizeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "dbsize",
		Short: "Count the keys of every instance and database",
		Long: `Counts the keys of every instance, by database, those that expire, and the mean time to
live as the server estimates it. A replica that has other counts than its primary stands
out, after three looks: counts of two servers are never taken at the same moment, so that
under writes they may differ though nothing is wrong.

Exit code 3 when some instances do not answer; with --pod its own, 7 when it hangs.`,
		Example: `  redisctl maintenance dbsize -n redis-prod
  redisctl maintenance dbsize -o jsonpath='{.instances[*].keys}'`,
		Args: noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			b, d, err := a.open(ctx)
			if err != nil {
				return err
			}
			defer b.Close()
			size, failed := a.maintenance(b, operation.DiscardReporter{}).Size(ctx, d)
			if pod := a.globals.target.Pod; pod != "" {
				failed = size.Only(pod)
			}
			if err := a.print(dbsizeDocument(size)); err != nil {
				return err
			}
			return a.advised(d, failed)
		}),
	}
}

func dbsizeDocument(s maintenance.DBSize) render.Document {
	doc := render.Document{Value: s}
	t := render.Table{Columns: []render.Column{
		{Title: "NAME"}, {Title: "ROLE"}, {Title: "DB"}, {Title: "KEYS", Right: true}, {Title: "EXPIRE", Right: true},
		{Title: "MEAN TTL", Right: true}, {Title: "THAN PRIMARY"},
	}}
	var remarks []string
	for _, i := range s.Instances {
		doc.Names = append(doc.Names, i.Name)
		name, role := render.Cell{Text: i.Name, Style: render.Strong}, render.T(string(i.Role))
		if i.Error != "" {
			t.Rows = append(t.Rows, []render.Cell{name, {Text: "no answer", Style: render.Bad}, {}, {}, {}, {}, {}})
			remarks = append(remarks, i.Name+": "+i.Error)
			continue
		}
		if len(i.Databases) == 0 {
			t.Rows = append(t.Rows, []render.Cell{name, role, {Text: "none", Style: render.Dim}, render.T("0"), render.T("0"), {}, {}})
		}
		for _, db := range i.Databases {
			t.Rows = append(t.Rows, []render.Cell{
				name, role, render.T("db" + strconv.Itoa(db.DB)), render.T(strconv.FormatInt(db.Keys, 10)), render.T(strconv.FormatInt(db.Expires, 10)),
				render.T(meanTTL(db.AvgTTLMS)), differenceCell(i, db),
			})
		}
		if i.Differs {
			remarks = append(remarks, differenceRemark(i))
		}
	}
	doc.Blocks = []render.Block{t, notesList(render.Warn, remarks...)}
	return doc
}

func meanTTL(ms int64) string {
	if ms == 0 {
		return ""
	}
	return ttlText(time.Duration(ms) * time.Millisecond)
}

func differenceCell(i maintenance.InstanceSize, db maintenance.DBKeys) render.Cell {
	switch {
	case i.Follows == "":
		return render.Cell{}
	case db.Difference == 0:
		return render.Cell{Text: "same", Style: render.Good}
	case db.Difference < 0:
		return render.Cell{Text: fmt.Sprintf("%d fewer", -db.Difference), Style: render.Warn}
	default:
		return render.Cell{Text: fmt.Sprintf("%d more", db.Difference), Style: render.Warn}
	}
}

func differenceRemark(i maintenance.InstanceSize) string {
	if i.BehindBytes > 0 {
		return fmt.Sprintf("%s is %s behind %s: it has yet to apply writes", i.Name, operation.Bytes(i.BehindBytes), i.Follows)
	}
	return fmt.Sprintf("%s has applied all that %s has written, and its counts differ: keys that have expired meanwhile, or that it lacks; "+
		"redisctl replication check, and backup rdb of both with backup diff, tell", i.Name, i.Follows)
}

type keysOptions struct {
	scan    scanOptions
	limit   int64
	long    bool
	showTTL bool
	size    bool
}

// scanOptions say which keys are walked through.
type scanOptions struct {
	db    int
	typ   string
	count int
	duty  int
}

func (o *scanOptions) addFlags(cmd *cobra.Command, db, duty int, dbHelp string) {
	f := cmd.Flags()
	f.IntVar(&o.db, "db", db, dbHelp)
	f.StringVar(&o.typ, "type", "", "only keys of this type: "+strings.Join(keyTypes(), ", ")+", or a module's name")
	f.IntVar(&o.count, "count", 500, "how many keys the server looks at in one step (SCAN COUNT), while it serves nobody else")
	f.IntVar(&o.duty, "duty", duty, "percent of the time that the server may work for this: after each step it is left alone accordingly")
	mustComplete(cmd, "type", cobra.FixedCompletions(keyTypes(), cobra.ShellCompDirectiveNoFileComp))
	mustComplete(cmd, "db", completeDBs)
	noCompletion(cmd, "count", "duty")
}

// completeDBs completes the numbers that servers have unless told otherwise.
func completeDBs(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	const usual = 16
	dbs := make([]string, usual)
	for i := range dbs {
		dbs[i] = strconv.Itoa(i)
	}
	return dbs, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// keyTypes are Redis's own types, as TYPE names them.
func keyTypes() []string { return []string{"string", "list", "set", "zset", "hash", "stream"} }

func (o scanOptions) options(match string) (maintenance.ScanOptions, error) {
	const most = 100_000
	switch {
	case o.count < 1 || o.count > most:
		return maintenance.ScanOptions{}, operation.Errorf(operation.Usage, "--count %d: choose 1 to %d", o.count, most)
	case o.duty < 1 || o.duty > 100:
		return maintenance.ScanOptions{}, operation.Errorf(operation.Usage, "--duty %d: choose 1 to 100", o.duty)
	}
	return maintenance.ScanOptions{DB: o.db, Match: match, Type: o.typ, Count: o.count, Duty: float64(o.duty) / 100}, nil
}

func (a *app) newKeysCommand() *cobra.Command {
	var o keysOptions
	cmd := &cobra.Command{
		Use:   "keys [PATTERN]",
		Short: "List keys with SCAN, one a line",
		Long: `Lists the keys of one database, those that match a pattern (h?llo, user:*, [ab]*), as they
come. It uses SCAN, which other clients hardly notice, and never KEYS; a key that exists
the whole time is listed, one that is written or deleted meanwhile may be or not.

SCAN may return a key twice. Repeated keys are left out as far as a table of 8 MiB
remembers them: all of them below some hundred thousand keys, most of them above.

Keys are printed as redis-cli prints them, with escapes for what is not printable. With
-o json each key is a document on a line of its own. The primary is asked, or --pod. The
pattern does not make it cheaper: the server looks at all keys. Ctrl-C ends it, with exit
code 130.`,
		Example: `  redisctl maintenance keys 'user:*' -n redis-prod --limit 20
  redisctl keys --type hash --size --ttl
  redisctl keys 'session:*' -o name | wc -l`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return oneArg(cmd, args)
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	o.scan.addFlags(cmd, 0, 100, "database")
	f := cmd.Flags()
	f.Int64Var(&o.limit, "limit", 0, "end after so many keys (0: all)")
	f.BoolVarP(&o.long, "long", "l", false, "show type, time to live and memory")
	f.BoolVar(&o.showTTL, "ttl", false, "show the time to live")
	f.BoolVar(&o.size, "size", false, "show the memory that a key takes (MEMORY USAGE)")
	noCompletion(cmd, "limit")
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o keysOptions, args []string) error {
		pattern := ""
		if len(args) > 0 {
			pattern = args[0]
		}
		return a.runKeys(ctx, o, pattern)
	})
	return cmd
}

func (a *app) runKeys(ctx context.Context, o keysOptions, pattern string) error {
	scan, err := o.scan.options(pattern)
	if err != nil {
		return err
	}
	if o.scan.db < 0 || o.limit < 0 {
		return operation.Errorf(operation.Usage, "--db and --limit cannot be negative")
	}
	const samples = 5 // the server's own default
	options := maintenance.KeysOptions{
		ScanOptions: scan, Limit: o.limit, WithType: o.long, TTL: o.long || o.showTTL, Size: o.long || o.size, Samples: samples,
	}
	return a.onOne(ctx, func(ctx context.Context, c chosen) error {
		out := bufio.NewWriterSize(a.system.Out, 64<<10)
		a.system.Out = out
		list := keyList{options: options, app: a, out: out}
		walked, failed := c.m.Keys(ctx, c.d, c.i, options, list.show)
		c.done()
		if err := out.Flush(); err != nil && failed == nil {
			return operation.Errorf(operation.Failed, "writing the result: %w", err)
		}
		if failed != nil {
			return notAll(failed, walked.Seen)
		}
		note := fmt.Sprintf("%d keys of %s in db%d", walked.Seen, c.i.Name, scan.DB)
		if !walked.Complete {
			note += ", and there may be more (--limit)"
		}
		if walked.Repeated > 0 {
			note += fmt.Sprintf("; %d came twice", walked.Repeated)
		}
		c.reporter.Note("%s", note)
		return nil
	})
}

// notAll adds to the error of a walk how far it came.
func notAll(err error, seen int64) error {
	e := &operation.Error{Kind: operation.KindOf(err), Phase: "walking through the keys", Err: err}
	var known *operation.Error
	if asError(err, &known) {
		kept := *known
		e = &kept
	}
	e.Unchanged = fmt.Sprintf("%d keys were seen, the rest was not", seen)
	return e
}

// keyList prints keys as they come.
type keyList struct {
	options maintenance.KeysOptions
	app     *app
	out     *bufio.Writer
}

// listedKey is one line of `maintenance keys`.
type listedKey struct {
	DB   int    `json:"db"`
	Key  string `json:"key"`
	Type string `json:"type,omitempty"`
	// TTL is -1 for a key that does not expire.
	TTL  *int64 `json:"ttlMilliseconds,omitempty"`
	Size *int64 `json:"bytes,omitempty"`
}

func (l keyList) show(keys []maintenance.Key) error {
	if l.app.globals.format.ForPeople() {
		if err := l.lines(keys); err != nil {
			return err
		}
	} else {
		for _, k := range keys {
			key := l.listed(k)
			if err := l.app.printSeries(render.Document{Value: key, Names: []string{key.Key}}); err != nil {
				return err
			}
		}
	}
	if err := l.out.Flush(); err != nil {
		return operation.Errorf(operation.Failed, "writing the result: %w", err)
	}
	return nil
}

func (l keyList) listed(k maintenance.Key) listedKey {
	listed := listedKey{DB: l.options.DB, Key: rdbdiff.Escape([]byte(k.Key)), Type: k.Type}
	if l.options.TTL {
		ms := max(-1, k.TTL.Milliseconds())
		listed.TTL = &ms
	}
	if l.options.Size && k.Size >= 0 {
		listed.Size = &k.Size
	}
	return listed
}

// lines prints keys for people: what is known of each in columns of fixed width, because
// the widths of those to come are not known.
func (l keyList) lines(keys []maintenance.Key) error {
	for _, k := range keys {
		line := ""
		if l.options.WithType {
			line += fmt.Sprintf("%-7s ", k.Type)
		}
		if l.options.TTL {
			line += fmt.Sprintf("%8s ", keyTTL(k.TTL))
		}
		if l.options.Size {
			line += fmt.Sprintf("%9s ", keySize(k.Size))
		}
		if _, err := l.out.WriteString(line + rdbdiff.Escape([]byte(k.Key)) + "\n"); err != nil {
			return operation.Errorf(operation.Failed, "writing the result: %w", err)
		}
	}
	return nil
}

func keyTTL(ttl time.Duration) string {
	if ttl < 0 {
		return "-"
	}
	return ttlText(ttl)
}

func keySize(bytes int64) string {
	if bytes < 0 {
		return "?"
	}
	return operation.Bytes(bytes).String()
}

// ttlText is a time to live in its two largest units.
func ttlText(ttl time.Duration) string {
	switch {
	case ttl >= 2*day:
		return fmt.Sprintf("%dd%dh", ttl/day, ttl%day/time.Hour)
	case ttl >= time.Hour:
		return fmt.Sprintf("%dh%dm", ttl/time.Hour, ttl%time.Hour/time.Minute)
	case ttl >= time.Minute:
		return fmt.Sprintf("%dm%ds", ttl/time.Minute, ttl%time.Minute/time.Second)
	case ttl >= time.Second:
		return fmt.Sprintf("%ds", ttl/time.Second)
	default:
		return fmt.Sprintf("%dms", ttl.Milliseconds())
	}
}

type bigKeysOptions struct {
	scan    scanOptions
	match   string
	top     int
	samples int
}

func (a *app) newBigKeysCommand() *cobra.Command {
	var o bigKeysOptions
	cmd := &cobra.Command{
		Use:   "bigkeys",
		Short: "Find what takes the memory of a running server",
		Long: `Walks through all keys with SCAN and asks for the type, the memory (MEMORY USAGE) and the
number of elements of each: what each type takes, its biggest and its longest key, and
the biggest keys of all.

The server is left alone between the steps, so that at most --duty percent of its time go
into this. It takes the primary, or --pod: a replica spares the primary. For a big data
set, redisctl backup analyze of a backup costs the server nothing.

Sizes are the server's estimates, from --samples elements of each collection. Ctrl-C
prints what was seen until then, with exit code 130.`,
		Example: `  redisctl maintenance bigkeys -n redis-prod --pod cache-redis-1
  redisctl maintenance bigkeys --match 'user:*' --top 20 --duty 10`,
		Args: noArgs,
	}
	o.scan.addFlags(cmd, -1, 25, "database (-1: all)")
	f := cmd.Flags()
	f.StringVar(&o.match, "match", "", "only keys that match this pattern")
	f.IntVar(&o.top, "top", 10, "how many keys are listed")
	f.IntVar(&o.samples, "samples", 5, "how many elements of a collection the server looks at to tell its size (0: all)")
	noCompletion(cmd, "match", "top", "samples")
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o bigKeysOptions, _ []string) error {
		scan, err := o.scan.options(o.match)
		if err != nil {
			return err
		}
		const most = 10_000
		if o.top < 0 || o.top > most || o.samples < 0 {
			return operation.Errorf(operation.Usage, "--top: choose 0 to %d; --samples: 0 or more", most)
		}
		return a.onOne(ctx, func(ctx context.Context, c chosen) error {
			c.reporter.Step("walking through the keys of %s", c.i.Name)
			found, failed := c.m.BigKeys(ctx, c.d, c.i, maintenance.BigKeysOptions{ScanOptions: scan, Top: o.top, Samples: o.samples})
			c.done()
			if failed != nil && found.Keys == 0 {
				return failed
			}
			if err := a.print(bigKeysDocument(found)); err != nil {
				return err
			}
			if failed != nil {
				return notAll(failed, found.Keys)
			}
			return nil
		})
	})
	return cmd
}

func bigKeysDocument(b maintenance.BigKeys) render.Document {
	doc := render.Document{Value: b}
	heading := []render.Cell{
		{Text: title(b.Namespace, b.Release, b.Name), Style: render.Strong}, render.T(fmt.Sprintf("%d keys of %s", b.Keys, b.Instance)),
	}
	if b.Sized {
		heading = append(heading, render.T(operation.Bytes(b.Bytes).String()))
	}
	if !b.Complete {
		heading = append(heading, render.Cell{Text: fmt.Sprintf("incomplete: it has %d", b.Expected), Style: render.Warn})
	}
	types := render.Table{Columns: []render.Column{
		{Title: "TYPE"}, {Title: "KEYS", Right: true}, {Title: "SIZE", Right: true}, {Title: "SHARE"}, {Title: "MEAN", Right: true}, {Title: "ELEMENTS", Right: true},
		{Title: "LONGEST", Right: true, Wide: true}, {Title: "LONGEST KEY", Wide: true},
	}, Empty: "No keys."}
	for _, t := range b.Types {
		types.Rows = append(types.Rows, []render.Cell{
			{Text: t.Type, Style: render.Strong}, render.T(strconv.FormatInt(t.Keys, 10)), sizeCell(b.Sized, t.Bytes),
			{Text: render.Bar(t.Bytes, b.Bytes, 12), Style: render.Good}, sizeCell(b.Sized, t.Bytes/max(1, t.Keys)), render.T(strconv.FormatInt(t.Elements, 10)),
			render.T(elementsText(t.Longest.Elements)), render.T(t.Longest.Title()),
		})
	}
	top := render.Table{Columns: []render.Column{
		{Title: "SIZE", Right: true}, {Title: "ELEMENTS", Right: true}, {Title: "TYPE"}, {Title: "BIGGEST KEYS"},
	}}
	for _, k := range b.Top {
		doc.Names = append(doc.Names, k.Name)
		top.Rows = append(top.Rows, []render.Cell{
			sizeCell(b.Sized, k.Bytes), render.T(elementsText(k.Elements)), render.T(k.Type), {Text: k.Title(), Style: render.Strong},
		})
	}
	doc.Blocks = []render.Block{render.List{{Line: heading, Mark: render.Cell{Text: "·", Style: render.Dim}}}, types, top}
	return doc
}

func sizeCell(sized bool, bytes int64) render.Cell {
	if !sized {
		return render.Cell{Text: "unknown", Style: render.Dim}
	}
	return render.T(operation.Bytes(bytes).String())
}

func elementsText(n int64) string {
	if n < 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

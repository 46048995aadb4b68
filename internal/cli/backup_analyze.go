package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/rdb/analyze"
	"github.com/redisctl/redisctl/internal/render"
)

type backupAnalyzeOptions struct {
	store     storeOptions
	keys      keyOptions
	top       int
	prefixes  int
	delimiter string
	depth     int
	html      string
}

func (a *app) newBackupAnalyzeCommand() *cobra.Command {
	o := backupAnalyzeOptions{}
	cmd := &cobra.Command{
		Use:   "analyze ID|latest|FILE",
		Short: "Show what takes the space in a backup, or in any RDB file",
		Long: `Reads a backup once and shows its keys by database, type and encoding, the biggest keys,
an estimate of the memory that a server needs, by prefix of the keys' names, and how long
keys have to live. No server is asked.

The memory is that of Redis 7 with jemalloc, estimated from uncompressed sizes and numbers
of elements. Expiry is judged as of now. With more than 16384 prefixes at a time those
with the least memory are given up; the amounts shown are then lower bounds, which is
said.

--html writes the same as one page with charts, which loads nothing from elsewhere.
Names of keys are in it. The file must not exist yet.

Exit code 4 when the data is damaged, 9 when its version is not known.`,
		Example: `  redisctl backup analyze latest -n redis-prod
  redisctl backup analyze ./dump.rdb --depth 2 --prefixes 30
  redisctl backup analyze latest -n redis-prod --html report.html`,
		Args: oneArg,
	}
	o.store.addSource(cmd)
	o.keys.addFlags(cmd)
	f := cmd.Flags()
	f.IntVar(&o.top, "top", 10, "how many of the biggest keys to list")
	f.IntVar(&o.prefixes, "prefixes", 15, "how many prefixes of keys to list, those with the most memory")
	f.StringVar(&o.delimiter, "delimiter", ":", "what ends the parts of a key")
	f.IntVar(&o.depth, "depth", 1, "how many parts of a key make its prefix")
	f.StringVar(&o.html, "html", "", "also write a page with charts to this file")
	cmd.ValidArgsFunction = a.completeBackups(&o.store)
	cmd.RunE = runWith(a, &o, a.runBackupAnalyze)
	return cmd
}

// check refuses what would not be bounded, or not be written in the end.
func (o backupAnalyzeOptions) check() error {
	for flag, n := range map[string]int{"top": o.top, "prefixes": o.prefixes} {
		if n < 0 || n > maxListed {
			return operation.Errorf(operation.Usage, "--%s %d: it must be from 0 to %d", flag, n, maxListed)
		}
	}
	if o.depth < 1 || o.delimiter == "" {
		return operation.Errorf(operation.Usage, "--depth must be at least 1, and --delimiter not empty")
	}
	if o.html == "" {
		return nil
	}
	if _, err := os.Lstat(o.html); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s exists", o.html)
		}
		return &operation.Error{Kind: operation.Usage, Phase: "--html", Err: err, Next: "choose another name, or remove it"}
	}
	return nil
}

func (a *app) runBackupAnalyze(ctx context.Context, o backupAnalyzeOptions, args []string) error {
	if err := o.check(); err != nil {
		return err
	}
	keys, err := a.keys(o.keys)
	if err != nil {
		return err
	}
	c, err := a.openCompared(ctx, o.store, keys, args[0])
	if err != nil {
		return err
	}
	defer c.reader.Close()
	reporter, done := a.narrator()
	defer done()
	c.progress = func(bytes int64) {
		reporter.Progress(operation.Progress{Done: bytes, Total: c.size, Unit: "bytes"})
	}
	now := a.system.Now()
	report, err := analyze.Analyze(ctx, c.reader, analyze.Options{
		Top: o.top, Prefixes: o.prefixes, Delimiter: o.delimiter, Depth: o.depth, Now: now,
	})
	done()
	if err != nil {
		return &operation.Error{
			Kind: kind(err), Object: c.location(), Phase: "reading", Err: err, Next: "redisctl backup verify " + c.ref,
		}
	}
	result := analyzeResult{File: c.location(), AnalyzedAt: now.UTC(), Report: report}
	if c.entry.Manifest != nil {
		created := c.entry.Created.UTC()
		result.CreatedAt = &created
	}
	if o.html != "" {
		if err := writePage(o.html, &result); err != nil {
			return &operation.Error{Kind: kind(err), Object: o.html, Phase: "writing the page", Err: err}
		}
		result.HTML = o.html
	}
	return a.print(analyzeDocument(c, &result))
}

// analyzeResult is the JSON form of `backup analyze`.
type analyzeResult struct {
	// File is where the data was read from.
	File string `json:"file"`
	// CreatedAt is when the backup began; absent for bare files.
	CreatedAt *time.Time `json:"createdAt,omitempty"`
	// AnalyzedAt is what expiry was judged by.
	AnalyzedAt time.Time `json:"analyzedAt"`
	// HTML is the page that was written.
	HTML string `json:"html,omitempty"`
	*analyze.Report
}

// barColumns is the width of bars in a terminal.
const barColumns = 24

func analyzeDocument(c *compared, r *analyzeResult) render.Document {
	var expires int64
	for _, db := range r.DBs {
		expires += db.Expires
	}
	fields := render.Fields{
		{Label: "file", Value: render.T(r.File)},
		{Label: "format", Value: render.T(fmt.Sprintf("RDB version %d, %s", r.RDB.Version, operation.Bytes(r.RDB.Size)))},
		{Label: "keys", Value: render.T(fmt.Sprintf("%d, %d with an expiry, %d expired", r.Total.Keys, expires, r.RDB.Expired))},
		{Label: "memory", Value: render.Cell{Text: "about " + operation.Bytes(r.Total.Memory).String(), Style: render.Strong}},
	}
	if r.HTML != "" {
		fields = append(fields, render.Field{Label: "page", Value: render.T(r.HTML)})
	}
	if r.Total.Keys == 0 {
		fields = append(fields, render.Field{Label: "", Value: render.T("there are no keys")})
		return render.Document{Value: r, Names: []string{c.entry.ID}, Blocks: []render.Block{fields}}
	}
	blocks := []render.Block{fields}
	if len(r.DBs) > 1 {
		dbs := make([]analyze.Share, len(r.DBs))
		for i, db := range r.DBs {
			dbs[i] = analyze.Share{Name: strconv.Itoa(db.DB), Amount: db.Amount}
		}
		blocks = append(blocks, shareTable("DB", dbs, r.Total, byMemory))
	}
	blocks = append(blocks,
		shareTable("TYPE (ENCODING)", r.Encodings, r.Total, byMemory),
		shareTable("PREFIX", r.prefixRows(), r.Total, byMemory),
	)
	if !r.PrefixesComplete {
		blocks = append(blocks, render.Text{
			Text: "There are more prefixes than are counted at a time: what is shown of them are lower bounds.", Style: render.Warn,
		})
	}
	blocks = append(blocks,
		keyRows("BIGGEST KEYS", r.Biggest), keyRows("MOST ELEMENTS", r.Longest),
		shareTable("TIME TO LIVE", r.TTL, r.Total, byKeys),
	)
	return render.Document{Value: r, Names: []string{c.entry.ID}, Blocks: blocks}
}

// prefixRows are the prefixes and what is left.
func (r *analyzeResult) prefixRows() []analyze.Share {
	rows := make([]analyze.Share, 0, len(r.Prefixes)+1)
	for _, p := range r.Prefixes {
		if p.Name == "" {
			p.Name = "(none)"
		}
		rows = append(rows, p)
	}
	if r.Others.Keys > 0 {
		rows = append(rows, analyze.Share{Name: "(all others)", Amount: r.Others})
	}
	return rows
}

func byMemory(a analyze.Amount) int64 { return a.Memory }
func byKeys(a analyze.Amount) int64   { return a.Keys }

// shareTable has a bar for each row; measure says what the bars compare.
func shareTable(title string, shares []analyze.Share, total analyze.Amount, measure func(analyze.Amount) int64) render.Block {
	t := render.Table{Columns: []render.Column{
		{Title: title}, {Title: "KEYS", Right: true}, {Title: "ELEMENTS", Right: true, Wide: true},
		{Title: "SERIALIZED", Right: true}, {Title: "MEMORY", Right: true}, {Title: "SHARE", Right: true}, {Title: ""},
	}}
	var highest int64
	for _, s := range shares {
		highest = max(highest, measure(s.Amount))
	}
	for _, s := range shares {
		t.Rows = append(t.Rows, []render.Cell{
			render.T(s.Name), number(s.Keys), number(s.Elements), render.T(operation.Bytes(s.Bytes).String()),
			render.T(operation.Bytes(s.Memory).String()), render.T(percent(measure(s.Amount), measure(total))),
			{Text: render.Bar(measure(s.Amount), highest, barColumns), Style: render.Good},
		})
	}
	return t
}

func percent(part, whole int64) string {
	if whole <= 0 {
		return ""
	}
	return fmt.Sprintf("%.1f %%", float64(part)/float64(whole)*100)
}

func keyRows(title string, keys []analyze.Key) render.Block {
	t := render.Table{Columns: []render.Column{
		{Title: title}, {Title: "DB", Right: true}, {Title: "TYPE"}, {Title: "ELEMENTS", Right: true},
		{Title: "SERIALIZED", Right: true}, {Title: "MEMORY", Right: true}, {Title: "EXPIRES", Wide: true}, {Title: ""},
	}}
	var highest int64
	for _, k := range keys {
		highest = max(highest, k.Memory)
	}
	for _, k := range keys {
		expires := "never"
		if k.ExpiresAt != nil {
			expires = k.ExpiresAt.Format(time.RFC3339)
		}
		elements := ""
		if k.Elements >= 0 {
			elements = strconv.FormatInt(k.Elements, 10)
		}
		t.Rows = append(t.Rows, []render.Cell{
			{Text: k.Key, Style: render.Strong}, render.T(strconv.Itoa(k.DB)), render.T(k.Type + " (" + k.Encoding + ")"),
			render.T(elements), render.T(operation.Bytes(k.Bytes).String()), render.T(operation.Bytes(k.Memory).String()),
			render.T(expires), {Text: render.Bar(k.Memory, highest, barColumns/2), Style: render.Good},
		})
	}
	return t
}

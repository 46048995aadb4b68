package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

type backupDiffOptions struct {
	store     storeOptions
	keys      keyOptions
	examples  int
	prefixes  int
	delimiter string
	depth     int
	sample    string
	exitCode  bool
}

// maxListed bounds --examples and --prefixes, so that memory stays bounded.
const maxListed = 1000

func (a *app) newBackupDiffCommand() *cobra.Command {
	o := backupDiffOptions{}
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare the contents of two backups",
		Long: `Compares which keys two backups hold, their values and their expiry. A and B are ids
of backups, latest, or RDB files. Contents are compared, not bytes: it does not matter
which server wrote a file, how it encodes values, and in which order. Values of modules
have no such form; where their bytes differ they are "changed or encoded differently".

All keys are compared unless --sample is given, in memory that does not depend on how
many there are. Key names and digests may be written to temporary files ($TMPDIR, 68
bytes and the name for each key); values are not.

Exit code 0 when the comparison was made, whatever it found. With --exit-code: 10 when
something differs. Exit code 4 when a file turns out to be damaged.`,
		Example: `  redisctl backup diff rdb-20261123T090501Z latest -n redis-prod
  redisctl backup diff before.rdb after.rdb --depth 2 --examples 50
  redisctl backup diff a.rdb b.rdb --sample 1/100 --exit-code -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return operation.Errorf(operation.Usage, "%s compares two backups (A B), got %d", cmd.CommandPath(), len(args))
			}
			return nil
		},
	}
	o.store.addSource(cmd)
	o.keys.addFlags(cmd)
	f := cmd.Flags()
	f.IntVar(&o.examples, "examples", 5, "how many keys to list for each kind of difference")
	f.IntVar(&o.prefixes, "prefixes", 10, "how many prefixes of keys to list, those with the most differences")
	f.StringVar(&o.delimiter, "delimiter", ":", "what ends the parts of a key")
	f.IntVar(&o.depth, "depth", 1, "how many parts of a key make its prefix")
	f.StringVar(&o.sample, "sample", "", "compare a part of the keys, chosen by their names: 1/N (default all keys)")
	f.BoolVar(&o.exitCode, "exit-code", false, "exit with 10 when something differs")
	complete := a.completeBackups(&o.store)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 1 {
			args = nil // the second one is completed like the first
		}
		return complete(cmd, args, word)
	}
	cmd.RunE = runWith(a, &o, a.runBackupDiff)
	return cmd
}

// comparison turns the flags into options of the comparison.
func (o backupDiffOptions) comparison() (rdbdiff.Options, error) {
	out := rdbdiff.Options{
		Examples: o.examples, Prefixes: o.prefixes, Delimiter: o.delimiter, Depth: o.depth, SampleOneIn: 1,
	}
	if o.sample != "" {
		digits, ok := strings.CutPrefix(o.sample, "1/")
		n, err := strconv.ParseInt(digits, 10, 64)
		if !ok || err != nil || n < 1 {
			return out, operation.Errorf(operation.Usage, "--sample %q: write 1/N, such as 1/100", o.sample)
		}
		out.SampleOneIn = n
	}
	for flag, n := range map[string]int{"examples": o.examples, "prefixes": o.prefixes} {
		if n < 0 || n > maxListed {
			return out, operation.Errorf(operation.Usage, "--%s %d: it must be from 0 to %d", flag, n, maxListed)
		}
	}
	if o.depth < 1 || o.delimiter == "" {
		return out, operation.Errorf(operation.Usage, "--depth must be at least 1, and --delimiter not empty")
	}
	return out, nil
}

// compared is one of the backups that are compared.
type compared struct {
	ref    string
	entry  snapshot.Entry
	store  storage.Store
	reader *snapshot.Contents
	size   int64 // of what is stored
	// progress is told how much of it has been read.
	progress func(bytes int64)
}

func (c *compared) location() string { return c.store.Location(c.entry.DataName) }

func (a *app) openCompared(ctx context.Context, o storeOptions, keys *codec.Keys, ref string) (*compared, error) {
	store, entry, err := a.findBackup(ctx, o, ref)
	if err != nil {
		return nil, err
	}
	if entry.Manifest != nil && entry.Manifest.RDB() == nil {
		return nil, &operation.Error{
			Kind: operation.Usage, Object: entry.ID, Phase: "opening",
			Err:  fmt.Errorf("a backup of kind %s has no RDB file to read", entry.Kind),
			Next: "redisctl backup list names those of kind rdb and full",
		}
	}
	c := &compared{ref: ref, entry: entry, store: store, progress: func(int64) {}}
	c.reader, err = snapshot.Open(ctx, store, entry.DataName, snapshot.OpenOptions{
		Keys: keys, Progress: func(bytes, _ int64) { c.progress(bytes) },
	})
	if err != nil {
		failed := &operation.Error{Kind: kind(err), Object: entry.ID, Phase: "opening", Err: err}
		if errors.Is(err, codec.ErrKey) {
			failed.Next = "give what opens it with --identity or --passphrase-file"
		}
		return nil, failed
	}
	c.size = c.reader.Info.Size
	return c, nil
}

func (a *app) runBackupDiff(ctx context.Context, o backupDiffOptions, args []string) error {
	opts, err := o.comparison()
	if err != nil {
		return err
	}
	opts.Now = a.system.Now()
	keys, err := a.keys(o.keys)
	if err != nil {
		return err
	}
	first, err := a.openCompared(ctx, o.store, keys, args[0])
	if err != nil {
		return err
	}
	defer first.reader.Close()
	second, err := a.openCompared(ctx, o.store, keys, args[1])
	if err != nil {
		return err
	}
	defer second.reader.Close()

	d, err := a.compare(ctx, first, second, opts)
	if err != nil {
		return err
	}
	if err := a.print(diffDocument(first, second, d)); err != nil {
		return err
	}
	if o.exitCode && !d.Same {
		return outcome(operation.Unhealthy, "the backups differ")
	}
	return nil
}

func (a *app) compare(ctx context.Context, first, second *compared, opts rdbdiff.Options) (*rdbdiff.Difference, error) {
	reporter, done := a.narrator()
	defer done()
	read := &readProgress{reporter: reporter, total: first.size + second.size}
	read.follow(first)
	read.follow(second)
	d, err := rdbdiff.Compare(ctx, first.reader, second.reader, opts)
	done()
	var side *rdbdiff.SideError
	switch {
	case err == nil:
		return d, nil
	case errors.As(err, &side):
		c := first
		if side.Side == rdbdiff.B {
			c = second
		}
		return nil, &operation.Error{
			Kind: kind(err), Object: c.location(), Phase: "reading", Err: side.Err, Next: "redisctl backup verify " + c.ref,
		}
	default:
		return nil, &operation.Error{Kind: kind(err), Phase: "comparing", Err: err}
	}
}

// readProgress reports how much of several files has been read. They may be read at
// the same time.
type readProgress struct {
	reporter operation.Reporter
	total    int64
	done     atomic.Int64
	busy     atomic.Bool
}

// follow adds what is read of c from now on.
func (p *readProgress) follow(c *compared) {
	var before int64
	c.progress = func(bytes int64) {
		done := p.done.Add(bytes - before)
		before = bytes
		// Whoever comes while another one reports leaves it at that.
		if p.busy.CompareAndSwap(false, true) {
			p.reporter.Progress(operation.Progress{Done: done, Total: p.total, Unit: "bytes"})
			p.busy.Store(false)
		}
	}
}

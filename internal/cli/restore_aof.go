package cli

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/aof"
	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage/folder"
)

type restoreAOFOptions struct {
	source    sourceOptions
	cut       cutOptions
	safety    safetyOptions
	overrides restore.Overrides
	proof     proofOptions
	volume    volumeOptions
	replace   bool
	noSafety  bool
	dryRun    bool
	yes       bool
}

// cutOptions say up to where an append-only file is restored. At most one is given.
type cutOptions struct {
	until, commands, offset, before string
}

func (o *cutOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.until, "until", "", "restore what was executed until a time (2026-11-23T14:03:07Z) or an age (10m); needs aof-timestamp-enabled")
	f.StringVar(&o.commands, "until-command", "", "restore the first N commands")
	f.StringVar(&o.offset, "until-offset", "", "restore up to a place in a file: [FILE:]BYTES")
	f.StringVar(&o.before, "before", "", "restore what comes before the last command of a name, such as FLUSHALL")
	cmd.MarkFlagsMutuallyExclusive("until", "until-command", "until-offset", "before")
	mustComplete(cmd, "before", cobra.FixedCompletions([]string{"FLUSHALL", "FLUSHDB", "DEL", "UNLINK"}, cobra.ShellCompDirectiveNoFileComp))
}

// parse reads the options.
func (o cutOptions) parse(a *app) (aof.Cut, error) {
	switch {
	case o.until != "":
		at, err := a.moment("until", o.until)
		return aof.Cut{By: aof.CutTime, Time: at}, err
	case o.commands != "":
		n, err := strconv.ParseInt(o.commands, 10, 64)
		if err != nil || n < 0 {
			return aof.Cut{}, operation.Errorf(operation.Usage, "--until-command %q: write a number", o.commands)
		}
		return aof.Cut{By: aof.CutCommands, Commands: n}, nil
	case o.offset != "":
		return parseOffset(o.offset)
	case o.before != "":
		return aof.Cut{By: aof.CutBefore, Command: o.before}, nil
	default:
		return aof.Cut{}, nil
	}
}

// parseOffset reads [FILE:]BYTES.
func parseOffset(text string) (aof.Cut, error) {
	colon := strings.LastIndex(text, ":")
	n, err := strconv.ParseInt(text[colon+1:], 10, 64)
	if err != nil || n < 0 || colon == 0 {
		return aof.Cut{}, operation.Errorf(operation.Usage, "--until-offset %q: write [FILE:]BYTES, such as appendonly.aof.2.incr.aof:1024", text)
	}
	return aof.Cut{By: aof.CutOffset, File: text[:max(colon, 0)], Offset: n}, nil
}

func (a *app) newRestoreAOFCommand() *cobra.Command {
	o := restoreAOFOptions{}
	cmd := &cobra.Command{
		Use:   "aof ID|latest|PATH",
		Short: "Restore an append-only file, also up to a point in time",
		Long: `Restores an append-only file: one that backup aof or backup full has stored, or one that
was copied by hand, which is a folder with a manifest (7.0 and later) or a single file. It
is verified first, and the present data is backed up.

It can be restored up to a point, to undo an accident. A copy is cut there; the backup
stays as it is. --before FLUSHALL restores what comes before the last FLUSHALL; --until a
time, where the server has written timestamps (aof-timestamp-enabled yes, 7.0 and later;
what was executed in that second is included); --until-command and --until-offset a place.
A cut is always behind a complete command, and never within a transaction. --dry-run shows
what is kept and what is dropped: names of commands and keys, never values.

The files are put on the volume of the first pod, as restore rdb does it with --method
volume, in the form that its server loads. The servers must start with appendonly yes.
What is wrong is undone, and what is interrupted goes on or back with restore resume and
restore abort.

What the commands of an append-only file leave, only a server knows. So values are
compared only when nothing but its RDB is restored; otherwise redisctl makes sure that the
server has loaded all of it.

Exit code 4 when the file is damaged before the cut, or the servers do not hold what was
restored; 5 when something stands in the way or it cannot be cut like this; 9 when the
servers are too old for it or do not know one of its commands.`,
		Example: `  redisctl restore aof latest -n redis-prod --before FLUSHALL --dry-run
  redisctl restore aof latest -n redis-prod --before FLUSHALL --replace
  redisctl restore aof latest -n redis-prod --until 2026-11-23T14:03:07Z --replace
  redisctl restore aof ./appendonlydir -n redis-prod --until-offset appendonly.aof.2.incr.aof:1024 --replace`,
		Args: oneArg,
	}
	f := cmd.Flags()
	o.source.addFlags(cmd)
	o.cut.addFlags(cmd)
	o.safety.addFlags(cmd)
	o.proof.addFlags(cmd)
	o.volume.addFlags(cmd)
	addOverrides(cmd, &o.overrides)
	f.BoolVar(&o.replace, "replace", false, "give up the data that the release holds")
	f.BoolVar(&o.noSafety, "no-safety-backup", false, "do not back up the data that is replaced")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and what is dropped, and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.ValidArgsFunction = a.completeBackups(&o.source.store)
	cmd.RunE = runWith(a, &o, a.runRestoreAOF)
	return cmd
}

func (a *app) runRestoreAOF(ctx context.Context, o restoreAOFOptions, args []string) error {
	cut, err := o.cut.parse(a)
	if err != nil {
		return err
	}
	sample, err := o.proof.sample()
	if err != nil {
		return err
	}
	safety, err := a.openSafety(o.safety, o.source.store)
	if err != nil {
		return err
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	reporter, done := a.narrator()
	defer done()
	source, err := a.openAOF(ctx, o.source, args[0], cut, reporter)
	if err != nil {
		return err
	}
	if !o.dryRun { // the plan shows it
		tellCut(reporter, &source.Survey)
	}
	shown := func(p *volume.Plan) render.Document { return aofPlanDocument(p, source.Survey) }
	return a.carryOut(ctx, a.volumeRestore(b, safety, reporter), d, source, volume.Options{
		Overrides: o.overrides, Replace: o.replace, NoSafetyBackup: o.noSafety, Sample: sample, Limits: o.volume.limits(a.globals.timeout),
	}, shown, consent{o.dryRun, o.yes}, done)
}

// openAOF finds the append-only file that ref names, verifies it and cuts it.
func (a *app) openAOF(ctx context.Context, o sourceOptions, ref string, cut aof.Cut, reporter operation.Reporter) (volume.AOF, error) {
	found, err := a.findAOF(ctx, o, ref)
	if err != nil {
		return volume.AOF{}, err
	}
	source, err := volume.OpenAOF(ctx, found, cut, a.system.Now(), reporter)
	if err != nil {
		return volume.AOF{}, err
	}
	source.From, source.Ref, err = locate(found)
	return source, err
}

// reopenAOF reads it again, cut as a record says.
func (a *app) reopenAOF(ctx context.Context, o sourceOptions, origin volume.Origin, reporter operation.Reporter) (volume.AOF, error) {
	cut := aof.Cut{}
	if origin.Cut != "" {
		var err error
		if cut, err = parseOffset(origin.Cut); err != nil {
			return volume.AOF{}, err
		}
	}
	return a.openAOF(ctx, o, origin.Ref, cut, reporter)
}

// findAOF returns what ref names: a folder or a file that a server has written, or a
// backup.
func (a *app) findAOF(ctx context.Context, o sourceOptions, ref string) (restore.Backup, error) {
	info, err := os.Stat(ref)
	if err != nil || !info.IsDir() && !strings.HasSuffix(ref, ".manifest") {
		return a.findSource(ctx, o, ref, snapshot.FileAOF, snapshot.FileAOFManifest)
	}
	keys, err := a.keys(o.keys)
	if err != nil {
		return restore.Backup{}, err
	}
	dir, name := filepath.Split(filepath.Clean(ref))
	if info.IsDir() {
		dir = ref
		if name, err = appendOnlyIn(dir); err != nil {
			return restore.Backup{}, err
		}
	}
	id := filepath.Base(filepath.Clean(ref))
	return restore.Backup{
		Store: folder.New(dir), Keys: keys, Entry: snapshot.Entry{ID: id, DataName: filepath.ToSlash(name)},
	}, nil
}

// appendOnlyIn returns the manifest in a folder, or in one of its folders, else the only
// append-only file there, with slashes.
func appendOnlyIn(dir string) (string, error) {
	for _, pattern := range []string{"*.manifest", filepath.Join("*", "*.manifest"), "*.aof"} {
		found, err := fs.Glob(os.DirFS(dir), filepath.ToSlash(pattern))
		switch {
		case err != nil:
			return "", operation.Errorf(operation.Failed, "%w", err)
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return "", operation.Errorf(operation.Usage, "%s has several append-only files: name one of %s", dir, strings.Join(found, ", "))
		}
	}
	return "", operation.Errorf(operation.Usage, "%s has no append-only file: neither *.manifest nor *.aof", dir)
}

// tellCut says what is going to be kept and dropped.
func tellCut(reporter operation.Reporter, s *aof.Survey) {
	if s.Dropped.Commands == 0 {
		return
	}
	reporter.Step("restoring %s, dropping %s", commandsText(s.Kept), commandsText(s.Dropped))
	for _, c := range append(s.Dropped.First, s.Dropped.Last...) {
		reporter.Note("dropped: %s", sightingText(c))
	}
}

func commandsText(t aof.Tally) string {
	text := fmt.Sprintf("%d commands", t.Commands)
	if t.Commands == 1 {
		text = "1 command"
	}
	return text + spanText(t)
}

package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
	"github.com/redisctl/redisctl/internal/render"
)

func (a *app) newMaintenanceCommand() *cobra.Command {
	cmd := newGroup("maintenance", "Look into running servers, save, empty, and run commands",
		`The daily work on running servers: what they hold, what takes their space and time,
saving, emptying, and any other command.

Keys are walked through with SCAN, never with KEYS. Commands are shown without values
and secrets. What can lose data or stop a server asks before.`,
		a.newDBSizeCommand(),
		a.newKeysCommand(),
		a.newBigKeysCommand(),
		a.newFlushCommand(true),
		a.newFlushCommand(false),
		a.newSlowlogCommand(),
		a.newLatencyCommand(),
		a.newMemoryCommand(),
		a.newSaveCommand(),
		a.newBgsaveCommand(),
		a.newLastSaveCommand(),
		a.newAOFRewriteCommand(),
		a.newExecCommand(),
		a.newMonitorCommand(),
	)
	cmd.AddCommand(a.terminalCommands()...)
	return cmd
}

// maintenance wires the operations.
func (a *app) maintenance(b *backend, reporter operation.Reporter) maintenance.Maintenance {
	return maintenance.Maintenance{
		Connector: b.Connector, Sessions: b.Sessions, Reporter: reporter, Now: a.system.Now, Timeout: a.globals.timeout,
	}
}

// chosen is the one instance that a command works on.
type chosen struct {
	b        *backend
	m        maintenance.Maintenance
	d        *operation.Deployment
	i        operation.Instance
	reporter operation.Reporter
	// done ends the narration, before the result is printed.
	done func()
}

// onOne runs work on the instance that --pod names, or on the observed primary.
func (a *app) onOne(ctx context.Context, work func(context.Context, chosen) error) error {
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	reporter, done := a.narrator()
	defer done()
	m := a.maintenance(b, reporter)
	i, err := m.Choose(ctx, d, a.globals.target.Pod)
	if err != nil {
		return a.advised(d, err)
	}
	return a.advised(d, work(ctx, chosen{b: b, m: m, d: d, i: *i, reporter: reporter, done: done}))
}

// noCompletion says that nothing can complete the values of flags, not even files.
func noCompletion(cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		mustComplete(cmd, flag, cobra.NoFileCompletions)
	}
}

// milliseconds formats µs with three digits at most.
func milliseconds(microseconds int64) string {
	d := time.Duration(microseconds) * time.Microsecond
	switch {
	case d >= 100*time.Millisecond:
		return d.Round(time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	default:
		return d.String()
	}
}

// notesList shows remarks below a table, wrapped.
func notesList(style render.Style, remarks ...string) render.Block {
	var l render.List
	for _, r := range remarks {
		if r != "" {
			l = append(l, render.Entry{Mark: render.Cell{Text: "·", Style: style}, Line: []render.Cell{{Text: r, Style: style}}})
		}
	}
	return l
}

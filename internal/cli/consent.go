package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/render"
)

// review is what every command does between its plan and carrying it out: with dryRun
// it prints the plan, a blocker or a missing permission ends the command, and what was
// found besides is told. holds are the conditions of permissions that the plan meets.
// Unless it returns true, the command is over.
func (a *app) review(
	ctx context.Context, reporter operation.Reporter, dryRun bool, plan operation.Plan, shown render.Document, holds ...string,
) (proceed bool, err error) {
	if dryRun {
		if err := a.print(shown); err != nil {
			return false, err
		}
	}
	if err := plan.Refusal(); err != nil {
		return false, err
	}
	if err := a.permitted(ctx, holds...); err != nil || dryRun {
		return false, err
	}
	tellFindings(reporter, plan.Findings)
	return true, nil
}

// reviewNext is review whose refusal names the next command, if the plan names none.
func (a *app) reviewNext(
	ctx context.Context, reporter operation.Reporter, dryRun bool, plan operation.Plan, shown render.Document, next string, holds ...string,
) (proceed bool, err error) {
	proceed, err = a.review(ctx, reporter, dryRun, plan, shown, holds...)
	if !dryRun {
		err = withNext(err, next)
	}
	return proceed, err
}

// tellFindings narrates what a plan has found and goes on in spite of.
func tellFindings(reporter operation.Reporter, findings []operation.Finding) {
	for _, f := range findings {
		if f.Severity == operation.Notice {
			reporter.Note("%s: %s", f.Subject, f.Message)
		} else {
			reporter.Warn("%s: %s", f.Subject, f.Message)
		}
	}
}

// confirmName makes the user type the release's name before data may be lost. Without
// a terminal consent must have been given by --yes.
func (a *app) confirmName(d *operation.Deployment, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if a.system.ReadLine == nil {
		return a.confirm("%s", what)
	}
	name := d.Release
	if name == "" {
		name = d.Name
	}
	answer, err := a.ask(fmt.Sprintf("About to %s. Type %s to go on: ", what, name))
	if err != nil {
		return err
	}
	if strings.TrimSpace(answer) != name {
		return &operation.Error{
			Kind: operation.Refused, Phase: "asking for consent", Err: fmt.Errorf("%q was not typed", name), Unchanged: "nothing was changed",
		}
	}
	return nil
}

// confirm asks in a terminal; without one consent must have been given by --yes.
func (a *app) confirm(format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if a.system.ReadLine == nil {
		e := &operation.Error{
			Kind: operation.Refused, Phase: "asking for consent",
			Err:       fmt.Errorf("about to %s, and there is no terminal to ask in", what),
			Unchanged: "nothing was changed", Next: "add --yes",
		}
		if a.plans {
			e.Next += ", or look at the plan with --dry-run"
		}
		return e
	}
	answer, err := a.ask("About to " + what + ". Go on? [y/N] ")
	if err != nil {
		return err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return &operation.Error{
			Kind: operation.Refused, Phase: "asking for consent", Err: errors.New("not confirmed"), Unchanged: "nothing was changed",
		}
	}
	return nil
}

// ask asks a question in the terminal.
func (a *app) ask(question string) (string, error) {
	answer, err := a.system.ReadLine(question)
	if err != nil {
		return "", &operation.Error{
			Kind: operation.KindOf(err), Phase: "asking for consent", Err: fmt.Errorf("reading the answer: %w", err), Unchanged: "nothing was changed",
		}
	}
	return answer, nil
}

package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
)

// noArgs rejects arguments with a message that names them.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return helpOrUnknown(cmd, args)
	}
	return operation.Errorf(operation.Usage, "%s takes no arguments, got %q", cmd.CommandPath(), args[0])
}

// oneArg wants exactly one argument, which the command's usage line names.
func oneArg(cmd *cobra.Command, args []string) error {
	_, name, _ := strings.Cut(cmd.Use, " ")
	switch len(args) {
	case 1:
		return nil
	case 0:
		return operation.Errorf(operation.Usage, "%s needs an argument: %s", cmd.CommandPath(), name)
	default:
		return operation.Errorf(operation.Usage, "%s takes one argument (%s), got %d", cmd.CommandPath(), name, len(args))
	}
}

// open connects to where the target lives and resolves it.
func (a *app) open(ctx context.Context) (*backend, *operation.Deployment, error) {
	b, err := a.backend(a)
	if err != nil {
		return nil, nil, err
	}
	d, err := a.resolve(ctx, b)
	if err != nil {
		b.Close()
		return nil, nil, err
	}
	return b, d, nil
}

// resolve finds the deployment that the target names, and makes sure that it has the
// instance that --pod names: no command may go on as if --pod had not been given.
func (a *app) resolve(ctx context.Context, b *backend) (*operation.Deployment, error) {
	done := a.waiting("looking for the release")
	d, err := b.Resolver.Resolve(ctx, a.globals.target)
	done()
	if err != nil {
		return nil, err
	}
	if pod := a.globals.target.Pod; pod != "" {
		if _, err := findInstance(d, pod); err != nil {
			return nil, err
		}
	}
	if b.Access != nil {
		a.scope = accessScope{b.Access, namesOf(d)}
	}
	return d, nil
}

// inspectAll resolves the target, narrows it to --pod when that was given, and
// hands it to show.
func (a *app) inspectAll(ctx context.Context, show func(context.Context, *backend, *operation.Deployment) error) error {
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	if pod := a.globals.target.Pod; pod != "" {
		d.Instances = []operation.Instance{*d.Instance(pod)}
	}
	defer a.waiting("waiting for the answers of " + d.InstanceNames())()
	return a.advised(d, show(ctx, b, d))
}

// advised adds to the error of a server what to do next, where it does not say so itself.
func (a *app) advised(d *operation.Deployment, err error) error {
	next := d.AccessAdvice(err)
	switch {
	case err == nil, next != "":
	case errors.Is(err, operation.ErrNoCommand):
		next = "the server does not know the command: disabled with rename-command in the release's redis.conf, or not in its version"
	case operation.KindOf(err) == operation.TimedOut, operation.KindOf(err) == operation.Partial, errors.Is(err, operation.ErrDown):
		next = "redisctl health" + a.targetFlags(d)
	}
	if next == "" {
		return err
	}
	return withNext(err, next)
}

// findInstance returns the instance with this name; the error lists them all.
func findInstance(d *operation.Deployment, name string) (*operation.Instance, error) {
	if i := d.Instance(name); i != nil {
		return i, nil
	}
	return nil, operation.Errorf(operation.Usage, "%s has no instance %q; it has %s", d, name, d.InstanceNames())
}

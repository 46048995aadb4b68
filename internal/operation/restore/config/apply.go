package config

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
)

// Apply sets what the plan says. Each setting is in the end on all instances or on none;
// an outcome tells where neither could be had. An *Error of kind Partial comes together
// with the result when the servers do not run with all of it.
func (r Restore) Apply(ctx context.Context, p *Plan) (Result, error) {
	d := p.deployment
	result := Result{Namespace: d.Namespace, Release: d.Release, Name: d.Name, Backup: p.Backup, Settings: []Outcome{}}
	if err := p.Refusal(); err != nil {
		return result, err
	}
	ctx, release, err := r.Locker.Lock(ctx, d)
	if err != nil {
		return result, err
	}
	defer release()
	x := &setting{Restore: r, deployment: d, timeout: p.options.Timeout, servers: map[string]operation.Server{}}
	defer x.close()
	var stopped error
	for i := range p.Settings {
		s := &p.Settings[i]
		if s.wanted {
			result.Unset++
		}
		if s.Action != ActionSet {
			continue
		}
		if stopped = context.Cause(ctx); stopped != nil {
			break
		}
		outcome := x.setAll(ctx, s)
		if outcome.Problem != "" {
			result.Unset++
		}
		result.Settings = append(result.Settings, outcome)
	}
	switch {
	case stopped != nil:
		return result, &operation.Error{
			Kind: operation.KindOf(stopped), Object: p.Object, Phase: "setting", Err: stopped,
			Unchanged: fmt.Sprintf("%d settings were set before", len(result.Settings)-result.Unset), Next: "run the command again: it goes on",
		}
	case result.Unset > 0:
		return result, operation.Errorf(operation.Partial, "%d settings of the backup are not what the servers run with", result.Unset)
	default:
		return result, nil
	}
}

// setting holds the connections.
type setting struct {
	Restore
	deployment *operation.Deployment
	timeout    time.Duration
	servers    map[string]operation.Server
}

func (x *setting) close() {
	for _, s := range x.servers {
		_ = s.Close() // what was set was read again
	}
}

func (x *setting) connect(ctx context.Context, name string) (operation.Server, error) {
	if s := x.servers[name]; s != nil {
		return s, nil
	}
	i := x.deployment.Instance(name)
	if i == nil {
		return nil, fmt.Errorf("%s is gone", name)
	}
	s, err := x.Connector.Connect(ctx, x.deployment, *i)
	if err == nil {
		x.servers[name] = s
	}
	return s, err
}

// setAll sets one setting on all instances that need it, or on none.
func (x *setting) setAll(ctx context.Context, s *Setting) Outcome {
	outcome := Outcome{Name: s.Name, Value: s.Backup, Instances: []string{}}
	x.Reporter.Step("setting %s", s.Name)
	var changed []Running
	for _, running := range s.Running {
		if !running.Set {
			outcome.Instances = append(outcome.Instances, running.Instance)
			continue
		}
		err := x.change(ctx, running, running.value, s.value)
		var unknown *uncertainError
		if err == nil || errors.As(err, &unknown) {
			changed = append(changed, running)
		}
		if err != nil {
			outcome.Problem = running.Instance + ": " + x.describe(s, err)
			outcome.Left = x.undo(ctx, s, changed)
			outcome.Instances = slices.DeleteFunc(outcome.Instances, func(name string) bool {
				return isOneOf(changed, name) && !slices.Contains(outcome.Left, name)
			})
			x.Reporter.Warn("%s: %s", s.Name, outcome.Problem)
			return outcome
		}
		outcome.Instances = append(outcome.Instances, running.Instance)
	}
	return outcome
}

func isOneOf(servers []Running, name string) bool {
	return slices.ContainsFunc(servers, func(r Running) bool { return r.Instance == name })
}

// describe leaves out what a server says of a secret: it may repeat it.
func (x *setting) describe(s *Setting, err error) string {
	if backup.IsSecret(s.Name) {
		return "the server did not take it"
	}
	return err.Error()
}

// uncertainError says that the value may have been changed.
type uncertainError struct{ error }

func (e *uncertainError) Unwrap() error { return e.error }

// change sets a value and reads it again, unless it is not what it was.
func (x *setting) change(parent context.Context, r Running, from, to string) error {
	ctx, cancel := context.WithTimeout(parent, 4*x.timeout)
	defer cancel()
	server, err := x.connect(ctx, r.Instance)
	if err != nil {
		return err
	}
	now, err := read(ctx, server, r.name)
	switch {
	case err != nil:
		return err
	case backup.SameSetting(now, to):
		return nil
	case !backup.SameSetting(now, from):
		return errors.New("somebody else has changed it since the plan was made")
	}
	if _, err := server.Do(ctx, "CONFIG", "SET", r.name, to); err != nil {
		if k := operation.KindOf(err); k == operation.TimedOut || k == operation.Interrupted {
			return &uncertainError{err}
		}
		return err
	}
	now, err = read(ctx, server, r.name)
	if err == nil && !backup.SameSetting(now, to) {
		err = errors.New("the server took it, and does not run with it")
	}
	if err != nil {
		return &uncertainError{err}
	}
	return nil
}

func read(ctx context.Context, server operation.Server, name string) (string, error) {
	found, err := server.ConfigGet(ctx, name)
	if err != nil {
		return "", err
	}
	return found[name], nil
}

// undo puts former values back, also after Ctrl-C, and returns the instances where that
// failed.
func (x *setting) undo(ctx context.Context, s *Setting, changed []Running) []string {
	ctx = context.WithoutCancel(ctx)
	var left []string
	for _, r := range slices.Backward(changed) {
		if err := x.change(ctx, r, s.value, r.value); err != nil {
			x.Reporter.Warn("%s keeps the new value of %s: %s", r.Instance, s.Name, x.describe(s, err))
			left = append(left, r.Instance)
		}
	}
	return left
}

package maintenance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Executed is one instance's reply to a command.
type Executed struct {
	Instance string `json:"instance"`
	// Seconds it took, with the way through the cluster.
	Seconds float64 `json:"seconds"`
	// Reply in its own type: string, number, null, list; bytes that are not UTF-8 as
	// {"base64": "…"}. Left out when there is none.
	Reply *Reply `json:"reply,omitempty"`
	// Error is the server's refusal, or why there is no reply.
	Error string `json:"error,omitempty"`

	Err error `json:"-"`
	// Sent is set when the command may have reached the server.
	Sent bool `json:"-"`
}

// Execute runs a command on an instance. The error is in the result, too.
func (m Maintenance) Execute(ctx context.Context, d *operation.Deployment, i operation.Instance, db int, c Command) (Executed, error) {
	x := Executed{Instance: i.Name}
	x.Err = m.execute(ctx, d, i, db, c, &x)
	if x.Err != nil {
		x.Error = x.Err.Error()
	}
	return x, x.Err
}

func (m Maintenance) execute(ctx context.Context, d *operation.Deployment, i operation.Instance, db int, c Command, x *Executed) error {
	if err := i.Down(); err != nil {
		return err
	}
	s, err := m.Sessions.OpenSession(ctx, d, i, db)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // the reply is here
	begin := time.Now()
	x.Sent = true
	reply, err := ask(ctx, s, m.Timeout, c...)
	x.Seconds = time.Since(begin).Seconds()
	if err == nil {
		x.Reply = &reply
	}
	return err
}

// RefuseEverywhere returns why a command is not for all instances at once: because it may
// write, or makes all of them the same, which a primary and its replicas must not be. The
// first instance that answers is asked (COMMAND INFO). The error is that of the last one
// when none does.
func (m Maintenance) RefuseEverywhere(ctx context.Context, d *operation.Deployment, c Command) error {
	refusal := func(format string, args ...any) error {
		return &operation.Error{
			Kind: operation.Refused, Object: d.String(), Phase: "exec --all-pods", Err: fmt.Errorf(format, args...), Unchanged: "nothing was sent",
			Next: "leave --all-pods out: it goes to the primary, and what it writes to the replicas; or choose one with --pod",
		}
	}
	name := strings.ToUpper(c[0])
	switch name {
	case "EVAL", "EVALSHA", "FCALL": // the server does not mark them: what they do is not known before
		return refusal("%s may write: replicas refuse that, or it would be done several times; %s_RO reads only", name, name)
	case "REPLICAOF", "SLAVEOF", "FAILOVER", "SHUTDOWN":
		return refusal("%s on every instance at once leaves none that serves as before", name)
	}
	var failed error
	for _, i := range d.Instances {
		writes, err := m.writes(ctx, d, i, c)
		switch {
		case err != nil:
			failed = err
			continue
		case writes:
			return refusal("%s writes, or %s does not tell that it does not: replicas refuse it", name, i.Name)
		default:
			return nil // they are of one kind: one that answers is enough
		}
	}
	return failed
}

// writes reports whether a command may write, as the server itself says. It returns true
// where the server does not tell.
func (m Maintenance) writes(ctx context.Context, d *operation.Deployment, i operation.Instance, c Command) (bool, error) {
	if err := i.Down(); err != nil {
		return false, err
	}
	s, err := m.Sessions.OpenSession(ctx, d, i, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = s.Close() }() // the reply is here
	name := c[0]
	if renamed, disabled := d.Config.Renames().Lookup(name); !disabled {
		name = renamed
	}
	replies, err := s.Do(ctx, m.Timeout, Command{"COMMAND", "INFO", name})
	if err != nil {
		return false, err
	}
	about := replies[0].item(0)
	if about.Kind != Array {
		return true, nil
	}
	const flags = 2
	return slices.ContainsFunc(about.item(flags).Items, func(flag Reply) bool { return flag.text() == "write" }), nil
}

// Commands returns the names of the commands that a server knows, in capitals and sorted
// (COMMAND). Those of a container, such as CONFIG, follow it: "CONFIG GET". Servers before
// 7.0 do not tell those.
func (m Maintenance) Commands(ctx context.Context, d *operation.Deployment, i operation.Instance) ([]string, error) {
	if err := i.Down(); err != nil {
		return nil, err
	}
	s, err := m.Sessions.OpenSession(ctx, d, i, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }() // the reply is here
	reply, err := ask(ctx, s, m.Timeout, "COMMAND")
	if err != nil {
		return nil, err
	}
	const within = 9
	var names []string
	for _, command := range reply.Items {
		names = append(names, strings.ToUpper(command.item(0).text()))
		for _, sub := range command.item(within).Items {
			names = append(names, strings.ToUpper(strings.ReplaceAll(sub.item(0).text(), "|", " ")))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Refuse returns why a command is not carried out: of kind Usage when it never is, of
// kind Refused when consent is missing; nil when it may be.
func Refuse(object string, c Command, consent bool) error {
	danger := DangerOf(c)
	if danger == nil || consent && !danger.Never {
		return nil
	}
	name := strings.ToUpper(c[0])
	if len(c) > 1 && hasSubcommands(name) {
		name += " " + strings.ToUpper(c[1])
	}
	e := &operation.Error{
		Kind: operation.Refused, Object: object, Phase: "exec", Err: fmt.Errorf("%s %s", name, danger.Reason), Unchanged: "nothing was sent",
	}
	switch {
	case danger.Never:
		e.Kind, e.Next = operation.Usage, "use instead: "+danger.Instead
	case danger.Instead != "":
		e.Next = "better: " + danger.Instead + "; --yes sends it all the same"
	default:
		e.Next = "--yes sends it all the same"
	}
	return e
}

package maintenance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
)

// SlowlogOptions say what is read of the slow logs.
type SlowlogOptions struct {
	// Limit is the largest number of entries of all instances together, the newest; 0 for
	// all.
	Limit int
	// ShowValues shows arguments that are no keys, but never secrets.
	ShowValues bool
	// Reset empties the slow logs after they were read.
	Reset bool
}

// Slowlog is what the instances' slow logs hold.
type Slowlog struct {
	Namespace string            `json:"namespace,omitempty"`
	Release   string            `json:"release,omitempty"`
	Name      string            `json:"name"`
	Instances []InstanceSlowlog `json:"instances"`
	// Entries of all instances, the newest first.
	Entries []SlowCommand `json:"entries"`
}

// InstanceSlowlog is the state of one instance's slow log.
type InstanceSlowlog struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"`
	// Length is how many entries the log holds.
	Length int64 `json:"length"`
	// ThresholdMicroseconds is from what time on commands are noted; -1 for none. It is
	// left out when the server does not tell its configuration.
	ThresholdMicroseconds *int64 `json:"thresholdMicroseconds,omitempty"`
	// Reset is set when the log was emptied.
	Reset bool `json:"reset"`

	entries []SlowCommand
}

// SlowCommand is a command that took long.
type SlowCommand struct {
	Instance string    `json:"instance"`
	ID       int64     `json:"id"`
	Time     time.Time `json:"time"`
	// Microseconds of execution, without waiting and without the network.
	Microseconds int64 `json:"microseconds"`
	// Command with its keys; other arguments are masked.
	Command string `json:"command"`
	// Client is the address it came from, and Named the name that it gave itself.
	Client string `json:"client,omitempty"`
	Named  string `json:"clientName,omitempty"`
}

// Slowlog reads the slow logs of all instances. Entries of those that answered are
// returned also with an error.
func (m Maintenance) Slowlog(ctx context.Context, d *operation.Deployment, o SlowlogOptions) (Slowlog, error) {
	log := Slowlog{Namespace: d.Namespace, Release: d.Release, Name: d.Name}
	answers := inspect.Each(ctx, m.Connector, d, m.Timeout, func(ctx context.Context, s operation.Server) (InstanceSlowlog, error) {
		return readSlowlog(ctx, s, o)
	})
	for _, a := range answers {
		i := a.Value
		i.Name, i.Error = a.Instance, a.Error
		for n := range i.entries {
			i.entries[n].Instance = a.Instance
		}
		log.Entries = append(log.Entries, i.entries...)
		log.Instances = append(log.Instances, i)
	}
	slices.SortStableFunc(log.Entries, func(a, b SlowCommand) int {
		if a.Instance == b.Instance {
			return cmp.Compare(b.ID, a.ID)
		}
		return b.Time.Compare(a.Time)
	})
	if o.Limit > 0 && len(log.Entries) > o.Limit {
		log.Entries = log.Entries[:o.Limit]
	}
	return log, inspect.Failure(answers)
}

func readSlowlog(ctx context.Context, s operation.Server, o SlowlogOptions) (InstanceSlowlog, error) {
	var log InstanceSlowlog
	length, err := s.Do(ctx, "SLOWLOG", "LEN")
	if err != nil {
		return log, err
	}
	log.Length, _ = length.(int64)
	wanted := int(max(1, log.Length))
	if o.Limit > 0 {
		wanted = min(wanted, o.Limit)
	}
	reply, err := s.Do(ctx, "SLOWLOG", "GET", strconv.Itoa(wanted))
	if err != nil {
		return log, err
	}
	entries, ok := reply.([]any)
	if !ok {
		return log, fmt.Errorf("unexpected reply to SLOWLOG GET: %T", reply)
	}
	for _, entry := range entries {
		parsed, err := parseSlow(entry, o.ShowValues)
		if err != nil {
			return log, err
		}
		log.entries = append(log.entries, parsed)
	}
	log.ThresholdMicroseconds = intSetting(ctx, s, "slowlog-log-slower-than")
	if o.Reset {
		if _, err := s.Do(ctx, "SLOWLOG", "RESET"); err != nil {
			return log, err
		}
		log.Reset = true
	}
	return log, nil
}

// intSetting returns a setting, nil where the server does not tell it.
func intSetting(ctx context.Context, s operation.Server, name string) *int64 {
	settings, err := s.ConfigGet(ctx, name)
	if err != nil {
		return nil
	}
	value, err := strconv.ParseInt(settings[name], 10, 64)
	if err != nil {
		return nil
	}
	return &value
}

func parseSlow(entry any, values bool) (SlowCommand, error) {
	fields, _ := entry.([]any)
	const required = 4 // before 4.0 there was no client
	if len(fields) < required {
		return SlowCommand{}, errors.New("unexpected entry in the slow log")
	}
	id, okID := fields[0].(int64)
	at, okTime := fields[1].(int64)
	took, okTook := fields[2].(int64)
	args, okArgs := fields[3].([]any)
	if !okID || !okTime || !okTook || !okArgs {
		return SlowCommand{}, errors.New("unexpected entry in the slow log")
	}
	c := SlowCommand{ID: id, Time: time.Unix(at, 0).UTC(), Microseconds: took, Command: Shown(words(args), values)}
	if len(fields) > required+1 {
		c.Client, _ = fields[required].(string)
		c.Named, _ = fields[required+1].(string)
	}
	return c, nil
}

func words(args []any) Command {
	c := make(Command, len(args))
	for i, arg := range args {
		c[i] = fmt.Sprint(arg)
	}
	return c
}

package bundle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/redact"
	"github.com/redisctl/redisctl/internal/redis"
)

// slowCommand is an entry of the slow log without arguments: they are keys and values.
type slowCommand struct {
	ID           int64     `json:"id"`
	Time         time.Time `json:"time"`
	Microseconds int64     `json:"microseconds"`
	Command      string    `json:"command"`
	Arguments    int       `json:"arguments"`
	Client       string    `json:"client,omitempty"`
}

// slowEntries is how many entries of the slow log are read.
const slowEntries = 256

// instance asks one server. What one question does not answer does not keep the others
// from being asked.
func (g *gathering) instance(ctx context.Context, i operation.Instance, at string) error {
	if err := i.Down(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*g.o.Timeout)
	defer cancel()
	server, err := g.Connector.Connect(ctx, g.d, i)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }() // the answers are here
	g.learnUsers(ctx, server)
	info, err := server.Info(ctx, "everything")
	if err != nil {
		return err // it would not answer the rest either
	}
	var failed []error
	note := func(what string, err error) {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", what, err))
		}
	}
	note("INFO", g.addJSON(at+"info.json", "INFO of "+i.Name, info))
	running, err := server.ConfigGet(ctx, "*")
	if err == nil {
		err = g.addJSON(at+"config.json", "settings of "+i.Name, g.settings(running))
	}
	note("CONFIG GET", err)
	reply, err := server.Do(ctx, "SLOWLOG", "GET", slowEntries)
	if err == nil {
		err = g.addJSON(at+"slowlog.json", "slow commands of "+i.Name+", without arguments", slowCommands(reply))
	}
	note("SLOWLOG GET", err)
	reply, err = server.Do(ctx, "CLIENT", "LIST")
	if err == nil {
		err = g.clients(i, at, reply)
	}
	note("CLIENT LIST", err)
	return errors.Join(failed...)
}

// clients writes the clients without the names that they gave themselves.
func (g *gathering) clients(i operation.Instance, at string, reply any) error {
	list, err := redis.ParseClients(fmt.Sprint(reply))
	if err != nil {
		return err
	}
	for n := range list {
		for _, given := range []*string{&list[n].Name, &list[n].Library} {
			if *given != "" {
				*given = redact.Placeholder
			}
		}
	}
	return g.addJSON(at+"clients.json", "clients of "+i.Name, list)
}

// slowCommands reads the reply to SLOWLOG GET: id, time, duration in microseconds,
// arguments, and since 4.0 the client's address and name.
func slowCommands(reply any) []slowCommand {
	entries, _ := reply.([]any)
	list := make([]slowCommand, 0, len(entries))
	for _, entry := range entries {
		fields, _ := entry.([]any)
		if len(fields) < 4 {
			continue
		}
		id, _ := fields[0].(int64)
		at, _ := fields[1].(int64)
		took, _ := fields[2].(int64)
		words, _ := fields[3].([]any)
		slow := slowCommand{ID: id, Time: time.Unix(at, 0).UTC(), Microseconds: took, Arguments: max(0, len(words)-1)}
		if len(words) > 0 {
			slow.Command = fmt.Sprint(words[0])
		}
		if len(fields) > 4 {
			slow.Client = fmt.Sprint(fields[4])
		}
		list = append(list, slow)
	}
	return list
}

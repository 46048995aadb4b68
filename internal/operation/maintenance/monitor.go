package maintenance

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// MonitorOptions bound what is watched. Both bounds hold.
type MonitorOptions struct {
	For time.Duration
	// Limit is the largest number of commands that are shown.
	Limit int
	// ShowValues shows arguments that are no keys, but never secrets.
	ShowValues bool
	// Match shows only commands with one of these names; empty for all.
	Match []string
}

// Seen is one command that a server carried out.
type Seen struct {
	Instance string    `json:"instance"`
	Time     time.Time `json:"time"`
	DB       int       `json:"db"`
	// Client is the address it came from, or "lua" for a script.
	Client string `json:"client"`
	// Name of the command, in upper case.
	Name string `json:"name"`
	// Command with its keys; other arguments are masked.
	Command string `json:"command"`
}

// Monitored sums up what was watched.
type Monitored struct {
	// Commands were seen, Shown of them handed on.
	Commands, Shown int64
	Took            time.Duration
	// Limited is set when the limit ended it.
	Limited bool
}

// Monitor hands on what an instance carries out (MONITOR), until a bound is reached or
// ctx ends, which is no error. The server sends each command to whoever monitors it:
// that costs a busy server a good part of its throughput.
func (m Maintenance) Monitor(
	ctx context.Context, d *operation.Deployment, i operation.Instance, o MonitorOptions, emit func(Seen) error,
) (Monitored, error) {
	var sum Monitored
	s, err := m.Sessions.OpenSession(ctx, d, i, 0)
	if err != nil {
		return sum, err
	}
	defer func() { _ = s.Close() }() // it ends MONITOR
	if _, err := ask(ctx, s, m.Timeout, "MONITOR"); err != nil {
		return sum, err
	}
	begin := time.Now()
	bounded, cancel := context.WithDeadline(ctx, begin.Add(o.For))
	defer cancel()
	for sum.Shown < int64(o.Limit) {
		reply, err := s.Next(bounded)
		sum.Took = time.Since(begin)
		if bounded.Err() != nil {
			return sum, nil // a bound was reached, or the user has seen enough
		}
		if err != nil {
			return sum, err
		}
		seen, err := parseMonitor(reply.Text, o.ShowValues)
		if err != nil {
			return sum, err
		}
		sum.Commands++
		if !matches(seen.Name, o.Match) {
			continue
		}
		seen.Instance = i.Name
		sum.Shown++
		if err := emit(seen); err != nil {
			return sum, err
		}
	}
	sum.Limited = true
	return sum, nil
}

func matches(name string, wanted []string) bool {
	for _, w := range wanted {
		if strings.EqualFold(w, name) {
			return true
		}
	}
	return len(wanted) == 0
}

// parseMonitor reads a line as of replicationFeedMonitors (replication.c):
// 1700000000.123456 [0 127.0.0.1:5000] "SET" "key" "value". Arguments are quoted as
// redis.conf reads them, and may be cut at the end of a long line.
func parseMonitor(line string, values bool) (Seen, error) {
	stamp, rest, _ := strings.Cut(line, " [")
	where, arguments, found := strings.Cut(rest, "] ")
	at, err := strconv.ParseFloat(stamp, 64)
	if !found || err != nil {
		return Seen{}, errors.New("unexpected line from MONITOR")
	}
	db, client, _ := strings.Cut(where, " ")
	seen := Seen{Time: time.UnixMicro(int64(at * 1e6)).UTC(), Client: client}
	if seen.DB, err = strconv.Atoi(db); err != nil {
		return Seen{}, errors.New("unexpected line from MONITOR")
	}
	command, err := redis.SplitArgs(arguments)
	if err != nil { // it was cut: what is whole stands before the last quote that opens
		if end := strings.LastIndex(arguments, ` "`); end > 0 {
			command, err = redis.SplitArgs(arguments[:end])
			command = append(command, "…")
		}
	}
	if err != nil || len(command) == 0 {
		return Seen{}, errors.New("unexpected command from MONITOR")
	}
	seen.Name, seen.Command = strings.ToUpper(command[0]), Shown(command, values)
	return seen, nil
}

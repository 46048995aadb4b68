package redis

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Client is a line of CLIENT LIST. What the server's version does not tell is zero.
type Client struct {
	ID int64
	// Address is host:port of the client's end; of a UNIX socket the server says
	// path:0.
	Address string
	Name    string
	User    string
	// Library is lib-name and lib-ver (7.2+).
	Library string
	// Age since it connected, Idle since its last command; in whole seconds.
	Age, Idle time.Duration
	// Flags are the server's letters: N nothing special, S replica, M primary, P
	// pub/sub, b blocked, x in MULTI, O monitor.
	Flags string
	DB    int
	// Subscriptions of channels, patterns and shard channels.
	Subscriptions int
	// QueryBuffer, OutputBuffer and Memory (6.2+) are bytes.
	QueryBuffer, OutputBuffer, Memory int64
	// Command is the last one, with its subcommand: "client|list".
	Command string
}

// Host is the address without the port.
func (c Client) Host() string {
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return c.Address
	}
	return host
}

// ParseClients parses the reply to CLIENT LIST: a line for each client, of key=value
// words. Names cannot contain spaces. Unknown keys are passed over: versions add some.
func ParseClients(text string) ([]Client, error) {
	var clients []Client
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, "\r")
		if line == "" {
			continue
		}
		fields := make(map[string]string)
		for word := range strings.SplitSeq(line, " ") {
			if key, value, ok := strings.Cut(word, "="); ok {
				fields[key] = value
			}
		}
		if fields["id"] == "" || fields["addr"] == "" {
			// The line may name users and keys: it is not quoted.
			return nil, fmt.Errorf("CLIENT LIST line %d has no id or no address", n+1)
		}
		clients = append(clients, clientOf(fields))
	}
	return clients, nil
}

func clientOf(fields map[string]string) Client {
	number := func(name string) int64 {
		v, err := strconv.ParseInt(fields[name], 10, 64)
		if err != nil {
			return 0
		}
		return v
	}
	return Client{
		ID: number("id"), Address: fields["addr"], Name: fields["name"], User: fields["user"],
		Library: strings.Trim(fields["lib-name"]+" "+fields["lib-ver"], " "),
		Age:     time.Duration(number("age")) * time.Second, Idle: time.Duration(number("idle")) * time.Second,
		Flags: fields["flags"], DB: int(number("db")), Command: fields["cmd"],
		Subscriptions: int(number("sub") + number("psub") + number("ssub")),
		QueryBuffer:   number("qbuf") + number("qbuf-free"), OutputBuffer: number("obl") + number("omem"), Memory: number("tot-mem"),
	}
}

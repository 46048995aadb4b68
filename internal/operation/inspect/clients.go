package inspect

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// Clients are the clients of one instance. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Clients struct {
	// Section is INFO's section clients, in the server's words.
	Section map[string]any `json:"clients"`
	// Total counts the clients; Groups may leave some out.
	Total  int           `json:"total"`
	Groups []ClientGroup `json:"groups"`
	// Omitted counts the groups that the limit left out.
	Omitted int `json:"omittedGroups,omitempty"`
}

// ClientGroup are the clients that come from one address.
type ClientGroup struct {
	// Address is the host without the port. What comes through a port-forward, as
	// redisctl itself, comes from 127.0.0.1.
	Address string `json:"address"`
	Count   int    `json:"count"`
	// Names, Users, Libraries, Commands (the last ones) and Flags are those that occur,
	// sorted.
	Names     []string `json:"names"`
	Users     []string `json:"users"`
	Libraries []string `json:"libraries"`
	Commands  []string `json:"commands"`
	DBs       []int    `json:"dbs"`
	// Flags are the server's letters of all clients: b blocked, S replica, P pub/sub.
	Flags string `json:"flags"`
	// OldestSeconds is the longest connection's age. LongestIdleSeconds and
	// ShortestIdleSeconds are times since the last command.
	OldestSeconds       int64 `json:"oldestSeconds"`
	LongestIdleSeconds  int64 `json:"longestIdleSeconds"`
	ShortestIdleSeconds int64 `json:"shortestIdleSeconds"`
	// BiggestOutput and BiggestQuery are the biggest buffers of one client; Memory is
	// what all clients take (0 before 6.2). In bytes.
	BiggestOutput int64 `json:"biggestOutputBytes"`
	BiggestQuery  int64 `json:"biggestQueryBytes"`
	Memory        int64 `json:"memoryBytes"`
}

// clientOrders are what groups can be sorted by, the greatest first.
func clientOrders() map[string]func(ClientGroup) int64 {
	return map[string]func(ClientGroup) int64{
		"count":  func(g ClientGroup) int64 { return int64(g.Count) },
		"age":    func(g ClientGroup) int64 { return g.OldestSeconds },
		"idle":   func(g ClientGroup) int64 { return g.LongestIdleSeconds },
		"output": func(g ClientGroup) int64 { return g.BiggestOutput },
		"query":  func(g ClientGroup) int64 { return g.BiggestQuery },
		"memory": func(g ClientGroup) int64 { return g.Memory },
	}
}

// ClientOrders lists what ClientOptions.Sort accepts.
func ClientOrders() []string { return slices.Sorted(maps.Keys(clientOrders())) }

// ClientOptions are the user's choices for ListClients.
type ClientOptions struct {
	// Sort is one of ClientOrders.
	Sort string
	// Limit is how many groups of an instance are kept; 0 keeps all.
	Limit int
	// Timeout bounds each instance's answer.
	Timeout time.Duration
}

// ListClients asks every instance for its clients.
func ListClients(
	ctx context.Context, connector operation.Connector, d *operation.Deployment, o ClientOptions,
) ([]Answer[Clients], error) {
	by, ok := clientOrders()[o.Sort]
	if !ok {
		return nil, operation.Errorf(operation.Usage, "--sort %q: choose one of %s", o.Sort, strings.Join(ClientOrders(), ", "))
	}
	if o.Limit < 0 {
		return nil, operation.Errorf(operation.Usage, "--limit %d: it must not be negative", o.Limit)
	}
	return Each(ctx, connector, d, o.Timeout, func(ctx context.Context, s operation.Server) (Clients, error) {
		info, err := s.Info(ctx, "clients")
		if err != nil {
			return Clients{}, err
		}
		reply, err := s.Do(ctx, "CLIENT", "LIST")
		if err != nil {
			return Clients{}, err
		}
		clients, err := redis.ParseClients(fmt.Sprint(reply))
		if err != nil {
			return Clients{}, err
		}
		c := Clients{Section: info.Values("clients"), Total: len(clients), Groups: group(clients)}
		slices.SortFunc(c.Groups, func(a, b ClientGroup) int {
			return cmp.Or(cmp.Compare(by(b), by(a)), cmp.Compare(a.Address, b.Address))
		})
		if o.Limit > 0 && len(c.Groups) > o.Limit {
			c.Omitted = len(c.Groups) - o.Limit
			c.Groups = c.Groups[:o.Limit]
		}
		return c, nil
	}), nil
}

// group puts together what comes from one address.
func group(clients []redis.Client) []ClientGroup {
	by := make(map[string][]redis.Client)
	for _, c := range clients {
		by[c.Host()] = append(by[c.Host()], c)
	}
	groups := make([]ClientGroup, 0, len(by))
	for address, members := range by {
		g := ClientGroup{Address: address, Count: len(members), ShortestIdleSeconds: int64(members[0].Idle / time.Second)}
		for _, c := range members {
			g.OldestSeconds = max(g.OldestSeconds, int64(c.Age/time.Second))
			g.LongestIdleSeconds = max(g.LongestIdleSeconds, int64(c.Idle/time.Second))
			g.ShortestIdleSeconds = min(g.ShortestIdleSeconds, int64(c.Idle/time.Second))
			g.BiggestOutput, g.BiggestQuery = max(g.BiggestOutput, c.OutputBuffer), max(g.BiggestQuery, c.QueryBuffer)
			g.Memory += c.Memory
		}
		g.Names = occurring(members, func(c redis.Client) string { return c.Name })
		g.Users = occurring(members, func(c redis.Client) string { return c.User })
		g.Libraries = occurring(members, func(c redis.Client) string { return c.Library })
		g.Commands = occurring(members, func(c redis.Client) string { return c.Command })
		for _, c := range members {
			if !slices.Contains(g.DBs, c.DB) {
				g.DBs = append(g.DBs, c.DB)
			}
			for _, letter := range c.Flags {
				if !strings.ContainsRune(g.Flags, letter) {
					g.Flags += string(letter)
				}
			}
		}
		slices.Sort(g.DBs)
		groups = append(groups, g)
	}
	return groups
}

// occurring returns the different values, sorted, without the empty one.
func occurring(clients []redis.Client, of func(redis.Client) string) []string {
	seen := make(map[string]bool)
	for _, c := range clients {
		if v := of(c); v != "" {
			seen[v] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

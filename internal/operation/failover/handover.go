package failover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// Settled is what every switch has verified in the end. Its JSON form is part of
// redisctl's interface (docs/json-output.md).
type Settled struct {
	// Followers are the instances that follow the primary with their links up.
	Followers []string `json:"followers"`
	// PartialResyncs and FullResyncs count the resynchronisations that the primary
	// has served meanwhile: a full one copies the whole data set.
	PartialResyncs int64 `json:"partialResyncs"`
	FullResyncs    int64 `json:"fullResyncs"`
	// Services are those that were moved; their endpoints were seen.
	Services []string `json:"services"`
	// ServiceWrites are the writes that were sent through them.
	ServiceWrites []ServiceWrite `json:"serviceWrites"`
}

// newSettled returns one that JSON shows with empty lists.
func newSettled() Settled {
	return Settled{Followers: []string{}, Services: []string{}, ServiceWrites: []ServiceWrite{}}
}

// Move sends the clients of a Service from one instance to the new primary.
type Move struct {
	Service string `json:"service"`
	From    string `json:"from"`
}

// handover brings everybody to one primary: what planned, forced and healing
// switches have in common once it is decided who that is.
type handover struct {
	Failover
	object     string
	deployment *operation.Deployment
	topology   *topology.Topology
	limits     Limits
	to         *topology.Member
	// repoint are the replicas that are told to follow to.
	repoint []string
	moves   []Move
	// moved is set once the Services lead to the new primary.
	moved bool
	// untried tells for each Service that cannot be tried why.
	untried map[string]string
	// demoted are the primaries that were, with their writes paused.
	demoted []demotion
	// old is the primary of a planned switch.
	old     string
	servers map[string]operation.Server
	before  syncCounts
	begun   time.Time
	settled Settled
}

// demotion is an old primary that was told to follow the new one.
type demotion struct {
	name   string
	paused Paused
}

// open connects to every instance that answers, before anything is changed:
// connecting later would prolong the pause.
func (h *handover) open(ctx context.Context) error {
	if err := h.connect(ctx); err != nil {
		return err
	}
	counts, err := h.syncCounts(ctx)
	if err != nil {
		h.close()
		return err
	}
	h.before = counts
	return nil
}

func (h *handover) connect(ctx context.Context) error {
	h.settled = newSettled()
	h.servers = make(map[string]operation.Server)
	for i := range h.topology.Members {
		m := &h.topology.Members[i]
		if m.Err != nil {
			continue
		}
		server, err := h.Connector.Connect(ctx, h.deployment, m.Instance)
		if err != nil {
			h.close()
			return err
		}
		h.servers[m.Name] = server
	}
	return nil
}

func (h *handover) close() {
	for _, server := range h.servers {
		_ = server.Close() // everything was said
	}
	for _, d := range h.demoted {
		_ = d.paused.Close()
	}
}

func (h *handover) promote(ctx context.Context) error {
	_, err := h.servers[h.to.Name].Do(ctx, "REPLICAOF", "NO", "ONE")
	return err
}

// complete moves everybody to the new primary and verifies it.
func (h *handover) complete(ctx context.Context) error {
	host, port := h.topology.Address(h.to)
	tasks := make([]func() error, 0, len(h.repoint)+1)
	for _, name := range h.repoint {
		tasks = append(tasks, func() error {
			_, err := h.servers[name].Do(ctx, "REPLICAOF", host, strconv.Itoa(port))
			if err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
			return err
		})
	}
	tasks = append(tasks, func() error {
		if err := h.moveServices(ctx); err != nil {
			return err
		}
		return errors.Join(h.settleDemoted(ctx), h.dropStrays(ctx))
	})
	if err := atOnce(tasks); err != nil {
		return err
	}
	return h.verify(ctx)
}

// atOnce runs all tasks in parallel and joins their errors.
func atOnce(tasks []func() error) error {
	failures := make([]error, len(tasks))
	var wg sync.WaitGroup
	for i, task := range tasks {
		wg.Go(func() { failures[i] = task() })
	}
	wg.Wait()
	return errors.Join(failures...)
}

// settleDemoted drops the clients of the old primaries, which would otherwise stay
// and get READONLY for every write. Only once the Services have moved: clients
// reconnect at once.
func (h *handover) settleDemoted(ctx context.Context) error {
	for _, d := range h.demoted {
		if err := d.paused.Settle(ctx); err != nil {
			return fmt.Errorf("settling %s: %w", d.name, err)
		}
	}
	return nil
}

// dropStrays drops the clients of the instances that Services have led to and that were
// not demoted: replicas, on which a client would stay and get READONLY for every write.
func (h *handover) dropStrays(ctx context.Context) error {
	var strays []string
	for _, m := range h.moves {
		isDemoted := slices.ContainsFunc(h.demoted, func(d demotion) bool { return d.name == m.From })
		if h.servers[m.From] != nil && !isDemoted && !slices.Contains(strays, m.From) {
			strays = append(strays, m.From)
		}
	}
	if len(strays) == 0 {
		return nil
	}
	h.awaitRoutedBriefly(ctx) // else they would come back
	for _, name := range strays {
		if err := h.dropClients(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (h *handover) dropClients(ctx context.Context, name string) error {
	if _, err := h.servers[name].Do(ctx, "CLIENT", "KILL", "TYPE", "normal"); err != nil {
		return fmt.Errorf("dropping the clients of %s: %w", name, err)
	}
	return nil
}

// moveServices sends the clients of the Services to the new primary: new connections,
// that is; those that are open stay where they are.
func (h *handover) moveServices(ctx context.Context) error {
	if h.moved {
		return nil
	}
	for _, m := range h.moves {
		h.Reporter.Step("sending the clients of %s to %s", m.Service, h.to.Name)
		if err := h.Traffic.Pin(ctx, h.deployment, m.Service, m.From, h.to.Name); err != nil {
			return err
		}
	}
	for _, m := range h.moves {
		if err := h.Traffic.AwaitEndpoint(ctx, h.deployment, m.Service, h.to.Name); err != nil {
			return err
		}
		h.settled.Services = append(h.settled.Services, m.Service)
	}
	h.moved = true
	return nil
}

// verify waits until everybody who answers is in sync with the new primary, and
// writes through the Services.
func (h *handover) verify(ctx context.Context) error {
	h.Reporter.Step("waiting until everybody follows %s", h.to.Name)
	tasks := []func() error{func() error { return h.tryServices(ctx) }}
	for name := range h.servers {
		if name == h.to.Name || h.Leave != nil && h.Leave(h.old, h.to.Name, name) {
			continue
		}
		h.settled.Followers = append(h.settled.Followers, name)
		tasks = append(tasks, func() error { return h.awaitLink(ctx, name) })
	}
	slices.Sort(h.settled.Followers)
	if err := atOnce(tasks); err != nil {
		return err
	}
	info, err := h.servers[h.to.Name].Info(ctx)
	if err != nil {
		return err
	}
	state, err := info.Replication()
	if err != nil {
		return err
	}
	if state.Role != redis.RolePrimary {
		return fmt.Errorf("%s is a %s again", h.to.Name, state.Role)
	}
	h.settled.FullResyncs = info.Int("sync_full") - h.before.full
	h.settled.PartialResyncs = info.Int("sync_partial_ok") - h.before.partial
	return nil
}

const linkInterval = 20 * time.Millisecond

// silenceLimit is how long an instance that is waited for may not answer at all: it
// has died, and what becomes of it is not part of the switch.
const silenceLimit = 10 * time.Second

func (h *handover) awaitLink(ctx context.Context, name string) error {
	host, port := h.topology.Address(h.to)
	answered := time.Now()
	for {
		info, err := h.servers[name].Info(ctx, "replication")
		var state redis.Replication
		if err == nil {
			answered = time.Now()
			state, err = info.Replication()
		}
		if err == nil && state.Upstream != nil && state.Upstream.Host == host && state.Upstream.Port == port && state.Upstream.LinkUp {
			return nil
		}
		if err != nil && time.Since(answered) > silenceLimit {
			return fmt.Errorf("%s, which is to follow %s: %w", name, h.to.Name, err)
		}
		if _, err := h.servers[h.to.Name].Ping(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s, which everybody is to follow: %w", h.to.Name, err)
		}
		select {
		case <-ctx.Done():
			return operation.Errorf(operation.TimedOut, "%s is not in sync with %s", name, h.to.Name)
		case <-time.After(linkInterval):
		}
	}
}

// syncCounts are the resynchronisations that a server has served.
type syncCounts struct{ full, partial int64 }

func (h *handover) syncCounts(ctx context.Context) (syncCounts, error) {
	info, err := h.servers[h.to.Name].Info(ctx, "stats")
	if err != nil {
		return syncCounts{}, err
	}
	return syncCounts{full: info.Int("sync_full"), partial: info.Int("sync_partial_ok")}, nil
}

func (h *handover) incomplete(phase string, err error) error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: h.object, Phase: phase, Err: err,
		Unchanged: "no data is lost: " + h.to.Name + " has everything that this switch began with",
		Next:      "redisctl failover resume completes it; redisctl replication heal, when a pod has restarted meanwhile",
	}
}

package failover

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// ServiceWrite is a key that was written through a Service, as its clients do, from
// inside the cluster, and read back from the new primary itself.
type ServiceWrite struct {
	Service string `json:"service"`
	// Via is the pod that it was sent from.
	Via string `json:"via,omitempty"`
	// Milliseconds from the beginning of the switch until it was acknowledged.
	Milliseconds float64 `json:"milliseconds,omitempty"`
	// Skipped says why no write was sent. The Service's endpoints were seen all the
	// same.
	Skipped string `json:"skipped,omitempty"`
}

// vantage returns the instance to reach a Service from: one that answers, and if
// possible not the one that the Service leads to, because not every network lets a
// pod reach itself through a Service.
func vantage(t *topology.Topology, leadsTo string) *topology.Member {
	var found *topology.Member
	for i := range t.Members {
		m := &t.Members[i]
		if m.Err == nil && (found == nil || found.Name == leadsTo) {
			found = m
		}
	}
	return found
}

// tryBefore finds out which Services can be tried at all: later it could not be told
// whether the switch or the way is at fault.
func (f Failover) tryBefore(
	ctx context.Context, t *topology.Topology, services []string, primary *topology.Member,
) (untried map[string]string, found []operation.Finding) {
	untried = make(map[string]string)
	if f.Cluster == nil {
		return untried, nil
	}
	reasons := make([]error, len(services))
	tasks := make([]func() error, len(services))
	for i, name := range services {
		tasks[i] = func() error {
			reasons[i] = f.reaches(ctx, t.Deployment, name, vantage(t, primary.Name), primary)
			return nil
		}
	}
	_ = atOnce(tasks) // the reasons are what they found
	for i, name := range services {
		if reasons[i] == nil {
			continue
		}
		untried[name] = reasons[i].Error()
		found = append(found, operation.Finding{
			Code: "service-untried", Severity: operation.Warning, Subject: name,
			Message: fmt.Sprintf("it cannot be tried from inside the cluster, so that no write will be sent through it: %v", reasons[i]),
		})
	}
	return untried, found
}

// reaches returns nil when a Service leads from the pod via to the given server.
func (f Failover) reaches(ctx context.Context, d *operation.Deployment, service string, via, to *topology.Member) error {
	server, err := f.connectService(ctx, d, service, via)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }() // it was only asked
	return sameServer(ctx, server, to)
}

func (f Failover) connectService(ctx context.Context, d *operation.Deployment, service string, via *topology.Member) (operation.Server, error) {
	for _, s := range d.Services {
		if s.Name == service {
			return f.Cluster.ConnectService(ctx, d, s, via.Instance)
		}
	}
	return nil, fmt.Errorf("%s has no Service %s", d, service)
}

func sameServer(ctx context.Context, server operation.Server, want *topology.Member) error {
	info, err := server.Info(ctx, "server")
	if err != nil {
		return err
	}
	if id := want.Info.Get("run_id"); info.Get("run_id") != id {
		return fmt.Errorf("it leads to another server than %s", want.Name)
	}
	return nil
}

// tryServices writes through every moved Service, and reads what was written from
// the new primary. Until ctx ends it is tried again, because kube-proxy follows an
// endpoint with a delay.
func (h *handover) tryServices(ctx context.Context) error {
	if h.Cluster == nil || len(h.moves) == 0 {
		return nil
	}
	writes := make([]ServiceWrite, len(h.moves))
	tasks := make([]func() error, len(h.moves))
	for i, m := range h.moves {
		tasks[i] = func() error {
			var err error
			writes[i], err = h.tryService(ctx, m.Service)
			return err
		}
	}
	err := atOnce(tasks)
	h.settled.ServiceWrites = writes
	return err
}

// awaitRouted waits until the Services lead to the new primary from inside the
// cluster. Kube-proxy follows an endpoint with a delay, up to a second by default.
func (h *handover) awaitRouted(ctx context.Context) error {
	if h.Cluster == nil {
		return nil
	}
	tasks := make([]func() error, 0, len(h.moves))
	for _, m := range h.moves {
		if h.untried[m.Service] == "" {
			tasks = append(tasks, func() error { return h.awaitRoute(ctx, m.Service) })
		}
	}
	return atOnce(tasks)
}

// routedLimit is how long awaitRoutedBriefly waits: several times what kube-proxy takes.
const routedLimit = 5 * time.Second

// awaitRoutedBriefly is awaitRouted where not knowing must not stand in the way.
func (h *handover) awaitRoutedBriefly(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, routedLimit)
	defer cancel()
	if err := h.awaitRouted(ctx); err != nil {
		h.Reporter.Warn("%v", err)
	}
}

func (h *handover) awaitRoute(ctx context.Context, service string) error {
	via := vantage(h.topology, h.to.Name)
	for {
		err := h.reaches(ctx, h.deployment, service, via, h.to)
		if err == nil || operation.KindOf(err) == operation.Denied { // then it cannot be known
			return nil
		}
		select {
		case <-ctx.Done():
			return operation.Errorf(operation.TimedOut, "the Service %s does not lead to %s: %w", service, h.to.Name, err)
		case <-time.After(serviceInterval):
		}
	}
}

// errRefused is a write that the new primary itself refused: trying again is no use.
var errRefused = errors.New("refused")

const serviceInterval = 100 * time.Millisecond

func (h *handover) tryService(ctx context.Context, service string) (ServiceWrite, error) {
	w := ServiceWrite{Service: service, Skipped: h.untried[service]}
	if w.Skipped != "" {
		return w, nil
	}
	via := vantage(h.topology, h.to.Name)
	w.Via = via.Name
	for {
		err := h.writeThrough(ctx, service, via)
		switch {
		case err == nil:
			w.Milliseconds = milliseconds(time.Since(h.begun))
			return w, nil
		case errors.Is(err, errRefused), operation.KindOf(err) == operation.Denied:
			h.Reporter.Warn("no write through %s: %v", service, err)
			w.Skipped = err.Error()
			return w, nil
		}
		select {
		case <-ctx.Done():
			return w, operation.Errorf(operation.TimedOut, "no write through the Service %s reached %s: %w", service, h.to.Name, err)
		case <-time.After(serviceInterval):
		}
	}
}

// probeLife is how long the written key may live when redisctl dies before it
// deletes it.
const probeLife = 10 * time.Second

func (h *handover) writeThrough(ctx context.Context, service string, via *topology.Member) error {
	server, err := h.connectService(ctx, h.deployment, service, via)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }() // the write has told what is to be known
	if err := sameServer(ctx, server, h.to); err != nil {
		return err
	}
	key, value := "redisctl:probe:"+rand.Text(), rand.Text()
	if _, err := server.Do(ctx, "SET", key, value, "PX", probeLife.Milliseconds()); err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	primary := h.servers[h.to.Name]
	got, err := primary.Do(ctx, "GET", key)
	if err != nil {
		return err
	}
	if got != value {
		return fmt.Errorf("what was written through %s is not on %s", service, h.to.Name)
	}
	_, err = primary.Do(ctx, "DEL", key)
	return err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

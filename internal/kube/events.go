package kube

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/events"
)

var _ events.Source = (*Client)(nil)

// Events implements events.Source. It needs list on events.
func (c *Client) Events(ctx context.Context, d *operation.Deployment) ([]events.Event, error) {
	list, _, err := c.listEvents(ctx, d)
	return events.Group(list), err
}

func (c *Client) listEvents(parent context.Context, d *operation.Deployment) ([]events.Event, string, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	list, err := c.clientset.CoreV1().Events(d.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, "", c.failure(parent, request{verb: "list", resource: "events", namespace: d.Namespace}, err)
	}
	others := c.otherWorkloads(ctx, d)
	var found []events.Event
	for i := range list.Items {
		if concerns(&list.Items[i], d, others) {
			found = append(found, eventOf(&list.Items[i]))
		}
	}
	return found, list.ResourceVersion, nil
}

// WatchEvents implements events.Source. It needs list and watch on events. A watch that the
// API server ends, as it does now and then, is begun again.
func (c *Client) WatchEvents(ctx context.Context, d *operation.Deployment, show func(events.Event) error) error {
	_, version, err := c.listEvents(ctx, d)
	if err != nil {
		return err
	}
	others := c.otherWorkloads(ctx, d)
	for ctx.Err() == nil {
		w, err := c.clientset.CoreV1().Events(d.Namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: version})
		if err != nil && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			return c.failure(ctx, request{verb: "watch", resource: "events", namespace: d.Namespace}, err)
		}
		if err == nil {
			version, err = relayEvents(w, version, func(e *corev1.Event) error {
				if !concerns(e, d, others) {
					return nil
				}
				return show(eventOf(e))
			})
			w.Stop()
			if err != nil {
				return err
			}
		}
		if version == "" { // too old: what happened meanwhile is lost
			if _, version, err = c.listEvents(ctx, d); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(rolloutInterval):
		}
	}
	return nil
}

// relayEvents hands on what a watch reports until it ends. It returns where to go on, ""
// when that is not there any more.
func relayEvents(w watch.Interface, version string, show func(*corev1.Event) error) (string, error) {
	for change := range w.ResultChan() {
		switch e := change.Object.(type) {
		case *corev1.Event:
			version = e.ResourceVersion
			if change.Type == watch.Deleted {
				continue
			}
			if err := show(e); err != nil {
				return version, err
			}
		case *metav1.Status:
			return "", nil
		}
	}
	return version, nil
}

// otherWorkloads returns the names of other releases' workloads that begin as d's does:
// what belongs to cache-redis-green is not cache-redis's. Best effort.
func (c *Client) otherWorkloads(ctx context.Context, d *operation.Deployment) []string {
	all, err := c.releases(ctx, d.Namespace)
	if err != nil {
		return nil
	}
	var names []string
	for _, f := range all {
		if f.Name != d.Workload.Name && strings.HasPrefix(f.Name, d.Workload.Name) {
			names = append(names, f.Name)
		}
	}
	return names
}

// concerns reports whether an event is about an object of the deployment, by the names that
// the chart gives: events carry no labels.
func concerns(e *corev1.Event, d *operation.Deployment, others []string) bool {
	name := e.InvolvedObject.Name
	if e.InvolvedObject.Kind == "PersistentVolumeClaim" {
		if name == d.Workload.Volume.Claim {
			return true
		}
		name = strings.TrimPrefix(name, d.Workload.Volume.Claim+"-")
	}
	for _, other := range others {
		if name == other || strings.HasPrefix(name, other+"-") {
			return false
		}
	}
	return name == d.Workload.Name || strings.HasPrefix(name, d.Workload.Name+"-")
}

func eventOf(e *corev1.Event) events.Event {
	first, last := e.FirstTimestamp.Time, e.LastTimestamp.Time
	count := int(e.Count)
	if e.Series != nil {
		last, count = e.Series.LastObservedTime.Time, int(e.Series.Count)
	}
	// The newer API has one time only.
	for _, other := range []time.Time{e.EventTime.Time, e.CreationTimestamp.Time} {
		if first.IsZero() {
			first = other
		}
	}
	if last.IsZero() {
		last = first
	}
	return events.Event{
		Time: last.UTC(), First: first.UTC(), Count: max(1, count), Warning: e.Type == corev1.EventTypeWarning,
		Reason: e.Reason, Object: fmt.Sprintf("%s/%s", e.InvolvedObject.Kind, e.InvolvedObject.Name),
		Message: firstLine(e.Message), Source: cmp.Or(e.ReportingController, e.Source.Component),
	}
}

package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/guard"
)

const (
	// journalRate and journalBurst bound how many events per second a Journal makes:
	// etcd keeps each for an hour.
	journalRate  = 1.0 / 30
	journalBurst = 10
	// maxEventNote is the limit of the API for the text of an event, in bytes.
	maxEventNote = 1024
)

// Journal implements guard.Journal with Events of the events.k8s.io API, which
// kubectl describe shows.
type Journal struct {
	client *Client
	rate   flowcontrol.PassiveRateLimiter
}

// NewJournal returns a Journal with its own bound on the rate of events.
func (c *Client) NewJournal() *Journal {
	return &Journal{client: c, rate: flowcontrol.NewTokenBucketPassiveRateLimiter(journalRate, journalBurst)}
}

// RecordEvent implements guard.Journal.
func (j *Journal) RecordEvent(parent context.Context, d *operation.Deployment, e guard.JournalEntry) error {
	if !j.rate.TryAccept() && !e.Weighty {
		return nil
	}
	ctx, cancel := j.client.bounded(parent)
	defer cancel()
	severity := corev1.EventTypeNormal
	if e.Warning {
		severity = corev1.EventTypeWarning
	}
	_, err := j.client.clientset.EventsV1().Events(d.Namespace).Create(ctx, &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{GenerateName: guardName(d) + "-", Namespace: d.Namespace},
		EventTime:           metav1.NowMicro(),
		ReportingController: "redisctl.dev/guard",
		ReportingInstance:   e.Holder,
		Action:              "Guard",
		Reason:              e.Reason,
		Type:                severity,
		Note:                shortened(e.Message, maxEventNote),
		Regarding: corev1.ObjectReference{
			APIVersion: "apps/v1", Kind: d.Workload.Kind, Namespace: d.Namespace, Name: d.Workload.Name, UID: types.UID(d.Workload.UID),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return j.client.failure(parent, request{verb: "create", resource: "events", namespace: d.Namespace}, err)
	}
	return nil
}

// shortened returns text with at most limit bytes.
func shortened(text string, limit int) string {
	const dots = "..."
	if len(text) <= limit {
		return text
	}
	end := 0
	for i := range text { // the beginnings of runes
		if i > limit-len(dots) {
			break
		}
		end = i
	}
	return text[:end] + dots
}

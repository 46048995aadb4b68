package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/redisctl/redisctl/internal/operation"
)

// The times of the guard's election are those of Kubernetes' own controllers: a pod
// that dies is replaced after guardLeaseTime, one that ends properly at once.
const (
	guardLeaseTime     = 15 * time.Second
	guardRenewDeadline = 10 * time.Second
	guardRetryPeriod   = 2 * time.Second
)

// Lead implements guard.Seat with client-go's leader election over the Lease
// redisctl-guard-<workload>.
//
// client-go gives the Lease back as soon as its context ends, although what was done
// as the leader may still be going on. So the election outlives ctx until lead has
// returned.
func (c *Client) Lead(
	ctx context.Context, d *operation.Deployment, holder string, follow func(leader string), lead func(context.Context),
) error {
	for ctx.Err() == nil {
		t := &term{lead: lead, ended: make(chan struct{})}
		if err := c.serve(ctx, d, holder, t, follow); err != nil {
			return err
		}
	}
	return nil
}

// term is one time of waiting to become the leader, and of being it.
type term struct {
	lead  func(context.Context)
	ended chan struct{} // closed when lead has returned

	mu          sync.Mutex
	began, over bool
}

// begin reports whether the term may begin: client-go announces it in a goroutine of
// its own, which may be late.
func (t *term) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began = !t.over
	return t.began
}

// finish returns when the term is over for good.
func (t *term) finish() {
	t.mu.Lock()
	t.over = true
	began := t.began
	t.mu.Unlock()
	if began {
		<-t.ended
	}
}

// standingBy reports whether the term has not begun.
func (t *term) standingBy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.began
}

// serve takes part in one election, until the seat is lost or ctx ends.
func (c *Client) serve(ctx context.Context, d *operation.Deployment, holder string, t *term, follow func(leader string)) error {
	election, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: d.Namespace, Name: guardName(d)},
			Client:     c.clientset.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: holder},
			Labels:     guardLabels(d),
		},
		LeaseDuration: guardLeaseTime, RenewDeadline: guardRenewDeadline, RetryPeriod: guardRetryPeriod,
		ReleaseOnCancel: true,
		Name:            guardName(d),
		Callbacks: leaderelection.LeaderCallbacks{
			OnNewLeader: follow,
			OnStartedLeading: func(leading context.Context) {
				if !t.begin() {
					return
				}
				defer close(t.ended)
				defer stop() // which gives the Lease back
				work, cancel := context.WithCancel(leading)
				defer cancel()
				defer context.AfterFunc(ctx, cancel)()
				t.lead(work)
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("preparing the election of a leader: %w", err)
	}
	defer context.AfterFunc(ctx, func() {
		if t.standingBy() {
			stop()
		}
	})()
	elector.Run(election)
	t.finish()
	return nil
}

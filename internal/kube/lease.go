package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation"
)

const (
	// leasePrefix begins the names of redisctl's Leases.
	leasePrefix = "redisctl-"
	// trustedSkew is how far past its end, by this machine's clock, a Lease must
	// be to be taken for abandoned without watching it for a while.
	trustedSkew = 5 * time.Minute
	// releaseLimit bounds giving a Lease back.
	releaseLimit = 5 * time.Second
	// leaseAttempts bounds how often a race for a Lease is run again.
	leaseAttempts = 5
)

// Holder returns this process's identity for Acquire: user@host/pid.
func Holder() string {
	name := cmp.Or(os.Getenv("USER"), os.Getenv("USERNAME"), "unknown")
	if account, err := user.Current(); err == nil {
		name = account.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s@%s/%d", name, host, os.Getpid())
}

// Acquire takes the Lease redisctl-<name> (coordination.k8s.io/v1), which keeps
// two operators from changing the same deployment at once, and renews it in the
// background. The context that it returns is done when ctx is, and when the
// Lease is lost: then its cause (context.Cause) matches operation.ErrLeaseLost.
// The Lease counts as lost when somebody else holds it, when it was deleted, and
// when it could not be renewed for two thirds of ttl, which leaves the last
// third as a margin before anyone else may take it.
//
// The function that it returns gives the Lease back; it must be called, also
// after ctx was cancelled, and may be called more than once. Until then the
// Lease is renewed, so that cleaning up after Ctrl-C is still protected.
//
// A Lease does not fence: whoever holds one must still check, before each
// change, that the facts it rests on are unchanged.
//
// The error is of kind Locked when somebody else holds it. Whether a Lease has
// expired is judged by this machine's clock, which may be wrong; so before it
// takes over a Lease that expired within the last five minutes, Acquire watches
// it for a third of its duration for a sign of life.
//
// client-go's leaderelection is not used because it has no way of trying once:
// it waits until it leads. ttl is rounded up to whole seconds.
func (c *Client) Acquire(
	ctx context.Context, namespace, name, holder string, ttl time.Duration,
) (context.Context, func() error, error) {
	l := &lease{
		client:  c,
		request: request{resource: "leases", namespace: namespace, name: leasePrefix + name},
		holder:  holder,
		ttl:     (ttl + time.Second - 1).Truncate(time.Second),
	}
	if err := l.take(ctx); err != nil {
		return nil, nil, err
	}
	held, cancel := context.WithCancelCause(ctx)
	stop := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		err := l.keep(context.WithoutCancel(ctx), stop)
		if err != nil {
			cancel(err)
		}
		ended <- err
	}()
	release := sync.OnceValue(func() error {
		close(stop)
		lost := <-ended
		cancel(nil)
		if lost != nil {
			return nil
		}
		fresh, done := context.WithTimeout(context.WithoutCancel(ctx), releaseLimit)
		defer done()
		return l.giveBack(fresh)
	})
	return held, release, nil
}

// lease is a Lease that this process holds or wants.
type lease struct {
	client  *Client
	request request
	holder  string
	ttl     time.Duration
	// current is the Lease as it was last written.
	current *coordinationv1.Lease
	// renewed is when the last successful renewal was begun, by the wall clock:
	// the monotonic clock stands still while a laptop sleeps.
	renewed time.Time
}

func wallClock() time.Time { return time.Now().Round(0) }

// failure translates the error of a request about the Lease.
func (l *lease) failure(ctx context.Context, verb string, err error) error {
	r := l.request
	r.verb = verb
	return l.client.failure(ctx, r, err)
}

// take makes the Lease this process's, or fails with kind Locked.
func (l *lease) take(parent context.Context) error {
	for range leaseAttempts {
		existing, err := l.get(parent)
		if apierrors.IsNotFound(err) {
			err = l.create(parent)
			if apierrors.IsAlreadyExists(err) {
				continue
			}
			if err != nil {
				return l.failure(parent, "create", err)
			}
			return nil
		}
		if err != nil {
			return l.failure(parent, "get", err)
		}
		if err := l.free(parent, existing); err != nil {
			return err
		}
		err = l.update(parent, existing, func(spec *coordinationv1.LeaseSpec, now metav1.MicroTime) {
			spec.LeaseTransitions = ptr.To(ptr.Deref(spec.LeaseTransitions, 0) + 1)
			spec.HolderIdentity = &l.holder
			spec.AcquireTime = &now
		})
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return l.failure(parent, "update", err)
		}
		return nil
	}
	return &operation.Error{
		Kind:   operation.Locked,
		Object: l.request.object(),
		Err:    errors.New("others are taking it at the same time"),
		Next:   "run the command again",
	}
}

// free returns nil when nobody holds the Lease any more.
func (l *lease) free(parent context.Context, existing *coordinationv1.Lease) error {
	if ptr.Deref(existing.Spec.HolderIdentity, "") == "" {
		return nil
	}
	end := expiry(existing)
	overdue := wallClock().Sub(end)
	if overdue < 0 {
		return l.locked(existing)
	}
	if overdue >= trustedSkew {
		return nil
	}
	timer := time.NewTimer(duration(existing) / 3)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-parent.Done():
		return l.failure(parent, "get", parent.Err())
	}
	again, err := l.get(parent)
	switch {
	case apierrors.IsNotFound(err):
		return nil // take finds out with a conflict
	case err != nil:
		return l.failure(parent, "get", err)
	case again.ResourceVersion != existing.ResourceVersion:
		return l.locked(again)
	default:
		return nil
	}
}

// locked says who holds the Lease, since when, and what to do about it.
func (l *lease) locked(existing *coordinationv1.Lease) error {
	spec := existing.Spec
	since := ""
	if spec.AcquireTime != nil {
		since = " since " + spec.AcquireTime.UTC().Format(time.RFC3339)
	}
	if spec.RenewTime != nil {
		since += ", last renewed " + spec.RenewTime.UTC().Format(time.RFC3339)
	}
	return &operation.Error{
		Kind:   operation.Locked,
		Object: l.request.object(),
		Err:    fmt.Errorf("held by %s%s", ptr.Deref(spec.HolderIdentity, ""), since),
		Next: fmt.Sprintf("wait: it is given back when that redisctl ends, and expires %s after its last renewal; "+
			"if it is certain that nobody works on the release: kubectl delete lease --namespace %s %s",
			duration(existing), l.request.namespace, l.request.name),
	}
}

// LockHolder returns who holds the Lease that Lock takes, "" when nobody does. It
// changes nothing.
func (c *Client) LockHolder(parent context.Context, d *operation.Deployment) (string, error) {
	l := &lease{client: c, request: request{resource: "leases", namespace: d.Namespace, name: leasePrefix + d.Name}}
	existing, err := l.get(parent)
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", l.failure(parent, "get", err)
	case wallClock().After(expiry(existing)):
		return "", nil
	default:
		return ptr.Deref(existing.Spec.HolderIdentity, ""), nil
	}
}

func duration(existing *coordinationv1.Lease) time.Duration {
	return time.Duration(ptr.Deref(existing.Spec.LeaseDurationSeconds, 0)) * time.Second
}

func expiry(existing *coordinationv1.Lease) time.Time {
	if existing.Spec.RenewTime == nil {
		return time.Time{}
	}
	return existing.Spec.RenewTime.Add(duration(existing))
}

// keep renews the Lease until stop is closed. It returns an error matching
// operation.ErrLeaseLost as soon as it is lost.
func (l *lease) keep(ctx context.Context, stop <-chan struct{}) error {
	interval := l.ttl / 6
	limit := l.ttl * 2 / 3
	next := time.NewTimer(interval)
	defer next.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-next.C:
		}
		left := l.renewed.Add(limit).Sub(wallClock())
		// An attempt is made even when no time is left: a laptop that slept may
		// still own the Lease, and only the server knows.
		attempt, cancel := context.WithTimeout(ctx, min(max(left, interval), l.client.timeout))
		err := l.renew(attempt)
		cancel()
		switch {
		case err == nil:
			next.Reset(interval)
		case errors.Is(err, operation.ErrLeaseLost):
			return err
		case wallClock().Sub(l.renewed) >= limit:
			return fmt.Errorf("%w: not renewed for %s: %w", operation.ErrLeaseLost, limit, err)
		default:
			next.Reset(interval / 4)
		}
	}
}

// renew extends the Lease.
func (l *lease) renew(ctx context.Context) error {
	for range leaseAttempts {
		err := l.update(ctx, l.current, func(*coordinationv1.LeaseSpec, metav1.MicroTime) {})
		if !apierrors.IsConflict(err) {
			if apierrors.IsNotFound(err) {
				return fmt.Errorf("%w: it was deleted", operation.ErrLeaseLost)
			}
			return err
		}
		if err := l.reload(ctx); err != nil {
			return err
		}
	}
	return errors.New("somebody keeps changing the lease")
}

// reload reads the Lease again after somebody else changed it. That need not
// have been its holder: anyone may annotate it.
func (l *lease) reload(ctx context.Context) error {
	now, err := l.get(ctx)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: it was deleted", operation.ErrLeaseLost)
	}
	if err != nil {
		return err
	}
	same := ptr.Deref(now.Spec.HolderIdentity, "") == l.holder &&
		now.Spec.AcquireTime.Equal(l.current.Spec.AcquireTime)
	if !same {
		return fmt.Errorf("%w: %s is now held by %q",
			operation.ErrLeaseLost, l.request.object(), ptr.Deref(now.Spec.HolderIdentity, ""))
	}
	l.current = now
	return nil
}

// giveBack clears the holder, so that the next operator need not wait.
func (l *lease) giveBack(ctx context.Context) error {
	for range leaseAttempts {
		err := l.update(ctx, l.current, func(spec *coordinationv1.LeaseSpec, _ metav1.MicroTime) {
			spec.HolderIdentity = ptr.To("")
			spec.LeaseDurationSeconds = ptr.To[int32](1)
		})
		switch {
		case err == nil, apierrors.IsNotFound(err):
			return nil
		case !apierrors.IsConflict(err):
			return l.failure(ctx, "update", err)
		}
		if err := l.reload(ctx); errors.Is(err, operation.ErrLeaseLost) {
			return nil
		} else if err != nil {
			return l.failure(ctx, "get", err)
		}
	}
	return nil
}

func (l *lease) get(parent context.Context) (*coordinationv1.Lease, error) {
	ctx, cancel := l.client.bounded(parent)
	defer cancel()
	return l.client.clientset.CoordinationV1().Leases(l.request.namespace).Get(ctx, l.request.name, metav1.GetOptions{})
}

func (l *lease) create(parent context.Context) error {
	ctx, cancel := l.client.bounded(parent)
	defer cancel()
	begun := wallClock()
	now := metav1.NewMicroTime(begun)
	created, err := l.client.clientset.CoordinationV1().Leases(l.request.namespace).Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name:   l.request.name,
			Labels: map[string]string{managerLabel: "redisctl"},
		},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity:       &l.holder,
			LeaseDurationSeconds: l.seconds(),
			AcquireTime:          &now,
			RenewTime:            &now,
			LeaseTransitions:     ptr.To[int32](0),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	l.current, l.renewed = created, begun
	return nil
}

// update writes the Lease on the condition that it is still as it was read: the
// API server compares the resourceVersion.
func (l *lease) update(
	parent context.Context, from *coordinationv1.Lease, change func(*coordinationv1.LeaseSpec, metav1.MicroTime),
) error {
	ctx, cancel := l.client.bounded(parent)
	defer cancel()
	begun := wallClock()
	now := metav1.NewMicroTime(begun)
	wanted := from.DeepCopy()
	wanted.Spec.LeaseDurationSeconds = l.seconds()
	wanted.Spec.RenewTime = &now
	change(&wanted.Spec, now)
	written, err := l.client.clientset.CoordinationV1().Leases(l.request.namespace).Update(ctx, wanted, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	l.current, l.renewed = written, begun
	return nil
}

func (l *lease) seconds() *int32 { return ptr.To(int32(l.ttl / time.Second)) }

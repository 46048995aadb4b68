package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation"
)

const ttl = 30 * time.Second

// leaseServer is an API server for Leases alone. It checks resourceVersions,
// which client-go's fake leaves out.
type leaseServer struct {
	*fake.Clientset
	// back is when it accepts updates again, in nanoseconds since 1970.
	back atomic.Int64
}

// away makes the server fail updates for a while.
func (s *leaseServer) away(duration time.Duration) {
	s.back.Store(time.Now().Add(duration).UnixNano())
}

func leases() (*Client, *leaseServer) {
	clientset := &leaseServer{Clientset: fake.NewClientset()}
	var version atomic.Int64
	conflicts := func(action clienttesting.Action) (bool, runtime.Object, error) {
		written := action.(interface{ GetObject() runtime.Object }).GetObject().(*coordinationv1.Lease)
		if action.GetVerb() == "update" {
			if time.Now().UnixNano() < clientset.back.Load() {
				return true, nil, errors.New("no route to host")
			}
			existing, err := clientset.Tracker().Get(action.GetResource(), action.GetNamespace(), written.Name)
			if err != nil {
				return true, nil, err
			}
			if existing.(*coordinationv1.Lease).ResourceVersion != written.ResourceVersion {
				return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "leases"}, written.Name, errors.New("changed"))
			}
		}
		written.ResourceVersion = strconv.FormatInt(version.Add(1), 10)
		return false, nil, nil
	}
	clientset.PrependReactor("create", "leases", conflicts)
	clientset.PrependReactor("update", "leases", conflicts)
	return newClient(clientset, nil, "prod", 10*time.Second), clientset
}

func readLease(t *testing.T, clientset kubernetes.Interface) *coordinationv1.Lease {
	t.Helper()
	lease, err := clientset.CoordinationV1().Leases("prod").Get(context.Background(), "redisctl-redis", metav1.GetOptions{})
	require.NoError(t, err)
	return lease
}

// change edits the Lease behind its holder's back.
func change(t *testing.T, clientset kubernetes.Interface, edit func(*coordinationv1.Lease)) {
	t.Helper()
	lease := readLease(t, clientset)
	edit(lease)
	_, err := clientset.CoordinationV1().Leases("prod").Update(context.Background(), lease, metav1.UpdateOptions{})
	require.NoError(t, err)
}

func TestAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, clientset := leases()
		ctx, release, err := client.Acquire(t.Context(), "prod", "redis", "ann@laptop/7", ttl)
		require.NoError(t, err)
		lease := readLease(t, clientset)
		assert.Equal(t, "ann@laptop/7", *lease.Spec.HolderIdentity)
		assert.EqualValues(t, 30, *lease.Spec.LeaseDurationSeconds)
		acquired := *lease.Spec.AcquireTime

		_, _, err = client.Acquire(t.Context(), "prod", "redis", "bob@laptop/8", ttl)
		var failure *operation.Error
		require.ErrorAs(t, err, &failure)
		assert.Equal(t, operation.Locked, failure.Kind)
		require.ErrorContains(t, err, "lease prod/redisctl-redis: held by ann@laptop/7 since 2000-01-01T00:00:00Z")
		assert.Contains(t, failure.Next, "kubectl delete lease --namespace prod redisctl-redis")

		time.Sleep(10 * time.Minute) // of the bubble's clock
		require.NoError(t, ctx.Err(), "it is renewed")
		lease = readLease(t, clientset)
		assert.Less(t, time.Since(lease.Spec.RenewTime.Time), ttl/2)
		assert.True(t, acquired.Equal(lease.Spec.AcquireTime))

		require.NoError(t, release())
		require.NoError(t, release(), "twice is harmless")
		require.ErrorIs(t, ctx.Err(), context.Canceled)
		assert.Empty(t, *readLease(t, clientset).Spec.HolderIdentity)

		_, release, err = client.Acquire(t.Context(), "prod", "redis", "bob@laptop/8", ttl)
		require.NoError(t, err, "free at once")
		assert.EqualValues(t, 1, *readLease(t, clientset).Spec.LeaseTransitions)
		require.NoError(t, release())
	})
}

func TestAcquireIsGivenBackAfterCtrlC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, clientset := leases()
		parent, cancel := context.WithCancel(t.Context())
		ctx, release, err := client.Acquire(parent, "prod", "redis", "ann@laptop/7", ttl)
		require.NoError(t, err)
		cancel()
		<-ctx.Done()
		time.Sleep(time.Minute)
		assert.Less(t, time.Since(readLease(t, clientset).Spec.RenewTime.Time), ttl/2, "cleaning up is still protected")
		require.NoError(t, release())
		assert.Empty(t, *readLease(t, clientset).Spec.HolderIdentity)
	})
}

func TestLeaseLost(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *leaseServer){
		"taken by somebody else": func(t *testing.T, clientset *leaseServer) {
			change(t, clientset, func(lease *coordinationv1.Lease) { lease.Spec.HolderIdentity = ptr.To("bob@laptop/8") })
		},
		"taken by a namesake": func(t *testing.T, clientset *leaseServer) {
			change(t, clientset, func(lease *coordinationv1.Lease) { lease.Spec.AcquireTime = ptr.To(metav1.NewMicroTime(time.Now())) })
		},
		"deleted": func(t *testing.T, clientset *leaseServer) {
			require.NoError(t, clientset.CoordinationV1().Leases("prod").Delete(t.Context(), "redisctl-redis", metav1.DeleteOptions{}))
		},
		"cannot be renewed": func(_ *testing.T, clientset *leaseServer) { clientset.away(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, clientset := leases()
				ctx, release, err := client.Acquire(t.Context(), "prod", "redis", "ann@laptop/7", ttl)
				require.NoError(t, err)
				time.Sleep(time.Minute + time.Second) // between two renewals
				renewed := readLease(t, clientset).Spec.RenewTime.Time
				lose(t, clientset)
				<-ctx.Done()
				require.ErrorIs(t, context.Cause(ctx), operation.ErrLeaseLost)
				assert.Less(t, time.Since(renewed), ttl, "before anyone else may take it")
				require.NoError(t, release(), "there is nothing to give back")
				if name == "taken by somebody else" {
					assert.Equal(t, "bob@laptop/8", *readLease(t, clientset).Spec.HolderIdentity)
				}
			})
		})
	}
}

func TestLeaseSurvivesDisturbances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, clientset := leases()
		ctx, release, err := client.Acquire(t.Context(), "prod", "redis", "ann@laptop/7", ttl)
		require.NoError(t, err)
		// Somebody annotates it; then the API server is away for 15 seconds.
		change(t, clientset, func(lease *coordinationv1.Lease) { lease.Annotations = map[string]string{"note": "busy"} })
		time.Sleep(time.Minute)
		require.NoError(t, ctx.Err())
		clientset.away(15 * time.Second)
		time.Sleep(time.Minute)
		require.NoError(t, ctx.Err())
		lease := readLease(t, clientset)
		assert.Equal(t, "busy", lease.Annotations["note"])
		assert.Less(t, time.Since(lease.Spec.RenewTime.Time), ttl/2)
		require.NoError(t, release())
	})
}

func TestAcquireTakesOverAnExpiredLease(t *testing.T) {
	// abandoned leaves a Lease behind whose holder was killed `ago`.
	abandoned := func(t *testing.T, clientset *leaseServer, ago time.Duration) {
		t.Helper()
		then := metav1.NewMicroTime(time.Now().Add(-ago))
		_, err := clientset.CoordinationV1().Leases("prod").Create(t.Context(), &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "redisctl-redis"},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: ptr.To("bob@laptop/8"), LeaseDurationSeconds: ptr.To[int32](30), AcquireTime: &then, RenewTime: &then,
			},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	t.Run("long dead", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, clientset := leases()
			abandoned(t, clientset, time.Hour)
			begun := time.Now()
			_, release, err := client.Acquire(t.Context(), "prod", "redis", "ann@laptop/7", ttl)
			require.NoError(t, err)
			assert.Zero(t, time.Since(begun))
			require.NoError(t, release())
		})
	})
	t.Run("just expired", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, clientset := leases()
			abandoned(t, clientset, 31*time.Second)
			begun := time.Now()
			_, release, err := client.Acquire(t.Context(), "prod", "redis", "ann@laptop/7", ttl)
			require.NoError(t, err)
			assert.Equal(t, ttl/3, time.Since(begun), "it is watched for a sign of life")
			assert.Equal(t, "ann@laptop/7", *readLease(t, clientset).Spec.HolderIdentity)
			require.NoError(t, release())
		})
	})
	t.Run("alive, by a clock that is wrong", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, clientset := leases()
			abandoned(t, clientset, 31*time.Second)
			time.AfterFunc(5*time.Second, func() {
				change(t, clientset, func(lease *coordinationv1.Lease) {
					lease.Spec.RenewTime = ptr.To(metav1.NewMicroTime(time.Now().Add(-31 * time.Second)))
				})
			})
			_, _, err := client.Acquire(t.Context(), "prod", "redis", "ann@laptop/7", ttl)
			assert.Equal(t, operation.Locked, operation.KindOf(err))
		})
	})
	t.Run("interrupted while watching", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, clientset := leases()
			abandoned(t, clientset, 31*time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, _, err := client.Acquire(ctx, "prod", "redis", "ann@laptop/7", ttl)
			assert.Equal(t, operation.TimedOut, operation.KindOf(err))
		})
	})
}

// Of many who want a Lease at once, one gets it.
func TestAcquireRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := leases()
		var winners atomic.Int64
		done := make(chan func() error, 8)
		for n := range 8 {
			go func() {
				_, release, err := client.Acquire(t.Context(), "prod", "redis", fmt.Sprint("holder-", n), ttl)
				if err == nil {
					winners.Add(1)
				} else {
					assert.Equal(t, operation.Locked, operation.KindOf(err))
				}
				done <- release
			}()
		}
		var releases []func() error
		for range 8 {
			if release := <-done; release != nil {
				releases = append(releases, release)
			}
		}
		assert.EqualValues(t, 1, winners.Load())
		require.Len(t, releases, 1)
		require.NoError(t, releases[0]())
	})
}

func TestAcquireDenied(t *testing.T) {
	client, clientset := leases()
	forbidden(clientset.Clientset, "create", "leases")
	_, _, err := client.Acquire(t.Context(), "prod", "redis", "ann@laptop/7", ttl)
	assert.Equal(t, operation.Denied, operation.KindOf(err))
	assert.ErrorContains(t, err, "not allowed to create leases in namespace prod")
}

func TestHolder(t *testing.T) {
	assert.Regexp(t, `^[^@/]+@[^@/]+/\d+$`, Holder())
	assert.True(t, strings.HasSuffix(Holder(), fmt.Sprint("/", os.Getpid())))
}

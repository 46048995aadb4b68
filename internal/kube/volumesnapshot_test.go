package kube

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
)

// withSnapshots returns a client of a cluster that serves volume snapshots.
func withSnapshots(typed, custom []runtime.Object) (*Client, *fake.Clientset, *dynamicfake.FakeDynamicClient) {
	clientset := fake.NewClientset(typed...)
	clientset.Resources = []*metav1.APIResourceList{{GroupVersion: snapshotGroup + "/" + snapshotVersion}}
	resources := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		snapshotResource(snapshots):       "VolumeSnapshotList",
		snapshotResource(snapshotClasses): "VolumeSnapshotClassList",
	}, custom...)
	client := newClient(clientset, nil, "prod", time.Second)
	client.dynamic = resources
	return client, clientset, resources
}

func snapshotClass(name, driver string, annotations map[string]string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "driver": driver, "deletionPolicy": "Retain",
	}}
	o.SetName(name)
	o.SetAnnotations(annotations)
	return o
}

func TestSnapshotClasses(t *testing.T) {
	c, clientset, _ := withSnapshots(nil, []runtime.Object{
		snapshotClass("slow", "disk.example", nil),
		snapshotClass("fast", "disk.example", map[string]string{"snapshot.storage.kubernetes.io/is-default-class": "true"}),
	})
	classes, err := c.SnapshotClasses(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []backup.SnapshotClass{
		{Name: "fast", Driver: "disk.example", Default: true, Keeps: true}, {Name: "slow", Driver: "disk.example", Keeps: true},
	}, classes)

	clientset.Resources = nil
	_, err = c.SnapshotClasses(t.Context())
	require.ErrorIs(t, err, backup.ErrNoSnapshots)
	_, err = c.ListSnapshots(t.Context(), "prod", "")
	require.ErrorIs(t, err, backup.ErrNoSnapshots)
}

func TestDataClaim(t *testing.T) {
	d := operationtest.Deployment(1)
	claim := func(annotations map[string]string) *corev1.PersistentVolumeClaim {
		class := "gone"
		return &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "data-cache-redis-0", Annotations: annotations},
			Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: "pv", StorageClassName: &class},
			Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
		}
	}
	volume := func(source corev1.PersistentVolumeSource, annotations map[string]string) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pv", Annotations: annotations}, Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: source},
		}
	}
	byProvisioner := map[string]string{provisionerAnnotation: "disk.example"}
	csi := corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "disk.example"}}
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "gone"}, Provisioner: "class.example"}
	for name, test := range map[string]struct {
		objects      []runtime.Object
		forbidden    string
		driver, kind string
	}{
		"CSI":          {objects: []runtime.Object{claim(nil), volume(csi, nil)}, driver: "disk.example", kind: "csi"},
		"host path":    {objects: []runtime.Object{claim(byProvisioner), volume(corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{}}, nil)}, driver: "disk.example", kind: "hostPath"},
		"migrated":     {objects: []runtime.Object{claim(nil), volume(corev1.PersistentVolumeSource{AWSElasticBlockStore: &corev1.AWSElasticBlockStoreVolumeSource{}}, map[string]string{migratedAnnotation: "ebs.csi.aws.com"})}, driver: "ebs.csi.aws.com", kind: "csi"},
		"may not read": {objects: []runtime.Object{claim(byProvisioner), volume(csi, nil)}, forbidden: "persistentvolumes", driver: "disk.example"},
		"by the class": {objects: []runtime.Object{claim(nil), volume(csi, nil), class}, forbidden: "persistentvolumes", driver: "class.example"},
		"nothing told": {objects: []runtime.Object{claim(nil), volume(csi, nil)}, forbidden: "persistentvolumes"},
	} {
		t.Run(name, func(t *testing.T) {
			c, clientset, _ := withSnapshots(test.objects, nil)
			clientset.PrependReactor("get", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
				if a.GetResource().Resource != test.forbidden {
					return false, nil, nil
				}
				return true, nil, apierrors.NewForbidden(a.GetResource().GroupResource(), "", errors.New("no"))
			})
			got, err := c.DataClaim(t.Context(), d, d.Instances[0])
			require.NoError(t, err)
			assert.Equal(t, backup.DataClaim{
				Name: "data-cache-redis-0", Phase: "Bound", StorageClass: "gone", Driver: test.driver, Type: test.kind,
			}, got)
		})
	}
	c, _, _ := withSnapshots(nil, nil)
	_, err := c.DataClaim(t.Context(), d, d.Instances[0])
	require.ErrorContains(t, err, "persistentvolumeclaim prod/data-cache-redis-0: does not exist")
	d.Workload.Volume = operation.Volume{Kind: operation.VolumeExistingClaim, Claim: "mine"}
	_, err = c.DataClaim(t.Context(), d, d.Instances[0])
	require.ErrorContains(t, err, "prod/mine")
}

func TestMaySnapshot(t *testing.T) {
	c, clientset, _ := withSnapshots(nil, nil)
	denied := []string{}
	clientset.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
		asked := review.Spec.ResourceAttributes
		review.Status.Allowed = asked.Namespace == "prod" && asked.Resource == "volumesnapshots" && !slices.Contains(denied, asked.Verb)
		return true, review, nil
	})
	d := operationtest.Deployment(1)
	require.NoError(t, c.MaySnapshot(t.Context(), d))
	denied = []string{"create", "watch"}
	err := c.MaySnapshot(t.Context(), d)
	require.ErrorContains(t, err, "not allowed to create, watch volumesnapshots in namespace prod")
	assert.Equal(t, operation.Denied, operation.KindOf(err))
}

func TestSnapshotFromCreationToReady(t *testing.T) {
	c, _, resources := withSnapshots(nil, nil)
	holds := &backup.VolumeContents{Instance: "cache-redis-0", Persistence: backup.PersistenceRDB}
	wanted := backup.VolumeSnapshot{Namespace: "prod", Name: "s", Release: "cache", Claim: "data-cache-redis-0", Class: "fast", Holds: holds}
	require.NoError(t, c.CreateSnapshot(t.Context(), wanted))
	err := c.CreateSnapshot(t.Context(), wanted)
	require.ErrorContains(t, err, "volumesnapshot prod/s: ")
	require.ErrorContains(t, err, "already exists")

	objects := resources.Resource(snapshotResource(snapshots)).Namespace("prod")
	update := func(status map[string]any) {
		o, err := objects.Get(context.Background(), "s", metav1.GetOptions{})
		assert.NoError(t, err)
		o.Object["status"] = status
		_, err = objects.Update(context.Background(), o, metav1.UpdateOptions{})
		assert.NoError(t, err)
	}
	seen, broken := 0, false
	got, err := c.AwaitSnapshot(t.Context(), "prod", "s", func(s backup.VolumeSnapshot) (bool, error) {
		seen++
		switch {
		case seen == 1:
			// The watch begins after this.
			time.AfterFunc(50*time.Millisecond, func() { update(map[string]any{"error": map[string]any{"message": "try again"}}) })
		case s.Problem != "" && !broken:
			broken = true
			go update(map[string]any{
				"readyToUse": true, "boundVolumeSnapshotContentName": "content", "restoreSize": "1Gi", "creationTime": "2026-11-23T09:06:00Z",
			})
		}
		return s.Ready, nil
	})
	require.NoError(t, err)
	assert.True(t, broken)
	taken := time.Date(2026, 11, 23, 9, 6, 0, 0, time.UTC)
	wanted.Ready, wanted.Content, wanted.RestoreSize, wanted.Taken, wanted.Created = true, "content", 1<<30, &taken, got.Created
	assert.Equal(t, wanted, got)

	listed, err := c.ListSnapshots(t.Context(), "prod", "cache")
	require.NoError(t, err)
	assert.Equal(t, []backup.VolumeSnapshot{got}, listed)
	listed, err = c.ListSnapshots(t.Context(), "prod", "another")
	require.NoError(t, err)
	assert.Empty(t, listed)

	// Somebody deletes it meanwhile.
	_, err = c.AwaitSnapshot(t.Context(), "prod", "s", func(backup.VolumeSnapshot) (bool, error) {
		time.AfterFunc(50*time.Millisecond, func() { assert.NoError(t, c.DeleteSnapshot(context.Background(), "prod", "s")) })
		return false, nil
	})
	require.ErrorContains(t, err, "does not exist")
	require.NoError(t, c.DeleteSnapshot(t.Context(), "prod", "s"), "it is gone already")
}

// The wait ends with its context, and with an error of the caller's.
func TestAwaitSnapshotEnds(t *testing.T) {
	c, _, _ := withSnapshots(nil, nil)
	require.NoError(t, c.CreateSnapshot(t.Context(), backup.VolumeSnapshot{Namespace: "prod", Name: "s", Holds: &backup.VolumeContents{}}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.AwaitSnapshot(ctx, "prod", "s", func(backup.VolumeSnapshot) (bool, error) { return false, nil })
	assert.Equal(t, operation.TimedOut, operation.KindOf(err))
	enough := errors.New("enough")
	_, err = c.AwaitSnapshot(t.Context(), "prod", "s", func(backup.VolumeSnapshot) (bool, error) { return false, enough })
	require.ErrorIs(t, err, enough)
}

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// volumeResult is what a script reads of `backup volume -o json`.
type volumeResult struct {
	Snapshots []struct {
		Namespace, Name, Release, Claim, Class, Content string
		ReadyToUse                                      bool
		RestoreSizeBytes                                int64
		Taken                                           time.Time
		Holds                                           struct {
			Instance, Role, Version, Persistence, ReplicationID string
			ReplicationOffset                                   int64
			Keys                                                []struct{ DB, Keys int64 }
		}
	}
}

// onCSI are the chart's values for volumes of the local cluster's CSI driver.
var onCSI = map[string]any{"persistence": map[string]any{"storageClass": "csi", "size": "64Mi"}}

// custom returns a client for custom resources of the snapshot API.
func (e *environment) custom(t *testing.T, resource string) dynamic.NamespaceableResourceInterface {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", e.kubeconfig)
	require.NoError(t, err)
	client, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	return client.Resource(schema.GroupVersionResource{Group: "snapshot.storage.k8s.io", Version: "v1", Resource: resource})
}

// claimFrom makes a claim whose volume begins as a snapshot.
func (r *release) claimFrom(t *testing.T, name, snapshot string) {
	t.Helper()
	class, group := "csi", "snapshot.storage.k8s.io"
	_, err := r.env.CoreV1().PersistentVolumeClaims(r.namespace).Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			DataSource: &corev1.TypedLocalObjectReference{APIGroup: &group, Kind: "VolumeSnapshot", Name: snapshot},
			Resources:  corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: *r.size(t)}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// A release that is started on a claim made from the snapshot has the data, whether it
// is in the RDB file or in the append-only file.
func TestBackupVolumeComesBack(t *testing.T) {
	for name, config := range map[string][]string{
		// Nothing is on the volume unless redisctl has it saved.
		"rdb": {`save ""`},
		"aof": {`save ""`, "appendonly yes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			e.onNode(t)
			namespace := e.namespace(t, "volume-"+name)
			r := e.install(t, namespace, chart{
				files: []string{"replica.yaml"}, replicas: 1, config: append(config, quickSync...), values: onCSI,
			})
			client := r.redis(t, 0)
			require.NoError(t, redisserver.Fill(t.Context(), client, 1, 1000))
			s := r.session(t)
			before := r.info(t, 0)
			s.run("backup", "volume", "--dry-run").exits(0).shows("create VolumeSnapshot data-"+r.podName(0), "class csi")
			made := decode[volumeResult](s.run("backup", "volume", "-o", "json").exits(0).quiet())
			require.Len(t, made.Snapshots, 1)
			snapshot := made.Snapshots[0]
			assert.Equal(t, "data-"+r.podName(0), snapshot.Claim)
			assert.True(t, snapshot.ReadyToUse)
			assert.NotEmpty(t, snapshot.Content)
			assert.Equal(t, name, snapshot.Holds.Persistence)
			assert.Equal(t, "primary", snapshot.Holds.Role)
			assert.Equal(t, before["master_replid"], snapshot.Holds.ReplicationID)
			keys, err := client.DBSize(t.Context()).Result()
			require.NoError(t, err)
			require.NotEmpty(t, snapshot.Holds.Keys)
			assert.Equal(t, keys, snapshot.Holds.Keys[0].Keys)
			s.run("backup", "list", "--volumes").exits(0).shows(snapshot.Name, "ready", name)
			r.assertStored(t, snapshot.Name)

			// What comes later is not in it.
			require.NoError(t, client.Set(t.Context(), "later", "1", 0).Err())
			r.claimFrom(t, "restored", snapshot.Name)
			restored := e.install(t, namespace, chart{
				release: "restored", files: []string{"standalone.yaml"}, config: config,
				values: map[string]any{"persistence": map[string]any{"existingClaim": "restored"}},
			})
			later, err := restored.redis(t, 0).Exists(t.Context(), "later").Result()
			require.NoError(t, err)
			assert.Zero(t, later)
			require.NoError(t, client.Del(t.Context(), "later").Err())
			// Replayed commands note anew when consumers of streams were seen.
			require.NoError(t, redisserver.Compare(t.Context(), client, restored.redis(t, 0), "stream:"))

			// Both claims, named by the user; a name can be taken once.
			names := s.run("backup", "volume", "--all-claims", "--name", "before-upgrade", "-o", "name").exits(0).quiet().lines()
			assert.Equal(t, []string{"before-upgrade-" + r.podName(0), "before-upgrade-" + r.podName(1)}, names)
			s.run("backup", "volume", "--name", names[0]).exits(5).says("name-taken", names[0])
			// The release on a claim of the user's.
			made = decode[volumeResult](restored.session(t).run("backup", "volume", "-o", "json").exits(0))
			assert.Equal(t, "restored", made.Snapshots[0].Claim)
		})
	}
}

// assertStored asserts what the API server says of a snapshot.
func (r *release) assertStored(t *testing.T, name string) {
	t.Helper()
	o, err := r.env.custom(t, "volumesnapshots").Namespace(r.namespace).Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	ready, _, err := unstructured.NestedBool(o.Object, "status", "readyToUse")
	require.NoError(t, err)
	assert.True(t, ready)
	assert.Equal(t, r.name, o.GetLabels()["app.kubernetes.io/instance"])
	assert.Contains(t, o.GetAnnotations()["redisctl.dev/contents"], `"keys":`)
}

// What stands in the way is said before anything is done, and what fails leaves nothing.
func TestBackupVolumeRefusals(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	namespace := e.namespace(t, "volume-not")
	r := e.install(t, namespace, chart{files: []string{"standalone.yaml"}, values: onCSI})
	s := r.session(t)
	saves := r.info(t, 0)["rdb_saves"]

	t.Run("another driver", func(t *testing.T) {
		other := e.install(t, namespace, chart{release: "local", files: []string{"standalone.yaml"}})
		other.session(t).run("backup", "volume").exits(5).says("not-csi", "hostPath", "nothing was changed")
		other.session(t).run("backup", "volume", "--dry-run").exits(5).shows("not-csi")
	})
	t.Run("no volume", func(t *testing.T) {
		none := e.install(t, namespace, chart{release: "none", files: []string{"no-persistence.yaml"}})
		none.session(t).run("backup", "volume").exits(5).says("no-volume", "backup rdb")
	})
	t.Run("no such class", func(t *testing.T) {
		s.run("backup", "volume", "--snapshot-class", "gold").exits(5).says("no-such-class", "csi (driver csi.redisctl.github.io)")
		assert.Contains(t, s.complete("backup", "volume", "--snapshot-class", ""), "csi")
	})
	t.Run("names", func(t *testing.T) {
		s.run("backup", "volume", "--name", "Not Valid").exits(2).says("--name")
		s.run("backup", "volume", "--pod", r.podName(7)).exits(2).says(r.podName(0))
		s.run("backup", "volume", "--all-claims", "--pod", r.podName(0)).exits(2)
	})
	assert.Equal(t, saves, r.info(t, 0)["rdb_saves"], "nothing was saved")
	t.Run("permissions", func(t *testing.T) { testVolumePermissions(t, r) })
	t.Run("a failing driver", func(t *testing.T) { testFailingDriver(t, r) })
	t.Run("a server that is down", func(t *testing.T) {
		r.stopServer(t)
		s.run("backup", "volume").exits(5).says("not-asked", "--as-is")
		s.run("backup", "volume", "--as-is", "--name", "as-it-is").exits(0).shows("ready to use", "what was on the disk").says("power failure")
		s.run("backup", "list", "--volumes").exits(0).shows("as-it-is", "as-is")
	})
}

// testVolumePermissions looks at what a user needs. Nothing outside the namespace is
// needed when the class is named.
func testVolumePermissions(t *testing.T, r *release) {
	as := func(role []permission) *session {
		return r.session(t).with("KUBECONFIG", r.env.operator(t, r.namespace, role))
	}
	claims := append([]permission{"get persistentvolumeclaims"}, operatorRole...)
	all := append([]permission{"create,get,list,watch,delete volumesnapshots"}, claims...)
	as(operatorRole).run("backup", "volume", "--snapshot-class", "csi").exits(8).says("create, get, list, watch, delete volumesnapshots", r.namespace)
	as(all).run("backup", "volume").exits(8).says("list volumesnapshotclasses", "--snapshot-class")
	as(claims).run("backup", "volume", "--snapshot-class", "csi").exits(8).says("create, get, list, watch, delete volumesnapshots", r.namespace)
	as(append([]permission{"get,list,watch,delete volumesnapshots"}, claims...)).
		run("backup", "volume", "--snapshot-class", "csi").exits(8).says("not allowed to create volumesnapshots")
	as(all).run("backup", "volume", "--snapshot-class", "csi").exits(0).says("not known")
	as(all).run("backup", "list", "--volumes").exits(0)
}

// testFailingDriver has the storage fail each time. The snapshot is removed: by the end
// of patience, and by Ctrl-C.
func testFailingDriver(t *testing.T, r *release) {
	classes := r.env.custom(t, "volumesnapshotclasses")
	name := r.namespace + "-failing"
	_, err := classes.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "metadata": map[string]any{"name": name},
		"driver": "csi.redisctl.github.io", "deletionPolicy": "Delete", "parameters": map[string]any{"fail": "the pool is full"},
	}}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, classes.Delete(context.Background(), name, metav1.DeleteOptions{}))
	})
	s := r.session(t)
	s.run("backup", "volume", "--snapshot-class", name, "--name", "failing").exits(1).
		says("the pool is full", "the snapshot was removed again")
	r.awaitNoSnapshot(t, "failing")

	c := s.start("backup", "volume", "--snapshot-class", name, "--name", "interrupted")
	c.while("the snapshot is there", func(ctx context.Context) error {
		_, err := r.env.custom(t, "volumesnapshots").Namespace(r.namespace).Get(ctx, "interrupted", metav1.GetOptions{})
		return err
	})
	c.signal(os.Interrupt)
	c.wait().exits(130).says("interrupted", "the snapshot was removed again")
	r.awaitNoSnapshot(t, "interrupted")
	assert.Empty(t, r.lockHolder(t))
}

func (r *release) awaitNoSnapshot(t *testing.T, name string) {
	t.Helper()
	client := r.env.custom(t, "volumesnapshots").Namespace(r.namespace)
	eventually(t, "no snapshot "+name, func(ctx context.Context) error {
		_, err := client.Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err == nil:
			return errors.New("it is there")
		default:
			return err
		}
	})
}

// size returns the capacity of the first pod's volume.
func (r *release) size(t *testing.T) *resource.Quantity {
	t.Helper()
	claim, err := r.env.CoreV1().PersistentVolumeClaims(r.namespace).Get(t.Context(), "data-"+r.podName(0), metav1.GetOptions{})
	require.NoError(t, err)
	return claim.Status.Capacity.Storage()
}

// stopServer makes the pods wait for an image that there is none of.
func (r *release) stopServer(t *testing.T) {
	t.Helper()
	set, err := r.statefulSet(t.Context())
	require.NoError(t, err)
	r.patch(t, fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":%q,"image":"docker.io/library/absent:1"}]}}}}`,
		set.Spec.Template.Spec.Containers[0].Name))
	eventually(t, r.podName(0)+" waits", func(ctx context.Context) error {
		pod, err := r.getPod(ctx, 0)
		if err != nil {
			return err
		}
		for _, container := range pod.Status.ContainerStatuses {
			if container.State.Waiting != nil {
				return nil
			}
		}
		return errors.New("it runs")
	})
}

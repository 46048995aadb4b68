package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation"
)

// chart describes a release as the Helm chart would create it.
type chart struct {
	namespace, release string
	fullName           string // default: <release>-redis, or the release
	name               string // nameOverride
	replicas           int32  // pods
	replication        bool
	password           string // "", "secret", "existing", "literal"
	noData             bool   // persistence.enabled: false
	existingClaim      string
	existingConfig     string
	sidecar            bool
	pods               []corev1.Pod // instead of ready ones
	config             string
}

func (c chart) labels() map[string]string {
	return map[string]string{
		nameLabel:     c.name,
		instanceLabel: c.release,
		managerLabel:  "Helm",
		chartLabel:    "redis-1.4.2",
	}
}

// objects renders the chart: what is in the cluster after `helm install`.
func (c chart) objects() []runtime.Object {
	if c.name == "" {
		c.name = "redis"
	}
	if c.fullName == "" {
		c.fullName = c.release
	}
	if c.config == "" {
		c.config = "save 900 1\nrename-command CONFIG hidden\n"
	}
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: c.namespace, Name: name, Labels: c.labels()}
	}
	selector := map[string]string{nameLabel: c.name, instanceLabel: c.release}
	podLabels := maps.Clone(selector)

	redis := corev1.Container{
		Name:    c.name,
		Image:   "redis:7.0.15",
		Command: []string{"redis-server"},
		Args:    []string{"/usr/local/etc/redis/redis.conf"},
		Ports:   []corev1.ContainerPort{{Name: "redis", ContainerPort: 6379}},
	}
	switch c.password {
	case "secret", "existing":
		reference := corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: c.fullName}, Key: "redis-password"}
		if c.password == "existing" {
			reference.Name, reference.Key = "team-secret", "cache-pw"
		}
		redis.Env = []corev1.EnvVar{
			{Name: "TZ", Value: "UTC"},
			{Name: passwordVariable, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &reference}},
		}
	case "literal":
		redis.Env = []corev1.EnvVar{{Name: passwordVariable, Value: "in-the-open"}}
	}
	template := corev1.PodSpec{}
	configMap := c.fullName
	if c.existingConfig != "" {
		configMap = c.existingConfig
	}
	template.Volumes = append(template.Volumes,
		corev1.Volume{Name: "scripts", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "scripts"},
		}}},
		corev1.Volume{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: configMap},
		}}})
	redis.VolumeMounts = []corev1.VolumeMount{{Name: "scripts", MountPath: "/scripts"}}
	if c.replication || c.password != "" {
		template.InitContainers = []corev1.Container{{
			Name:         "setup-replication",
			VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/config-map"}, {Name: "etc", MountPath: "/etc/redis"}},
		}}
		template.Volumes = append(template.Volumes, corev1.Volume{Name: "etc", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
		redis.Args = []string{"/etc/redis/redis.conf"}
		redis.VolumeMounts = append(redis.VolumeMounts, corev1.VolumeMount{Name: "etc", MountPath: "/etc/redis", ReadOnly: true})
	} else {
		redis.VolumeMounts = append(redis.VolumeMounts, corev1.VolumeMount{Name: "config", MountPath: "/usr/local/etc/redis"})
	}
	if !c.noData {
		redis.VolumeMounts = append(redis.VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: "/data"})
	}
	if c.sidecar {
		template.Containers = append(template.Containers, corev1.Container{
			Name:  "metrics",
			Image: "redis_exporter:1",
			Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 9121}},
			Env:   []corev1.EnvVar{{Name: passwordVariable, Value: "the exporter's copy"}},
		})
	}
	template.Containers = append(template.Containers, redis)

	set := &appsv1.StatefulSet{
		ObjectMeta: meta(c.fullName),
		Spec: appsv1.StatefulSetSpec{
			ServiceName: c.fullName,
			Replicas:    &c.replicas,
			Selector:    &metav1.LabelSelector{MatchLabels: selector},
			Template:    corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: podLabels}, Spec: template},

			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType},
		},
		Status: appsv1.StatefulSetStatus{ReadyReplicas: c.replicas, UpdatedReplicas: c.replicas, UpdateRevision: "redis-5f"},
	}
	set.UID = types.UID(c.namespace + "/" + c.fullName)
	set.ResourceVersion = "41"
	set.Annotations = map[string]string{"redisctl.io/primary": c.fullName + "-0"}
	switch {
	case c.existingClaim != "":
		set.Spec.Template.Spec.Volumes = append(set.Spec.Template.Spec.Volumes, corev1.Volume{
			Name: "data",
			VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c.existingClaim},
			},
		})
	case !c.noData:
		set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}
	}

	objects := []runtime.Object{
		set,
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "scripts"}, Data: map[string]string{"health.sh": "exit 0"}},
		&corev1.ConfigMap{ObjectMeta: meta(configMap), Data: map[string]string{"redis.conf": c.config}},
		&corev1.Secret{ObjectMeta: meta(c.fullName), Data: map[string][]byte{"redis-password": []byte("s3cret")}},
		&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "team-secret"},
			Data:       map[string][]byte{"cache-pw": []byte("t3am"), "other": nil},
		},
	}
	service := func(name string, headless bool, extra map[string]string, pods ...string) {
		selects := maps.Clone(selector)
		maps.Copy(selects, extra)
		address := "10.96.0.10"
		if headless {
			address = corev1.ClusterIPNone
		}
		objects = append(objects,
			&corev1.Service{
				ObjectMeta: meta(name),
				Spec: corev1.ServiceSpec{
					Selector: selects, ClusterIP: address,
					Ports: []corev1.ServicePort{{Port: 6379, TargetPort: intstr.FromString("redis")}},
				},
			},
			endpointSlice(c.namespace, name, pods...))
	}
	first := c.fullName + "-0"
	if c.replication {
		set.Spec.ServiceName = c.fullName + "-headless"
		pinned := map[string]string{podNameLabel: first}
		service(c.fullName, false, pinned, first)
		service(c.fullName+"-master", false, pinned, first)
		service(c.fullName+"-headless", true, nil, first, c.fullName+"-1")
	} else {
		service(c.fullName, false, nil, first)
	}
	if c.pods == nil {
		for n := range int(c.replicas) {
			c.pods = append(c.pods, *readyPod(n))
		}
	}
	for _, pod := range c.pods {
		pod.Namespace = c.namespace
		pod.Name = fmt.Sprintf("%s-%s", c.fullName, pod.Name)
		pod.Labels = maps.Clone(podLabels)
		pod.Labels[appsv1.StatefulSetRevisionLabel] = "redis-4c"
		if pod.OwnerReferences == nil {
			pod.OwnerReferences = []metav1.OwnerReference{{Kind: "StatefulSet", Name: set.Name, UID: set.UID, Controller: ptr.To(true)}}
		}
		pod.Spec.Containers = template.Containers
		for i := range pod.Status.ContainerStatuses {
			if pod.Status.ContainerStatuses[i].Name == "redis" {
				pod.Status.ContainerStatuses[i].Name = c.name
			}
		}
		objects = append(objects, &pod)
	}
	return objects
}

func endpointSlice(namespace, service string, pods ...string) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: service + "-abcde", Labels: map[string]string{discoveryv1.LabelServiceName: service},
	}}
	for _, pod := range pods {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{"10.0.0.1"},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: pod},
		})
	}
	slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
		Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false)},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: "not-ready-0"},
	})
	return slice
}

var created = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

// readyPod returns a healthy pod; its name is the ordinal.
func readyPod(ordinal int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: strconv.Itoa(ordinal), UID: types.UID(fmt.Sprint("uid-", ordinal)), CreationTimestamp: metav1.NewTime(created),
		},
		Spec: corev1.PodSpec{NodeName: "node-1"},
		Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			PodIP:      fmt.Sprint("10.0.0.", ordinal+1),
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{
				{Name: "metrics", RestartCount: 7},
				{Name: "redis", RestartCount: 1, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
			},
		},
	}
}

func fakeClient(objects ...[]runtime.Object) (*Client, *fake.Clientset) {
	clientset := fake.NewClientset()
	for _, some := range objects {
		for _, object := range some {
			// Releases of one namespace share objects that no chart made.
			if err := clientset.Tracker().Add(object); err != nil && !apierrors.IsAlreadyExists(err) {
				panic(err)
			}
		}
	}
	return newClient(clientset, nil, "prod", time.Minute), clientset
}

// forbidden makes the API server forbid a request.
func forbidden(clientset *fake.Clientset, verb, resource string) {
	clientset.PrependReactor(verb, resource, func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", errors.New("no"))
	})
}

func TestResolveStandalone(t *testing.T) {
	client, _ := fakeClient(chart{namespace: "prod", release: "redis", replicas: 1}.objects())
	d, err := client.Resolve(t.Context(), operation.Target{})
	require.NoError(t, err)

	config := d.Config
	d.Config = operation.Deployment{}.Config
	assert.Equal(t, &operation.Deployment{
		Namespace: "prod",
		Release:   "redis",
		Name:      "redis",
		Chart:     "redis-1.4.2",
		Workload: &operation.Workload{
			Kind: "StatefulSet", Name: "redis", UID: "prod/redis", ResourceVersion: "41", ServiceName: "redis",
			Desired: 1, Ready: 1, Updated: 1, UpdateStrategy: "OnDelete", UpdateRevision: "redis-5f", Container: "redis", Image: "redis:7.0.15",
			Volume:      operation.Volume{Kind: operation.VolumeClaimTemplate, Claim: "data", MountPath: "/data"},
			Annotations: map[string]string{"redisctl.io/primary": "redis-0"},
		},
		Services: []operation.Service{{Name: "redis", Port: 6379, Endpoints: []string{"redis-0"}, EndpointsKnown: true}},
		Instances: []operation.Instance{{
			Name: "redis-0", Ordinal: 0, Host: "10.0.0.1", Port: 6379,
			Pod: &operation.Pod{
				UID: "uid-0", Node: "node-1", Phase: "Running", Ready: true, ContainerRunning: true,
				Image: "redis:7.0.15", Revision: "redis-4c", Restarts: 1, Created: created,
			},
		}},
		Credentials: operation.CredentialSource{Kind: "none"},
	}, d)
	renamed, _ := config.Renames().Lookup("CONFIG")
	assert.Equal(t, "hidden", renamed)
}

func TestResolveReplication(t *testing.T) {
	client, _ := fakeClient(chart{
		namespace: "prod", release: "cache", fullName: "cache-redis", replicas: 3, replication: true, password: "secret", sidecar: true,
		existingConfig: "team-config", config: "appendonly yes\n",
	}.objects())
	d, err := client.Resolve(t.Context(), operation.Target{Release: "cache"})
	require.NoError(t, err)
	assert.Equal(t, []operation.Service{
		{Name: "cache-redis", Port: 6379, PodSelector: "cache-redis-0", Endpoints: []string{"cache-redis-0"}, EndpointsKnown: true},
		{Name: "cache-redis-headless", Headless: true, Port: 6379, Endpoints: []string{"cache-redis-0", "cache-redis-1"}, EndpointsKnown: true},
		{Name: "cache-redis-master", Port: 6379, PodSelector: "cache-redis-0", Endpoints: []string{"cache-redis-0"}, EndpointsKnown: true},
	}, d.Services)
	assert.Equal(t, "redis", d.Workload.Container, "not the sidecar")
	assert.Equal(t, "cache-redis-headless", d.Workload.ServiceName)
	assert.Equal(t, operation.CredentialSource{Kind: "secret", Secret: "cache-redis", Key: "redis-password"}, d.Credentials)
	value, ok := d.Config.Get("appendonly")
	assert.True(t, ok, "the ConfigMap that an init container copies")
	assert.Equal(t, "yes", value)
	names := make([]string, 0, len(d.Instances))
	for _, instance := range d.Instances {
		names = append(names, instance.Name)
		assert.Equal(t, 1, instance.Pod.Restarts, "of Redis, not of the sidecar")
	}
	assert.Equal(t, []string{"cache-redis-0", "cache-redis-1", "cache-redis-2"}, names)
}

func TestResolveNameOverride(t *testing.T) {
	client, _ := fakeClient(chart{namespace: "prod", release: "shop", fullName: "sessions", name: "kv", replicas: 1, sidecar: true}.objects())
	d, err := client.Resolve(t.Context(), operation.Target{})
	require.NoError(t, err)
	assert.Equal(t, "sessions", d.Name)
	assert.Equal(t, "shop", d.Release)
	assert.Equal(t, "kv", d.Workload.Container)
	assert.True(t, d.Instances[0].Pod.ContainerRunning)
}

func TestRedisContainer(t *testing.T) {
	with := func(name string, ports ...corev1.ContainerPort) corev1.Container {
		return corev1.Container{Name: name, Ports: ports}
	}
	metrics := with("metrics", corev1.ContainerPort{Name: "metrics", ContainerPort: 9121})
	named := corev1.ContainerPort{Name: "redis", ContainerPort: 7000}
	plain := corev1.ContainerPort{ContainerPort: 6379}
	for name, test := range map[string]struct {
		label      string
		containers []corev1.Container
		want       string
		port       int
	}{
		"behind a sidecar":            {"redis", []corev1.Container{metrics, with("redis", plain)}, "redis", 6379},
		"called neither":              {"kv", []corev1.Container{metrics, with("server", named)}, "server", 7000},
		"called after the chart":      {"kv", []corev1.Container{with("proxy", plain), with("redis", plain), with("kv", named)}, "kv", 7000},
		"beside a proxy":              {"kv", []corev1.Container{with("proxy", plain), with("redis", plain)}, "redis", 6379},
		"sidecar called like a redis": {"redis", []corev1.Container{with("redis"), with("server", plain)}, "server", 6379},
		"without a port": {"kv", []corev1.Container{metrics, {
			Name: "kv", Command: []string{"/usr/local/bin/redis-server"},
		}}, "kv", 6379},
		"Valkey without a port": {"kv", []corev1.Container{{Name: "a"}, {Name: "b", Command: []string{"valkey-server"}}}, "b", 6379},
	} {
		t.Run(name, func(t *testing.T) {
			set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{nameLabel: test.label}}}
			set.Spec.Template.Spec.Containers = test.containers
			container := redisContainer(set)
			require.NotNil(t, container)
			assert.Equal(t, test.want, container.Name)
			assert.Equal(t, test.port, redisPort(container))
		})
	}
	assert.Nil(t, redisContainer(otherStatefulSet("prod", "postgres")))
}

func TestResolveVolume(t *testing.T) {
	for name, test := range map[string]struct {
		chart chart
		want  operation.Volume
	}{
		"existing claim": {
			chart{existingClaim: "old-data"},
			operation.Volume{Kind: operation.VolumeExistingClaim, Claim: "old-data", MountPath: "/data"},
		},
		"none": {chart{noData: true}, operation.Volume{Kind: operation.VolumeNone, MountPath: "/data"}},
	} {
		t.Run(name, func(t *testing.T) {
			test.chart.namespace, test.chart.release, test.chart.replicas = "prod", "redis", 1
			client, _ := fakeClient(test.chart.objects())
			d, err := client.Resolve(t.Context(), operation.Target{})
			require.NoError(t, err)
			assert.Equal(t, test.want, d.Workload.Volume)
		})
	}
}

func TestResolveChoosesByTarget(t *testing.T) {
	client, _ := fakeClient(
		chart{namespace: "prod", release: "redis", replicas: 2}.objects(),
		chart{namespace: "prod", release: "cache", fullName: "cache-redis", replicas: 1}.objects(),
		chart{namespace: "stage", release: "redis", replicas: 1}.objects(),
		[]runtime.Object{otherStatefulSet("prod", "postgres")},
	)
	for name, test := range map[string]struct {
		target operation.Target
		want   string
	}{
		"release":                        {operation.Target{Release: "cache"}, "prod/cache-redis"},
		"pod stands in for the release":  {operation.Target{Pod: "redis-1"}, "prod/redis"},
		"pod of the release":             {operation.Target{Pod: "cache-redis-0", Release: "cache"}, "prod/cache-redis"},
		"namespace":                      {operation.Target{Namespace: "stage"}, "stage/redis"},
		"all namespaces, unique release": {operation.Target{AllNamespaces: true, Release: "cache"}, "prod/cache-redis"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := client.Resolve(t.Context(), test.target)
			require.NoError(t, err)
			assert.Equal(t, test.want, d.Namespace+"/"+d.Name)
		})
	}
}

// otherStatefulSet returns a Helm release that is not a Redis.
func otherStatefulSet(namespace, name string) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{
			nameLabel: name, instanceLabel: name, managerLabel: "Helm",
		}},
		Spec: appsv1.StatefulSetSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: name, Ports: []corev1.ContainerPort{{ContainerPort: 5432}}},
		}}}},
	}
}

func TestResolveErrors(t *testing.T) {
	twins := chart{namespace: "twins", release: "app", fullName: "app-cache", replicas: 1}.objects()
	twins = append(twins, chart{namespace: "twins", release: "app", fullName: "app-queue", replicas: 1}.objects()[0])
	client, _ := fakeClient(
		chart{namespace: "prod", release: "redis", replicas: 1}.objects(),
		chart{namespace: "prod", release: "cache", fullName: "cache-redis", replicas: 0}.objects(),
		chart{namespace: "stage", release: "redis", replicas: 1}.objects(),
		twins,
		[]runtime.Object{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "empty"}}},
	)
	const lookedFor = " (looked for StatefulSets of Helm releases, label app.kubernetes.io/instance, " +
		"with a container port named redis or 6379)"
	for name, test := range map[string]struct {
		target    operation.Target
		err, next string
	}{
		"several releases": {
			operation.Target{},
			`2 deployments match Redis release in namespace prod: --release cache, --release redis`,
			"say which one: --release cache",
		},
		"the same release in several namespaces": {
			operation.Target{AllNamespaces: true, Release: "redis"},
			`2 deployments match Redis release "redis" in any namespace: --namespace prod, --namespace stage`,
			"say which one: --namespace prod",
		},
		"several workloads in one release": {
			operation.Target{Namespace: "twins"},
			`2 deployments match Redis release in namespace twins: --pod app-cache-0, --pod app-queue-0`,
			"say which one: --pod app-cache-0",
		},
		"no such release": {
			operation.Target{Release: "caché"},
			`there is no Redis release "caché" in namespace prod; there are: cache, redis`,
			"pass --release with one of these",
		},
		"no such pod": {
			operation.Target{Pod: "redis-01"},
			`there is no Redis release with a pod "redis-01" in namespace prod; there are: cache, redis`,
			"pass --release with one of these, or --pod with one of its pods",
		},
		"pod past the last": {
			operation.Target{Pod: "redis-1"},
			"release redis in namespace prod has no pod redis-1; it has: redis-0",
			"pass --pod with one of these",
		},
		"pod of a release scaled to zero": {
			operation.Target{Pod: "cache-redis-0"},
			"release cache in namespace prod is scaled to zero and has no pod cache-redis-0",
			"",
		},
		"empty namespace": {
			operation.Target{Namespace: "empty"},
			"there is no Redis release in namespace empty" + lookedFor + "; Redis releases are in: prod, stage, twins",
			"pass --namespace with one of these",
		},
		"release elsewhere": {
			operation.Target{Namespace: "empty", Release: "cache"},
			`there is no Redis release "cache" in namespace empty` + lookedFor + "; release cache is in: prod",
			"pass --namespace with one of these",
		},
		"no such namespace": {
			operation.Target{Namespace: "pord"},
			`namespace "pord" does not exist; Redis releases are in: prod, stage, twins`,
			"pass --namespace with one of these",
		},
		"nowhere": {
			operation.Target{AllNamespaces: true, Release: "nope"},
			`there is no Redis release "nope" in any namespace; there are: app, cache, redis`,
			"pass --release with one of these",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client.Resolve(t.Context(), test.target)
			var failure *operation.Error
			require.ErrorAs(t, err, &failure)
			assert.Equal(t, operation.Usage, failure.Kind)
			assert.EqualError(t, err, test.err)
			assert.Equal(t, test.next, failure.Next)
		})
	}
}

func TestResolveWithoutPermissionToLookElsewhere(t *testing.T) {
	client, clientset := fakeClient(chart{namespace: "stage", release: "redis", replicas: 1}.objects())
	clientset.PrependReactor("list", "statefulsets", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.GetNamespace() != metav1.NamespaceAll {
			return false, nil, nil
		}
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "statefulsets"}, "", errors.New("no"))
	})
	forbidden(clientset, "get", "namespaces")
	_, err := client.Resolve(t.Context(), operation.Target{})
	assert.Equal(t, operation.Usage, operation.KindOf(err))
	assert.NotContains(t, err.Error(), "stage")
	assert.ErrorContains(t, err, "there is no Redis release in namespace prod")
}

func TestResolveDenied(t *testing.T) {
	for _, resource := range []string{"statefulsets", "pods"} {
		client, clientset := fakeClient(chart{namespace: "prod", release: "redis", replicas: 1}.objects())
		forbidden(clientset, "list", resource)
		_, err := client.Resolve(t.Context(), operation.Target{})
		var failure *operation.Error
		require.ErrorAs(t, err, &failure)
		assert.Equal(t, operation.Denied, failure.Kind)
		assert.ErrorContains(t, err, "not allowed to list "+resource+" in namespace prod")
		assert.Contains(t, failure.Next, "kubectl auth can-i list "+resource+" --namespace prod")
	}
}

func TestResolveGaps(t *testing.T) {
	for name, test := range map[string]struct {
		verb, resource, part string
		services             int
	}{
		"services":       {"list", "services", partServices, 0},
		"endpointslices": {"list", "endpointslices", partEndpoints, 1},
		"configmap":      {"get", "configmaps", partConfig, 1},
	} {
		t.Run(name, func(t *testing.T) {
			client, clientset := fakeClient(chart{namespace: "prod", release: "redis", replicas: 1}.objects())
			forbidden(clientset, test.verb, test.resource)
			d, err := client.Resolve(t.Context(), operation.Target{})
			require.NoError(t, err)
			require.Len(t, d.Gaps, 1)
			assert.Equal(t, test.part, d.Gaps[0].Part)
			assert.Contains(t, d.Gaps[0].Reason, "not allowed to "+test.verb+" "+test.resource+" in namespace prod")
			assert.Len(t, d.Services, test.services)
			for _, service := range d.Services {
				assert.Equal(t, test.part != partEndpoints, service.EndpointsKnown)
			}
			assert.Len(t, d.Instances, 1)
		})
	}
}

func TestResolveBrokenConfig(t *testing.T) {
	client, _ := fakeClient(chart{namespace: "prod", release: "redis", replicas: 1, config: "requirepass \"unfinished\nsave 1 1"}.objects())
	d, err := client.Resolve(t.Context(), operation.Target{})
	require.NoError(t, err)
	require.Len(t, d.Gaps, 1)
	assert.Equal(t, partConfig, d.Gaps[0].Part)
	assert.Contains(t, d.Gaps[0].Reason, "ConfigMap redis, key redis.conf")
	assert.NotContains(t, d.Gaps[0].Reason, "unfinished", "it may be the password")
}

func TestResolveInstances(t *testing.T) {
	// Pod 1 of 3 is missing, pod 3 is left over from before a scale-down, and
	// something else owns a pod that looks like a fourth.
	foreign := *readyPod(4)
	foreign.OwnerReferences = []metav1.OwnerReference{{Kind: "Job", Name: "x", UID: "x", Controller: ptr.To(true)}}
	leftover := *readyPod(3)
	leftover.DeletionTimestamp = ptr.To(metav1.NewTime(created))
	leftover.Finalizers = []string{"keep"}
	orphan := *readyPod(2)
	orphan.OwnerReferences = []metav1.OwnerReference{}
	client, _ := fakeClient(chart{
		namespace: "prod", release: "redis", replicas: 3, pods: []corev1.Pod{*readyPod(0), orphan, leftover, foreign},
	}.objects())
	d, err := client.Resolve(t.Context(), operation.Target{})
	require.NoError(t, err)
	require.Len(t, d.Instances, 4)
	missing := d.Instances[1]
	assert.Equal(t, operation.Instance{
		Name: "redis-1", Ordinal: 1, Port: 6379,
		Pod: &operation.Pod{Phase: "Missing", Reason: "Missing", Message: "StatefulSet redis has not created this pod"},
	}, missing)
	assert.Equal(t, "redis-2", d.Instances[2].Name)
	assert.True(t, d.Instances[3].Pod.Deleting)
	assert.Equal(t, "Terminating", d.Instances[3].Pod.Reason)
}

func TestPodState(t *testing.T) {
	terminated := func(reason string, code int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code}}
	}
	waiting := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
	redisIs := func(state, last corev1.ContainerState) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Status.ContainerStatuses[1].State = state
			pod.Status.ContainerStatuses[1].LastTerminationState = last
			pod.Status.Conditions[0].Status = corev1.ConditionFalse
		}
	}
	for name, test := range map[string]struct {
		change                  func(*corev1.Pod)
		reason, message, exit   string
		containerRunning, ready bool
	}{
		"healthy": {change: func(*corev1.Pod) {}, containerRunning: true, ready: true},
		"restarted after OOM": {
			change: func(pod *corev1.Pod) {
				pod.Status.ContainerStatuses[1].LastTerminationState = terminated("OOMKilled", 137)
			},
			exit: "OOMKilled, exit code 137", containerRunning: true, ready: true,
		},
		"crash loop": {
			change: redisIs(waiting("CrashLoopBackOff", "back-off 5m0s restarting failed container"), terminated("Error", 1)),
			reason: "CrashLoopBackOff", message: "last exit: Error, exit code 1", exit: "Error, exit code 1",
		},
		"image": {
			change:  redisIs(waiting("ImagePullBackOff", "Back-off pulling image \"redis:9\"\nmore"), corev1.ContainerState{}),
			reason:  "ImagePullBackOff",
			message: `Back-off pulling image "redis:9"`,
		},
		"killed": {
			change: redisIs(terminated("OOMKilled", 137), corev1.ContainerState{}),
			reason: "OOMKilled", message: "exit code 137",
		},
		"not ready": {
			change: func(pod *corev1.Pod) {
				pod.Status.Conditions[0].Status = corev1.ConditionFalse
				pod.Status.Conditions[0].Message = "containers with unready status: [redis]"
			},
			reason: "NotReady", message: "containers with unready status: [redis]", containerRunning: true,
		},
		"unschedulable": {
			change: func(pod *corev1.Pod) {
				pod.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{
					Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
					Message: "0/3 nodes are available: 3 Insufficient memory.",
				}}}
			},
			reason: "Unschedulable", message: "0/3 nodes are available: 3 Insufficient memory.",
		},
		"evicted": {
			change: func(pod *corev1.Pod) {
				pod.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: memory."}
			},
			reason: "Evicted", message: "The node was low on resource: memory.",
		},
		"init container fails": {
			change: func(pod *corev1.Pod) {
				pod.Status.Phase = corev1.PodPending
				pod.Status.ContainerStatuses[1].State = waiting("PodInitializing", "")
				pod.Status.Conditions[0].Status = corev1.ConditionFalse
				pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{
					Name: "config-init", State: terminated("Error", 2),
				}}
			},
			reason: "Init:Error", message: "init container config-init: exit code 2",
		},
		"initializing": {
			change: func(pod *corev1.Pod) {
				pod.Status.Phase = corev1.PodPending
				pod.Status.ContainerStatuses[1].State = waiting("PodInitializing", "")
				pod.Status.Conditions[0].Status = corev1.ConditionFalse
				pod.Status.InitContainerStatuses = []corev1.ContainerStatus{
					{Name: "done", State: terminated("Completed", 0)},
					{Name: "busy", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
				}
			},
			reason: "PodInitializing",
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := readyPod(0)
			test.change(pod)
			state := podState(pod, "redis")
			assert.Equal(t, test.reason, state.Reason)
			assert.Equal(t, test.message, state.Message)
			assert.Equal(t, test.exit, state.LastExit)
			assert.Equal(t, test.containerRunning, state.ContainerRunning)
			assert.Equal(t, test.ready, state.Ready)
		})
	}
}

func TestList(t *testing.T) {
	client, _ := fakeClient(
		chart{namespace: "stage", release: "redis", replicas: 1}.objects(),
		chart{namespace: "prod", release: "redis", replicas: 1}.objects(),
		chart{namespace: "prod", release: "cache", fullName: "cache-redis", replicas: 1}.objects(),
	)
	names := func(target operation.Target) []string {
		deployments, err := client.List(t.Context(), target)
		require.NoError(t, err)
		names := make([]string, 0, len(deployments))
		for _, d := range deployments {
			names = append(names, d.Namespace+"/"+d.Release)
			assert.Len(t, d.Instances, 1)
		}
		return names
	}
	assert.Equal(t, []string{"prod/cache", "prod/redis", "stage/redis"}, names(operation.Target{AllNamespaces: true}))
	assert.Equal(t, []string{"prod/cache", "prod/redis"}, names(operation.Target{}))
	assert.Equal(t, []string{"prod/redis", "stage/redis"}, names(operation.Target{AllNamespaces: true, Release: "redis"}))
	assert.Empty(t, names(operation.Target{Namespace: "empty"}))
}

func TestPassword(t *testing.T) {
	for kind, want := range map[string]string{"": "", "secret": "s3cret", "existing": "t3am", "literal": "in-the-open"} {
		t.Run("kind "+kind, func(t *testing.T) {
			client, _ := fakeClient(chart{namespace: "prod", release: "redis", replicas: 1, password: kind, sidecar: true}.objects())
			d, err := client.Resolve(t.Context(), operation.Target{})
			require.NoError(t, err)
			password, err := client.Password(t.Context(), d)
			require.NoError(t, err)
			assert.Equal(t, want, password)
			assert.NotContains(t, fmt.Sprintf("%+v", *d), "in-the-open", "a deployment never holds the password")
		})
	}
}

func TestPasswordErrors(t *testing.T) {
	client, clientset := fakeClient(chart{namespace: "prod", release: "redis", replicas: 1, password: "existing"}.objects())
	d, err := client.Resolve(t.Context(), operation.Target{})
	require.NoError(t, err)

	d.Credentials.Key = "password"
	_, err = client.Password(t.Context(), d)
	require.EqualError(t, err, `secret prod/team-secret: reading the password: there is no key "password"; there are: cache-pw, other`)

	d.Credentials.Secret = "gone"
	_, err = client.Password(t.Context(), d)
	assert.Equal(t, operation.Failed, operation.KindOf(err))
	require.ErrorContains(t, err, "secret prod/gone: does not exist")

	forbidden(clientset, "get", "secrets")
	_, err = client.Password(t.Context(), d)
	assert.Equal(t, operation.Denied, operation.KindOf(err))
	require.ErrorContains(t, err, "not allowed to get secrets in namespace prod")
}

func TestResolveInterrupted(t *testing.T) {
	client, clientset := fakeClient()
	clientset.PrependReactor("list", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, context.Canceled
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(operation.ErrLeaseLost)
	_, err := client.Resolve(ctx, operation.Target{})
	require.ErrorIs(t, err, operation.ErrLeaseLost)
	assert.Equal(t, operation.Interrupted, operation.KindOf(err))
}

func TestCompletion(t *testing.T) {
	client, _ := fakeClient(
		chart{namespace: "prod", release: "redis", replicas: 2}.objects(),
		chart{namespace: "prod", release: "cache", fullName: "cache-redis", replicas: 1}.objects(),
		[]runtime.Object{
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "stage"}},
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "prod"}},
		},
	)
	namespaces, err := client.CompleteNamespaces(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"prod", "stage"}, namespaces)
	releases, err := client.CompleteReleases(t.Context(), operation.Target{})
	require.NoError(t, err)
	assert.Equal(t, []string{"cache", "redis"}, releases)
	pods, err := client.CompletePods(t.Context(), operation.Target{Release: "redis"})
	require.NoError(t, err)
	assert.Equal(t, []string{"redis-0", "redis-1"}, pods)
}

package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/guard"
)

var _ guard.Cluster = (*Client)(nil)

// piece is one object of a guard.
type piece struct {
	kind, group, resource, name string

	config any
	get    func(ctx context.Context) (metav1.Object, error)
	apply  func(ctx context.Context, o metav1.ApplyOptions) (metav1.Object, error)
	remove func(ctx context.Context, o metav1.DeleteOptions) error
}

// objectClient is what client-go has for each kind of object that can be applied.
type objectClient[T metav1.Object, C any] interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (T, error)
	Apply(ctx context.Context, config C, o metav1.ApplyOptions) (T, error)
	Delete(ctx context.Context, name string, o metav1.DeleteOptions) error
}

func newPiece[T metav1.Object, C any](kind, group, resource, name string, client objectClient[T, C], config C) piece {
	return piece{
		kind: kind, group: group, resource: resource, name: name, config: config,
		get: func(ctx context.Context) (metav1.Object, error) { return client.Get(ctx, name, metav1.GetOptions{}) },
		apply: func(ctx context.Context, o metav1.ApplyOptions) (metav1.Object, error) {
			return client.Apply(ctx, config, o)
		},
		remove: func(ctx context.Context, o metav1.DeleteOptions) error { return client.Delete(ctx, name, o) },
	}
}

// pieces are a guard's objects in the order in which they are made.
func (c *Client) pieces(d *operation.Deployment, configs guardConfigs) []piece {
	name, ns := guardName(d), d.Namespace
	const rbac = "rbac.authorization.k8s.io"
	return []piece{
		newPiece("ServiceAccount", "", "serviceaccounts", name, c.clientset.CoreV1().ServiceAccounts(ns), configs.account),
		newPiece("Role", rbac, "roles", name, c.clientset.RbacV1().Roles(ns), configs.role),
		newPiece("RoleBinding", rbac, "rolebindings", name, c.clientset.RbacV1().RoleBindings(ns), configs.binding),
		newPiece("Deployment", "apps", "deployments", name, c.clientset.AppsV1().Deployments(ns), configs.deployment),
	}
}

func (p piece) request(verb, namespace string) request {
	return request{verb: verb, resource: p.resource, namespace: namespace, name: p.name}
}

// configs returns the guard's objects for d. It reads which ConfigMaps its pods mount.
func (c *Client) configs(parent context.Context, d *operation.Deployment, s guard.Spec) (guardConfigs, error) {
	set, err := c.statefulSet(parent, d)
	if err != nil {
		return guardConfigs{}, err
	}
	f := found{StatefulSet: *set, container: redisContainer(set)}
	if f.container == nil {
		return guardConfigs{}, operation.Errorf(operation.Failed, "statefulset %s/%s no longer runs Redis", d.Namespace, set.Name)
	}
	var configMaps []string
	for _, source := range configSources(f, "redis.conf") {
		if !slices.Contains(configMaps, source.configMap) {
			configMaps = append(configMaps, source.configMap)
		}
	}
	return newGuardConfigs(d, configMaps, s), nil
}

// GuardChanges implements guard.Cluster with dry runs of the API server: they also
// tell whether the user may give the guard its permissions, and whether the namespace
// admits its pods' template. The RoleBinding is tried only when its Role exists.
func (c *Client) GuardChanges(ctx context.Context, d *operation.Deployment, s guard.Spec) ([]guard.Object, error) {
	configs, err := c.configs(ctx, d, s)
	if err != nil {
		return nil, err
	}
	var objects []guard.Object
	fresh := false
	for _, p := range c.pieces(d, configs) {
		object := guard.Object{Kind: p.kind, Name: p.name, Action: guard.ActionCreate}
		existing, err := c.existing(ctx, d, p)
		if err != nil {
			return nil, err
		}
		fresh = fresh || p.kind == "Role" && existing == nil
		if fresh && p.kind == "RoleBinding" {
			objects = append(objects, object)
			continue
		}
		wanted, err := c.apply(ctx, d, p, metav1.DryRunAll)
		if err != nil {
			return nil, err
		}
		if existing != nil {
			object.Action = guard.ActionUpdate
			existing.SetManagedFields(nil)
			wanted.SetManagedFields(nil)
			if equality.Semantic.DeepEqual(existing, wanted) {
				object.Action = guard.ActionKeep
			}
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// existing returns an object of the guard, nil when there is none. One of that name
// which is not redisctl's is an error.
func (c *Client) existing(parent context.Context, d *operation.Deployment, p piece) (metav1.Object, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	object, err := p.get(ctx)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, c.failure(parent, p.request("get", d.Namespace), err)
	case object.GetLabels()[nameLabel] != guardApp:
		return nil, &operation.Error{
			Kind: operation.Refused, Object: p.request("get", d.Namespace).object(),
			Err:       fmt.Errorf("it was not made by redisctl: it has no label %s=%s", nameLabel, guardApp),
			Unchanged: "nothing was changed", Next: "rename or delete it",
		}
	default:
		return object, nil
	}
}

func (c *Client) apply(parent context.Context, d *operation.Deployment, p piece, dryRun ...string) (metav1.Object, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	// Force: whoever has changed one of these fields since then has changed what
	// redisctl is asked to make of it.
	object, err := p.apply(ctx, metav1.ApplyOptions{FieldManager: fieldManager, Force: true, DryRun: dryRun})
	if err != nil {
		return nil, c.failure(parent, p.request("patch", d.Namespace), err)
	}
	return object, nil
}

// ApplyGuard implements guard.Cluster with server-side apply.
func (c *Client) ApplyGuard(ctx context.Context, d *operation.Deployment, s guard.Spec) error {
	configs, err := c.configs(ctx, d, s)
	if err != nil {
		return err
	}
	for _, p := range c.pieces(d, configs) {
		if _, err := c.apply(ctx, d, p); err != nil {
			return err
		}
	}
	return nil
}

// GuardManifests returns what ApplyGuard applies, as YAML for others to apply.
func (c *Client) GuardManifests(ctx context.Context, d *operation.Deployment, s guard.Spec) ([]byte, error) {
	configs, err := c.configs(ctx, d, s)
	if err != nil {
		return nil, err
	}
	var text []byte
	for _, p := range c.pieces(d, configs) {
		one, err := yaml.Marshal(p.config)
		if err != nil {
			return nil, fmt.Errorf("encoding %s %s: %w", p.kind, p.name, err)
		}
		text = append(append(text, "---\n"...), one...)
	}
	return text, nil
}

// GuardState implements guard.Cluster.
func (c *Client) GuardState(ctx context.Context, d *operation.Deployment) (guard.State, error) {
	var s guard.State
	for _, p := range c.pieces(d, guardConfigs{}) {
		object, err := c.existing(ctx, d, p)
		if err != nil {
			return s, err
		}
		if object == nil {
			continue
		}
		s.Objects = append(s.Objects, guard.Object{Kind: p.kind, Name: p.name})
		if deployment, ok := object.(*appsv1.Deployment); ok {
			describeGuard(&s, deployment)
		}
	}
	if err := c.guardLeader(ctx, d, &s); err != nil {
		return s, err
	}
	err := c.guardPods(ctx, d, &s)
	return s, err
}

// describeGuard reads what the Deployment says of the guard. The arguments are the
// truth: they may have been changed without redisctl.
func describeGuard(s *guard.State, deployment *appsv1.Deployment) {
	spec, status := deployment.Spec, deployment.Status
	s.Deployed = true
	s.Replicas = int(ptr.Deref(spec.Replicas, 1))
	s.Available = int(status.AvailableReplicas)
	s.Complete = status.ObservedGeneration >= deployment.Generation &&
		int(status.UpdatedReplicas) == s.Replicas && int(status.Replicas) == s.Replicas
	for _, container := range spec.Template.Spec.Containers {
		if container.Name != guardContainer {
			continue
		}
		s.Image = container.Image
		for _, argument := range container.Args {
			if argument == "--promote" {
				s.Promote = true
			}
			if text, ok := strings.CutPrefix(argument, "--promote-after="); ok {
				s.PromoteAfter, _ = time.ParseDuration(text) // the pod says what is wrong with it
			}
		}
	}
	for _, condition := range status.Conditions {
		if condition.Type == appsv1.DeploymentReplicaFailure && condition.Status == corev1.ConditionTrue {
			s.Trouble = append(s.Trouble, condition.Reason+": "+firstLine(condition.Message))
		}
	}
}

// guardLeader reads who acts. Whoever may not read the Lease does not learn it.
func (c *Client) guardLeader(parent context.Context, d *operation.Deployment, s *guard.State) error {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	lease, err := c.clientset.CoordinationV1().Leases(d.Namespace).Get(ctx, guardName(d), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return c.failure(parent, request{verb: "get", resource: "leases", namespace: d.Namespace, name: guardName(d)}, err)
	}
	s.Objects = append(s.Objects, guard.Object{Kind: "Lease", Name: lease.Name})
	s.Leader, s.Lasts = ptr.Deref(lease.Spec.HolderIdentity, ""), duration(lease)
	if t := lease.Spec.AcquireTime; t != nil {
		s.Since = t.UTC()
	}
	if t := lease.Spec.RenewTime; t != nil {
		s.Renewed = t.UTC()
	}
	return nil
}

func (c *Client) listGuardPods(parent context.Context, d *operation.Deployment) ([]corev1.Pod, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	list, err := c.clientset.CoreV1().Pods(d.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: guardSelector(d)}),
	})
	if err != nil {
		return nil, c.failure(parent, request{verb: "list", resource: "pods", namespace: d.Namespace}, err)
	}
	return list.Items, nil
}

func (c *Client) guardPods(ctx context.Context, d *operation.Deployment, s *guard.State) error {
	pods, err := c.listGuardPods(ctx, d)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		s.Pods = append(s.Pods, pod.Name)
		if pod.DeletionTimestamp != nil {
			continue
		}
		if reason, message := podReason(&pod, guardContainer); reason != "" {
			s.Trouble = append(s.Trouble, prefixed("pod "+pod.Name+": "+reason, firstLine(message)))
		}
	}
	return nil
}

// removalInterval is how often is asked whether the guard's pods have ended.
const removalInterval = 200 * time.Millisecond

// DeleteGuard implements guard.Cluster. The Deployment goes first and takes its pods
// along, which give their Lease back with the permissions that go last.
func (c *Client) DeleteGuard(ctx context.Context, d *operation.Deployment, objects []guard.Object) error {
	listed := func(kind string) bool {
		return slices.ContainsFunc(objects, func(o guard.Object) bool { return o.Kind == kind })
	}
	pieces := c.pieces(d, guardConfigs{})
	slices.Reverse(pieces)
	for _, p := range pieces {
		if !listed(p.kind) {
			continue
		}
		if err := c.removed(ctx, p.request("delete", d.Namespace), p.remove); err != nil {
			return err
		}
		if p.kind != "Deployment" {
			continue
		}
		if err := c.awaitNoGuardPods(ctx, d); err != nil {
			return err
		}
	}
	// The pods may have made it after the plan was made.
	return c.removed(ctx, request{verb: "delete", resource: "leases", namespace: d.Namespace, name: guardName(d)},
		func(ctx context.Context, o metav1.DeleteOptions) error {
			return c.clientset.CoordinationV1().Leases(d.Namespace).Delete(ctx, guardName(d), o)
		})
}

// removed deletes an object, which may be gone already.
func (c *Client) removed(parent context.Context, r request, remove func(context.Context, metav1.DeleteOptions) error) error {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	err := remove(ctx, metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)})
	if err != nil && !apierrors.IsNotFound(err) {
		return c.failure(parent, r, err)
	}
	return nil
}

func (c *Client) awaitNoGuardPods(ctx context.Context, d *operation.Deployment) error {
	for {
		pods, err := c.listGuardPods(ctx, d)
		if err != nil {
			return err
		}
		if len(pods) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return &operation.Error{
				Kind: operation.KindOf(context.Cause(ctx)), Object: "pod " + d.Namespace + "/" + pods[0].Name, Phase: "waiting for its end",
				Err: context.Cause(ctx), Next: "redisctl failover guard remove again goes on",
			}
		case <-time.After(removalInterval):
		}
	}
}

package kube

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation"
)

// statefulSet reads the deployment's workload.
func (c *Client) statefulSet(parent context.Context, d *operation.Deployment) (*appsv1.StatefulSet, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	set, err := c.clientset.AppsV1().StatefulSets(d.Namespace).Get(ctx, d.Workload.Name, metav1.GetOptions{})
	if err != nil {
		return nil, c.failure(parent, request{verb: "get", resource: "statefulsets", namespace: d.Namespace, name: d.Workload.Name}, err)
	}
	return set, nil
}

// Scale sets how many pods the workload is to have. It fails, without a change, when
// that is neither from nor to: somebody else has scaled it. Its pods follow later.
func (c *Client) Scale(parent context.Context, d *operation.Deployment, from, to int) error {
	set, err := c.statefulSet(parent, d)
	if err != nil {
		return err
	}
	if int(ptr.Deref(set.Spec.Replicas, 1)) == to {
		return nil
	}
	const path = "/spec/replicas"
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": d.Workload.UID},
		{"op": "test", "path": path, "value": from},
		{"op": "replace", "path": path, "value": to},
	})
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	ctx, cancel := c.bounded(parent)
	defer cancel()
	_, err = c.clientset.AppsV1().StatefulSets(d.Namespace).Patch(
		ctx, d.Workload.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	switch {
	case apierrors.IsInvalid(err): // a test has failed
		return &operation.Error{
			Kind: operation.Failed, Object: "statefulset " + d.Namespace + "/" + d.Workload.Name, Phase: fmt.Sprintf("scaling to %d", to),
			Err: fmt.Errorf("somebody else has changed it: it wants %d pods, not %d", ptr.Deref(set.Spec.Replicas, 1), from),
		}
	case err != nil:
		return c.failure(parent, request{verb: "patch", resource: "statefulsets", namespace: d.Namespace, name: d.Workload.Name}, err)
	}
	return nil
}

// stopInterval is how often the pods are listed while they are awaited to end.
const stopInterval = 200 * time.Millisecond

// AwaitStopped returns when the workload has no pods, not even ending ones: from then
// on no server writes to its volume. state is called with what is still there when
// that changes.
func (c *Client) AwaitStopped(parent context.Context, d *operation.Deployment, state func(string)) error {
	set, err := c.statefulSet(parent, d)
	if err != nil {
		return err
	}
	said := ""
	for {
		ctx, cancel := c.bounded(parent)
		left, err := c.instances(ctx, found{StatefulSet: *emptied(set), container: containerOf(set, d.Workload.Container)})
		cancel()
		if err != nil {
			return err
		}
		if len(left) == 0 {
			return nil
		}
		names := (&operation.Deployment{Instances: left}).InstanceNames()
		if names != said {
			said = names
			state("waiting for " + names + " to end")
		}
		select {
		case <-parent.Done():
			return &operation.Error{
				Kind: operation.KindOf(parent.Err()), Object: d.String(), Phase: "stopping",
				Err: fmt.Errorf("%s still there: %w", names, context.Cause(parent)),
			}
		case <-time.After(stopInterval):
		}
	}
}

// emptied is the workload with no pod wanted, so that none is missed.
func emptied(set *appsv1.StatefulSet) *appsv1.StatefulSet {
	kept := set.DeepCopy()
	kept.Spec.Replicas = ptr.To[int32](0)
	return kept
}

func containerOf(set *appsv1.StatefulSet, name string) *corev1.Container {
	for i := range set.Spec.Template.Spec.Containers {
		if c := &set.Spec.Template.Spec.Containers[i]; c.Name == name {
			return c
		}
	}
	return &corev1.Container{Name: name}
}

// LastLines returns what the server's container of an instance printed last: of one that
// was restarted, what it printed before it ended, as long as the kubelet keeps that.
func (c *Client) LastLines(parent context.Context, d *operation.Deployment, i operation.Instance, lines int) ([]string, error) {
	options := corev1.PodLogOptions{
		Container: d.Workload.Container, Previous: i.Pod != nil && i.Pod.Restarts > 0, TailLines: ptr.To(int64(lines)),
		LimitBytes: ptr.To[int64](64 << 10),
	}
	text, err := c.lines(parent, d.Namespace, i.Name, &options)
	if len(text) > 0 {
		return text, nil
	}
	// It may have been restarted, or removed, since the pod was looked at.
	options.Previous = !options.Previous
	if other, otherErr := c.lines(parent, d.Namespace, i.Name, &options); otherErr == nil {
		return other, nil
	}
	return text, err
}

func (c *Client) lines(parent context.Context, namespace, pod string, options *corev1.PodLogOptions) ([]string, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	stream, err := c.clientset.CoreV1().Pods(namespace).GetLogs(pod, options).Stream(ctx)
	if err != nil {
		return nil, c.failure(parent, request{verb: "get", resource: "pods/log", namespace: namespace, name: pod}, err)
	}
	defer func() { _ = stream.Close() }() // it was read to its end
	var text []string
	scanner := bufio.NewScanner(stream)
	for scanner.Scan() {
		text = append(text, scanner.Text())
	}
	if err := scanner.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return text, fmt.Errorf("reading the log of %s: %w", pod, err)
	}
	return text, nil
}

// causeOr returns why ctx has ended, or otherwise when it has not.
func causeOr(ctx context.Context, otherwise error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return otherwise
}

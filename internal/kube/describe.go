package kube

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/describe"
)

var _ describe.Cluster = (*Client)(nil)

// Container implements describe.Cluster.
func (c *Client) Container(ctx context.Context, d *operation.Deployment) (describe.Container, error) {
	set, err := c.statefulSet(ctx, d)
	if err != nil {
		return describe.Container{}, err
	}
	redis := containerOf(set, d.Workload.Container)
	limits, requests := redis.Resources.Limits, redis.Resources.Requests
	described := describe.Container{
		Name:        redis.Name,
		MemoryLimit: limits.Memory().Value(), CPULimit: limits.Cpu().MilliValue(),
		MemoryRequest: requests.Memory().Value(), CPURequest: requests.Cpu().MilliValue(),
		Grace: ptr.Deref(set.Spec.Template.Spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds),
	}
	for _, p := range []struct {
		kind  string
		probe *corev1.Probe
	}{{"startup", redis.StartupProbe}, {"readiness", redis.ReadinessProbe}, {"liveness", redis.LivenessProbe}} {
		if p.probe != nil {
			described.Probes = append(described.Probes, describe.Probe{
				Kind: p.kind, How: probeText(p.probe), Period: int(p.probe.PeriodSeconds),
				Timeout: int(p.probe.TimeoutSeconds), Failures: int(p.probe.FailureThreshold),
			})
		}
	}
	for _, other := range set.Spec.Template.Spec.Containers {
		if other.Name != redis.Name {
			described.Sidecars = append(described.Sidecars, other.Name)
		}
	}
	return described, nil
}

// probeText says how a probe asks. Only the first words of a command: the rest may hold a
// password.
func probeText(p *corev1.Probe) string {
	switch {
	case p.Exec != nil:
		return "command " + strings.Join(p.Exec.Command[:min(1, len(p.Exec.Command))], " ")
	case p.TCPSocket != nil:
		return "TCP " + p.TCPSocket.Port.String()
	case p.HTTPGet != nil:
		return "HTTP " + p.HTTPGet.Port.String() + p.HTTPGet.Path
	case p.GRPC != nil:
		return fmt.Sprintf("gRPC %d", p.GRPC.Port)
	default:
		return ""
	}
}

// DataClaims implements describe.Cluster.
func (c *Client) DataClaims(parent context.Context, d *operation.Deployment) ([]describe.Claim, error) {
	if d.Workload.Volume.Kind == operation.VolumeNone {
		return nil, nil
	}
	ctx, cancel := c.bounded(parent)
	defer cancel()
	list, err := c.clientset.CoreV1().PersistentVolumeClaims(d.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, c.failure(parent, request{verb: "list", resource: "persistentvolumeclaims", namespace: d.Namespace}, err)
	}
	wanted := map[string]bool{}
	for _, i := range d.Instances {
		wanted[d.Workload.Volume.Claim+"-"+i.Name] = true
	}
	if d.Workload.Volume.Kind == operation.VolumeExistingClaim {
		wanted = map[string]bool{d.Workload.Volume.Claim: true}
	}
	var claims []describe.Claim
	for _, claim := range list.Items {
		if wanted[claim.Name] {
			claims = append(claims, describe.Claim{
				Name: claim.Name, Phase: string(claim.Status.Phase), Class: ptr.Deref(claim.Spec.StorageClassName, ""),
				Capacity: claim.Status.Capacity.Storage().Value(),
			})
		}
	}
	return claims, nil
}

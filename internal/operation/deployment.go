// Package operation holds the vocabulary that every use case of redisctl
// shares: what the user named (Target), what was found (Deployment, Instance),
// how it is reached (the ports Resolver, Connector and Server), what was found
// wrong (Finding), what will be done (Plan, Step), what happened (Reporter) and
// how it failed (Error).
//
// The use cases themselves are the packages below this one. None of them knows
// Kubernetes, go-redis or a terminal: adapters (internal/kube,
// internal/redisconn) implement the ports, internal/cli wires them together.
package operation

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/redis"
)

// Target is what the user named on the command line, before anything was
// looked up. Either Addresses is set (plain Redis servers, no Kubernetes) or
// the other fields narrow a search in a cluster.
type Target struct {
	// Namespace to look in. Empty means the kubeconfig context's namespace.
	Namespace string
	// AllNamespaces looks in every namespace; Namespace is then ignored.
	AllNamespaces bool
	// Release is the Helm release (label app.kubernetes.io/instance). Empty is
	// allowed where the search finds exactly one.
	Release string
	// Pod narrows the operation to one pod of the release. It does not change
	// which release is found, except that it may stand in for Release.
	Pod string
	// Addresses are host:port pairs of servers reached without Kubernetes.
	Addresses []string
}

// Deployment is one Redis deployment that was found: a Helm release in a
// namespace, or a list of plain addresses.
type Deployment struct {
	// Namespace and Release are empty for plain addresses.
	Namespace string
	Release   string
	// Name is the workload's name (the chart's full name), or the first
	// address. It is what messages call the deployment.
	Name string
	// Chart is the chart's name and version as the helm.sh/chart label states
	// it, for example "redis-1.4.2". Empty when unknown.
	Chart string
	// Workload is nil for plain addresses.
	Workload *Workload
	// Services of the release, sorted by name.
	Services []Service
	// Instances sorted by ordinal, or in the order of the addresses.
	Instances []Instance
	// Config is the chart's redis.conf (from its ConfigMap), zero when there is
	// none. It is what the release asks for; a running server may differ.
	Config redis.Config
	// Credentials names where the password comes from. It never holds it.
	Credentials CredentialSource
	// Gaps are the parts that could not be read although the deployment was
	// found. What they concern is then empty because it is unknown, not because
	// there is none.
	Gaps []Gap
}

// Gap is a part of a Deployment that could not be read, for example because
// the user may not list Services.
type Gap struct {
	// Part is "services", "endpoints" or "config".
	Part string
	// Reason says why, in one line.
	Reason string
}

// Workload is the controller object that keeps the instances running.
type Workload struct {
	Kind string // "StatefulSet"
	Name string
	UID  string
	// ResourceVersion is re-checked before a mutation.
	ResourceVersion string
	// ServiceName is the governing Service of a StatefulSet.
	ServiceName string
	// Desired, Ready and Updated count pods.
	Desired, Ready, Updated int
	// UpdateStrategy is RollingUpdate, or OnDelete: pods then stay as they are until
	// somebody deletes them.
	UpdateStrategy string
	// UpdateRevision names the newest revision of the pod template.
	UpdateRevision string
	// Container is the name of the container that runs redis-server.
	Container string
	// Image that the pod template asks for.
	Image string
	// Volume says where /data lives.
	Volume Volume
	// Annotations of the workload, for records such as the intended primary.
	Annotations map[string]string
	// Manager is the controller that puts the workload back as it is declared
	// elsewhere: "Argo CD application shop/cache". Empty when nothing tells of one.
	Manager string
}

// FirstPod names the pod that the chart makes the primary at every start.
func (w *Workload) FirstPod() string { return w.Name + "-0" }

// VolumeKind says where a deployment keeps its data.
type VolumeKind string

// The kinds of data volume that the chart can create.
const (
	VolumeClaimTemplate VolumeKind = "claimTemplate" // one claim per pod
	VolumeExistingClaim VolumeKind = "existingClaim" // one claim, made by the user
	VolumeNone          VolumeKind = "none"          // the container's own file system
)

// Volume is the data volume of a workload.
type Volume struct {
	Kind VolumeKind
	// Claim is the existing claim's name or the claim template's name.
	Claim string
	// MountPath inside the Redis container, normally /data.
	MountPath string
}

// Service is a Kubernetes Service of the release.
type Service struct {
	Name     string
	Headless bool
	// Port is where it takes Redis clients; 0 when it has no port for them.
	Port int
	// PodSelector is the value of the statefulset.kubernetes.io/pod-name
	// selector: the one pod that the Service is pinned to. Empty when the
	// Service selects by labels only.
	PodSelector string
	// Endpoints are the names of the pods that receive traffic now.
	Endpoints []string
	// EndpointsKnown is false when the user may not read EndpointSlices.
	EndpointsKnown bool
}

// Budget is a PodDisruptionBudget. Evictions of pods, which a drained node makes,
// respect it; deletions do not.
type Budget struct {
	Name string
	// Allowed is how many pods may be evicted now.
	Allowed int
	// Healthy pods there are, and Wanted must remain.
	Healthy, Wanted int
}

// Instance is one Redis server of a deployment.
type Instance struct {
	// Name is the pod's name or the address.
	Name string
	// Ordinal in the StatefulSet; -1 when it has none.
	Ordinal int
	// Host and Port are where Redis listens: the pod's IP, or the address's
	// parts. Other instances name this one by them (INFO replication).
	Host string
	Port int
	// Domain is what the pod's DNS name ends with, where it differs from instance to
	// instance: those of two releases that are looked at as one. Empty otherwise.
	Domain string
	// Pod is nil for plain addresses.
	Pod *Pod
}

// ErrDown matches the error of an instance whose container does not run.
var ErrDown = errors.New("not running")

// Down returns an error matching ErrDown when the instance's pod cannot answer:
// connecting would only wait for a timeout.
func (i Instance) Down() error {
	if i.Pod == nil || i.Pod.ContainerRunning {
		return nil
	}
	reason := i.Pod.Reason
	if reason == "" {
		reason = i.Pod.Phase
	}
	err := fmt.Errorf("%w: %s", ErrDown, reason)
	if i.Pod.Message != "" {
		err = fmt.Errorf("%w: %s", err, i.Pod.Message)
	}
	return &Error{Kind: Failed, Object: "pod " + i.Name, Err: err}
}

// Pod is what the cluster says of an instance.
type Pod struct {
	UID  string
	Node string
	// Phase is Pending, Running, Succeeded, Failed or Unknown as in the
	// Kubernetes API, or Missing for a pod that should exist and does not.
	Phase string
	// Ready is the pod's Ready condition.
	Ready bool
	// Deleting is set when the pod has a deletion timestamp.
	Deleting bool
	// ContainerRunning is false while the Redis container waits or has ended.
	ContainerRunning bool
	// Reason is why it does not run (CrashLoopBackOff, ImagePullBackOff,
	// Unschedulable, ...). Empty when all is well.
	Reason string
	// Message explains Reason, at most one line.
	Message string
	Image   string
	// Revision of the workload's pod template that the pod was made from.
	Revision string
	Restarts int
	// LastExit is how the Redis container ended the last time, for example
	// "OOMKilled, exit code 137". Empty when it has not been restarted.
	LastExit string
	// MemoryLimit and CPULimit of the Redis container, in bytes and in thousandths of a core;
	// 0 for none.
	MemoryLimit, CPULimit int64
	Created               time.Time
}

// CredentialSource says where the password of a deployment comes from.
type CredentialSource struct {
	// Kind is "none", "secret" (Secret and Key are set), "env", "prompt" or
	// "literal" (a value in the pod template, which anyone who can read the
	// workload sees).
	Kind   string
	Secret string
	Key    string
}

// ReplicaMode reports whether the chart made a primary with replicas. In
// standalone mode several pods are independent servers, each its own primary.
func (d *Deployment) ReplicaMode() bool {
	return d.Workload != nil && d.Workload.ServiceName == d.Workload.Name+"-headless"
}

// Intended names the instance that is meant to be the primary, because a failover
// made it so. Empty when no failover was made, and for plain addresses, whose notes
// are not kept with them. It is as old as the Deployment.
func (d *Deployment) Intended() string {
	if d.Workload == nil {
		return ""
	}
	return d.Workload.Annotations[NotePrimary]
}

// ServedBy names the release that serves the clients of this one, because a cutover has
// moved them. Empty when it serves them itself. It is as old as the Deployment.
func (d *Deployment) ServedBy() string {
	if d.Workload == nil {
		return ""
	}
	return d.Workload.Annotations[NoteServedBy]
}

// Instance returns the instance with the given name, or nil.
func (d *Deployment) Instance(name string) *Instance {
	for i := range d.Instances {
		if d.Instances[i].Name == name {
			return &d.Instances[i]
		}
	}
	return nil
}

// InstanceNames lists the instances for messages: "cache-redis-0, cache-redis-1".
func (d *Deployment) InstanceNames() string {
	names := make([]string, len(d.Instances))
	for i, instance := range d.Instances {
		names[i] = instance.Name
	}
	return strings.Join(names, ", ")
}

// String returns "namespace/release", or the name for plain addresses.
func (d *Deployment) String() string {
	if d.Namespace == "" {
		return d.Name
	}
	return d.Namespace + "/" + d.Release
}

// Package describe puts together what an operator wants to know of a release before anything
// else: who is who, why pods ended, which limits and probes they have, where the data lies.
package describe

import (
	"context"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/events"
	"github.com/redisctl/redisctl/internal/operation/health"
)

// Cluster answers what only the cluster knows.
type Cluster interface {
	events.Source
	// Container returns how the workload runs Redis.
	Container(ctx context.Context, d *operation.Deployment) (Container, error)
	// DataClaims returns the data volumes of the instances.
	DataClaims(ctx context.Context, d *operation.Deployment) ([]Claim, error)
	Budgets(ctx context.Context, d *operation.Deployment) ([]operation.Budget, error)
	// FreeSpace of the file system that holds path, in bytes.
	FreeSpace(ctx context.Context, d *operation.Deployment, i operation.Instance, path string) (int64, error)
}

// Container is what the pod template says of the Redis container.
type Container struct {
	Name string `json:"name"`
	// Limits and requests: memory in bytes, CPU in thousandths of a core; 0 for none.
	MemoryLimit   int64 `json:"memoryLimit"`
	MemoryRequest int64 `json:"memoryRequest"`
	CPULimit      int64 `json:"cpuLimitMillicores"`
	CPURequest    int64 `json:"cpuRequestMillicores"`
	// Grace is how long a pod may take to end, in seconds.
	Grace  int64   `json:"graceSeconds"`
	Probes []Probe `json:"probes"`
	// Sidecars are the names of the other containers.
	Sidecars []string `json:"sidecars"`
}

// Probe is how the kubelet judges the container.
type Probe struct {
	Kind string `json:"kind"` // "startup", "readiness" or "liveness"
	How  string `json:"how"`
	// Period and Timeout in seconds. After Failures in a row it counts as failed.
	Period   int `json:"periodSeconds"`
	Timeout  int `json:"timeoutSeconds"`
	Failures int `json:"failures"`
}

// Claim is a data volume.
type Claim struct {
	Name string `json:"name"`
	// Phase is Bound, Pending or Lost.
	Phase string `json:"phase"`
	Class string `json:"class,omitempty"`
	// Capacity in bytes.
	Capacity int64 `json:"capacity"`
	// Free is what the instance that mounts it says, in bytes; absent where that is unknown.
	Free *int64 `json:"free,omitempty"`
}

// Pod is what the cluster says of an instance, beside its health.
type Pod struct {
	Name     string `json:"name"`
	Phase    string `json:"phase"`
	Reason   string `json:"reason,omitempty"`
	Restarts int    `json:"restarts"`
	// LastExit is how the container ended before the last restart: "OOMKilled, exit code 137".
	LastExit string    `json:"lastExit,omitempty"`
	Created  time.Time `json:"created"`
}

// Service is where clients are led.
type Service struct {
	Name      string   `json:"name"`
	Port      int      `json:"port"`
	Headless  bool     `json:"headless"`
	Selects   string   `json:"selects,omitempty"`
	Endpoints []string `json:"endpoints"`
}

// Budget is a PodDisruptionBudget.
type Budget struct {
	Name    string `json:"name"`
	Allowed int    `json:"disruptionsAllowed"`
	Healthy int    `json:"healthy"`
	Wanted  int    `json:"wanted"`
}

// Gap is a part that could not be read.
type Gap struct {
	Part   string `json:"part"`
	Reason string `json:"reason"`
}

// Report is the description of a release. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Report struct {
	Health    health.Report  `json:"health"`
	Chart     string         `json:"chart"`
	Pods      []Pod          `json:"pods"`
	Container *Container     `json:"container,omitempty"`
	Services  []Service      `json:"services"`
	Claims    []Claim        `json:"claims"`
	Budgets   []Budget       `json:"budgets"`
	Events    []events.Event `json:"events"`
	// Gaps are the parts that may not be read.
	Gaps []Gap `json:"gaps"`
}

// Describe puts the report together. What may not be read is a Gap; the error is not nil
// only when no server may be asked.
func Describe(
	ctx context.Context, connector operation.Connector, c Cluster, d *operation.Deployment, now time.Time, o health.Options,
) (Report, error) {
	r := Report{Chart: d.Chart}
	var err error
	if r.Health, err = health.Check(ctx, connector, d, now, o); err != nil {
		return r, err
	}
	for _, i := range d.Instances {
		if i.Pod != nil {
			r.Pods = append(r.Pods, Pod{
				Name: i.Name, Phase: i.Pod.Phase, Reason: i.Pod.Reason, Restarts: i.Pod.Restarts, LastExit: i.Pod.LastExit, Created: i.Pod.Created.UTC(),
			})
		}
	}
	for _, s := range d.Services {
		r.Services = append(r.Services, Service{s.Name, s.Port, s.Headless, s.PodSelector, s.Endpoints})
	}
	for _, g := range d.Gaps {
		r.Gaps = append(r.Gaps, Gap(g))
	}
	gap := func(part string, err error) {
		if err != nil {
			r.Gaps = append(r.Gaps, Gap{part, err.Error()})
		}
	}
	container, err := c.Container(ctx, d)
	if gap("container", err); err == nil {
		r.Container = &container
	}
	r.Claims, err = c.DataClaims(ctx, d)
	gap("claims", err)
	r.measure(ctx, c, d)
	budgets, err := c.Budgets(ctx, d)
	gap("budgets", err)
	for _, b := range budgets {
		r.Budgets = append(r.Budgets, Budget(b))
	}
	r.Events, err = c.Events(ctx, d)
	gap("events", err)
	events.Sort(r.Events)
	return r, nil
}

// measure asks the instances for the free space on their volumes. That needs exec, which
// not everybody may use: it is left out then.
func (r *Report) measure(ctx context.Context, c Cluster, d *operation.Deployment) {
	v := d.Workload.Volume
	for n := range r.Claims {
		for k, i := range d.Instances {
			mounted := v.Kind == operation.VolumeExistingClaim || r.Claims[n].Name == v.Claim+"-"+i.Name
			if !mounted || i.Down() != nil || r.Health.Instances[k].Answer == nil {
				continue
			}
			if free, err := c.FreeSpace(ctx, d, i, v.MountPath); err == nil {
				r.Claims[n].Free = &free
				break
			}
		}
	}
}

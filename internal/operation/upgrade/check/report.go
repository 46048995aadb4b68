package check

import (
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/redis"
)

// Overrides are the flags of `upgrade apply` that let it go on in spite of a finding.
type Overrides struct {
	// Downgrade (--allow-downgrade) accepts an older server, and one that cannot read the
	// data.
	Downgrade bool
	// DataLoss (--allow-data-loss) accepts that a server that keeps nothing on disk loses
	// its data.
	DataLoss bool
	// Managed (--allow-managed) accepts that a controller may undo the upgrade.
	Managed bool
	// Recreate (--recreate-workload) accepts that the workload is made anew around its pods.
	Recreate bool
	// Trial (--allow-failed-trial) accepts an image that a throw-away server did not start
	// with.
	Trial bool
	// Unhealthy (--allow-unhealthy) accepts a release that is not healthy.
	Unhealthy bool
	// Pending (--allow-pending) accepts a Helm revision that is pending: it is marked as
	// failed.
	Pending bool
	// Memory (--ignore-memory) accepts that a full resynchronisation may take more memory
	// than there is.
	Memory bool
}

// Report is what a check has found. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Report struct {
	Namespace string `json:"namespace"`
	Release   string `json:"release"`
	Name      string `json:"name"`
	// Ready is set when no finding is worse than a notice.
	Ready bool `json:"ready"`
	From  From `json:"from"`
	// Target is nil when none was named.
	Target *Target `json:"target,omitempty"`
	// Preview is what Helm would change; nil when it could not be asked, or no target was
	// named.
	Preview *upgrade.Preview `json:"preview,omitempty"`
	// Trial is nil when no server was started.
	Trial *Trial `json:"trial,omitempty"`
	// Backup is the last verified one; nil when there is none.
	Backup *Backup `json:"backup,omitempty"`
	// Volumes are those of the instances that could be asked.
	Volumes  []Volume            `json:"volumes"`
	Findings []operation.Finding `json:"findings"`

	// Change is what makes Helm run the target's image.
	Change upgrade.Change `json:"-"`
}

// From is the release as it is.
type From struct {
	// Version is that of the server that holds the data: the primary. Nil when none
	// answers.
	Version *redis.Version `json:"version,omitempty"`
	// Image that the workload asks for.
	Image     string     `json:"image"`
	Chart     string     `json:"chart,omitempty"`
	Instances []Instance `json:"instances"`
	// Revision is the newest one of the Helm release; nil when it could not be read.
	Revision *upgrade.Revision `json:"revision,omitempty"`
}

// Instance is what one pod runs.
type Instance struct {
	Name    string         `json:"name"`
	Role    redis.Role     `json:"role,omitempty"`
	Version *redis.Version `json:"version,omitempty"`
	Image   string         `json:"image,omitempty"`
	Error   string         `json:"error,omitempty"`
}

// Target is what the release is to run.
type Target struct {
	Image string `json:"image"`
	// Version is what the throw-away server says, or else the image's tag. Nil when neither
	// tells.
	Version *redis.Version `json:"version,omitempty"`
	// Observed is set when the server itself has told it.
	Observed bool `json:"versionObserved"`

	// wanted is the version that the user named, "" for none.
	wanted string
}

// Trial is what a throw-away server of the target's image has shown.
type Trial struct {
	// Pod is the pod that it ran in. It is gone.
	Pod string `json:"pod"`
	// Started is set when the server has started with the release's own configuration.
	Started bool `json:"started"`
	// RDBVersion is that of the values that it writes; 0 when that could not be found out.
	RDBVersion int `json:"rdbVersion,omitempty"`
	// UnknownDirectives of redis.conf keep it from starting, IgnoredDirectives have no
	// effect in it.
	UnknownDirectives []string `json:"unknownDirectives"`
	IgnoredDirectives []string `json:"ignoredDirectives"`
	// UnknownCommands were sent by clients since the present server's start.
	UnknownCommands []UsedCommand `json:"unknownCommands"`
	// Settings differ from those of the present server.
	Settings []SettingChange `json:"settings"`
	// Log is what a server that did not start has printed, without values of settings.
	Log     []string `json:"log,omitempty"`
	Seconds float64  `json:"seconds"`
}

// UsedCommand is a command that clients have sent.
type UsedCommand struct {
	Name  string `json:"name"`
	Calls int64  `json:"calls"`
}

// SettingChange is a setting that differs between the present server and the target.
type SettingChange struct {
	Name    string `json:"name"`
	Running string `json:"running"`
	Target  string `json:"target"`
}

// Backup is a stored backup that was verified.
type Backup struct {
	ID         string    `json:"id"`
	CreatedAt  time.Time `json:"createdAt"`
	VerifiedAt time.Time `json:"verifiedAt"`
	// Location of the store that has it.
	Location string `json:"location"`
}

// Volume is the file system that an instance keeps its data on.
type Volume struct {
	Instance  string `json:"instance"`
	SizeBytes int64  `json:"sizeBytes"`
	FreeBytes int64  `json:"freeBytes"`
}

func newReport(t *topology.Topology, target *Target) Report {
	d := t.Deployment
	r := Report{
		Namespace: d.Namespace, Release: d.Release, Name: d.Name, Target: target,
		From:    From{Image: d.Workload.Image, Chart: d.Chart, Instances: make([]Instance, len(t.Members))},
		Volumes: []Volume{}, Findings: []operation.Finding{},
	}
	for i := range t.Members {
		m := &t.Members[i]
		r.From.Instances[i] = Instance{Name: m.Name}
		if m.Pod != nil {
			r.From.Instances[i].Image = m.Pod.Image
		}
		if m.Err != nil {
			r.From.Instances[i].Error = m.Err.Error()
			continue
		}
		r.From.Instances[i].Role, r.From.Instances[i].Version = m.Replication.Role, &m.Version
	}
	return r
}

// Blockers returns the findings that stop an upgrade.
func (r Report) Blockers() []operation.Finding {
	return operation.Plan{Findings: r.Findings}.Blockers()
}

package check_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/operation/upgrade/check"
	"github.com/redisctl/redisctl/internal/redis"
)

var errDenied = operation.Errorf(operation.Denied, "forbidden")

// world is a release of three pods with everything around it, all as it should be for an
// upgrade to 8.0.2.
type world struct {
	d        *operation.Deployment
	fleet    operationtest.Fleet
	notes    map[string]string
	holder   string
	history  []upgrade.Revision
	helmErr  error
	imageErr error
	preview  upgrade.Preview
	budgets  []operation.Budget
	limit    int64
	size     int64
	free     int64
	spaceErr error
	backup   *check.Backup
	now      time.Time

	// starts are the outcomes of trials, one after the other: an error, or a server.
	starts []any
	specs  []check.TrialSpec
	open   int
	// onStart is called when a trial starts.
	onStart func()

	noHelm, noBackups bool
}

// trial is a throw-away server that answers.
type trial struct {
	*operationtest.Server
	commands map[string]bool // that it has not
	rdb      int
	endErr   error
}

func newTrial(version string, rdb int) *trial {
	s := operationtest.Primary().Set(map[string]string{"redis_version": version})
	s.Config = map[string]string{"save": "900 1", "maxmemory": "0", "appendonly": "no"}
	return &trial{Server: s, rdb: rdb}
}

func healthy() *world {
	w := &world{
		d: operationtest.Deployment(3), notes: map[string]string{},
		fleet: operationtest.Fleet{
			"cache-redis-0": operationtest.Primary("10.0.0.11", "10.0.0.12"),
			"cache-redis-1": operationtest.Replica("10.0.0.10"),
			"cache-redis-2": operationtest.Replica("10.0.0.10"),
		},
		history: []upgrade.Revision{{Number: 1, Status: "superseded"}, {Number: 2, Status: "deployed", Chart: "redis-1.0.0"}},
		preview: upgrade.Preview{
			Chart: "redis-1.0.0", Image: "docker.io/library/redis:8.0.2", Replaced: true,
			Objects: []upgrade.ObjectChange{{Kind: "StatefulSet", Name: "cache-redis", Action: "changed"}}, Config: "save 900 1\n",
		},
		limit: 1 << 30, size: 10 << 30, free: 9 << 30,
		now:    time.Unix(1700000000, 0).Add(time.Hour),
		starts: []any{newTrial("8.0.2", 12)},
	}
	w.backup = &check.Backup{ID: "full-1", CreatedAt: w.now.Add(-time.Hour), VerifiedAt: w.now}
	w.d.Workload.Image = "docker.io/library/redis:7.0.15"
	w.configure("save 900 1\n")
	return w
}

// configure sets the release's redis.conf.
func (w *world) configure(text string) {
	c, err := redis.ParseConfig(text)
	if err != nil {
		panic(err)
	}
	w.d.Config, w.preview.Config = c, text
}

func (w *world) check(t *testing.T, change func(*check.Options)) (check.Report, error) {
	t.Helper()
	c := check.Checker{
		Releases: w, Connector: w, Notes: w, Locker: w, Cluster: w, Trials: w, Backups: w,
		Reporter: operation.DiscardReporter{}, Now: func() time.Time { return w.now },
	}
	if w.noHelm {
		c.Releases = nil
	}
	if w.noBackups {
		c.Backups = nil
	}
	o := check.DefaultOptions()
	o.To = "8.0.2"
	if change != nil {
		change(&o)
	}
	r, err := c.Check(t.Context(), w.d, o)
	assert.Zero(t, w.open, "a throw-away server is left")
	return r, err
}

func (w *world) report(t *testing.T, change func(*check.Options)) check.Report {
	t.Helper()
	r, err := w.check(t, change)
	require.NoError(t, err)
	return r
}

// find returns the finding with a code, and fails when there is not exactly one.
func find(t *testing.T, r check.Report, code string) operation.Finding {
	t.Helper()
	var found []operation.Finding
	for _, f := range r.Findings {
		if f.Code == code {
			found = append(found, f)
		}
	}
	require.Len(t, found, 1, "findings with code %s of %v", code, codes(r))
	return found[0]
}

func codes(r check.Report) []string {
	var all []string
	for _, f := range r.Findings {
		all = append(all, f.Code)
	}
	return all
}

// Connect implements operation.Connector: also to the server of the present trial.
func (w *world) Connect(ctx context.Context, d *operation.Deployment, i operation.Instance) (operation.Server, error) {
	if i.Name != "trial" {
		return w.fleet.Connect(ctx, d, i)
	}
	s := w.starts[len(w.specs)-1].(*trial)
	if s.endErr != nil {
		return nil, errors.New("connection refused")
	}
	server, err := operationtest.Fleet{"trial": s.Server}.Connect(ctx, d, i)
	return trialConnection{server, s}, err
}

type trialConnection struct {
	operation.Server
	trial *trial
}

func (c trialConnection) Do(_ context.Context, args ...any) (any, error) {
	switch args[0] {
	case "DUMP":
		return string([]byte{0, 1, '1', byte(c.trial.rdb), 0, 1, 2, 3, 4, 5, 6, 7, 8}), nil
	case "COMMAND":
		if c.trial.commands[args[2].(string)] {
			return []any{nil}, nil
		}
		return []any{[]any{args[2]}}, nil
	default:
		return "OK", nil
	}
}

func (w *world) Start(_ context.Context, _ *operation.Deployment, s check.TrialSpec) (check.TrialServer, error) {
	w.specs = append(w.specs, s)
	if w.onStart != nil {
		w.onStart()
	}
	switch outcome := w.starts[len(w.specs)-1].(type) {
	case error:
		return nil, outcome
	default:
		w.open++
		return opened{w, outcome.(*trial)}, nil
	}
}

type opened struct {
	world *world
	trial *trial
}

func (opened) Name() string { return "pod prod/redisctl-trial-x-0" }
func (opened) Deployment() *operation.Deployment {
	return &operation.Deployment{Name: "trial", Instances: []operation.Instance{{Name: "trial"}}}
}
func (o opened) Ended(context.Context) error { return o.trial.endErr }
func (o opened) Close(ctx context.Context) error {
	if ctx.Err() == nil {
		o.world.open--
	}
	return ctx.Err()
}

func (w *world) Note(_ context.Context, _ *operation.Deployment, key string) (string, error) {
	return w.notes[key], nil
}
func (w *world) SetNotes(context.Context, *operation.Deployment, map[string]string) error {
	return errors.New("a check changes nothing")
}
func (w *world) Lock(context.Context, *operation.Deployment) (context.Context, func(), error) {
	return nil, nil, errors.New("a check locks nothing")
}
func (w *world) LockHolder(context.Context, *operation.Deployment) (string, error) {
	return w.holder, nil
}
func (w *world) Budgets(context.Context, *operation.Deployment) ([]operation.Budget, error) {
	return w.budgets, nil
}
func (w *world) MemoryLimit(context.Context, *operation.Deployment) (int64, error) {
	return w.limit, nil
}
func (w *world) Space(context.Context, *operation.Deployment, operation.Instance, string) (size, free int64, err error) {
	return w.size, w.free, w.spaceErr
}
func (w *world) LastVerified(context.Context, *operation.Deployment) (*check.Backup, error) {
	return w.backup, nil
}
func (w *world) History(context.Context, *operation.Deployment) ([]upgrade.Revision, error) {
	return w.history, w.helmErr
}
func (w *world) WithImage(_ context.Context, _ *operation.Deployment, c upgrade.Change, image string) (upgrade.Change, error) {
	c.Values = map[string]any{"image": image}
	return c, w.imageErr
}
func (w *world) Preview(_ context.Context, _ *operation.Deployment, c upgrade.Change) (upgrade.Preview, error) {
	p := w.preview
	if image, ok := c.Values["image"].(string); ok && p.Image != "other" {
		p.Image = image
	}
	return p, nil
}
func (w *world) Upgrade(context.Context, *operation.Deployment, upgrade.Change) (upgrade.Revision, error) {
	return upgrade.Revision{}, errors.New("a check upgrades nothing")
}
func (w *world) Settle(context.Context, *operation.Deployment) error {
	return errors.New("a check settles nothing")
}

// TestReady: what is as it should be is ready, and what the upgrade changes is told.
func TestReady(t *testing.T) {
	w := healthy()
	r := w.report(t, nil)
	assert.True(t, r.Ready, "%v", r.Findings)
	assert.Equal(t, "docker.io/library/redis:8.0.2", r.Target.Image)
	assert.Equal(t, "redis 8.0.2", r.Target.Version.String())
	assert.True(t, r.Target.Observed)
	assert.True(t, r.Trial.Started)
	assert.Equal(t, 12, r.Trial.RDBVersion)
	assert.Equal(t, 2, r.From.Revision.Number)
	assert.Equal(t, map[string]any{"image": "docker.io/library/redis:8.0.2"}, r.Change.Values)
	assert.Len(t, r.Volumes, 3)
	assert.Len(t, r.From.Instances, 3)
	assert.Empty(t, r.Blockers())
	assert.Equal(t, []string{"way-back-needs-backup", "licence"}, codes(r))
	require.Len(t, w.specs, 1)
	assert.Equal(t, check.TrialSpec{Image: "docker.io/library/redis:8.0.2", Config: "save 900 1\n", Life: 5 * time.Minute}, w.specs[0])
}

// TestFindings brings the release into one state at a time.
func TestFindings(t *testing.T) {
	critical, warning, notice := operation.Critical, operation.Warning, operation.Notice
	second := func(w *world) *operationtest.Server { return w.fleet["cache-redis-1"] }
	ended := func(lines ...string) error {
		return errors.Join(&check.EndError{Reason: "Error, exit code 1", Log: lines})
	}
	for _, c := range []struct {
		name     string
		change   func(*world)
		options  func(*check.Options)
		code     string
		severity operation.Severity
		override string
		says     string
	}{
		{"link down", func(w *world) { second(w).Info["master_link_status"] = "down" }, nil, "link-down", critical, "--allow-unhealthy", "down"},
		{"pod down", func(w *world) {
			w.d.Instances[2].Pod.ContainerRunning, w.d.Instances[2].Pod.Reason = false, "CrashLoopBackOff"
		}, nil, "pod-down", critical, "--allow-unhealthy", "CrashLoopBackOff"},
		{"mixed versions", func(w *world) { second(w).Info["redis_version"] = "7.2.0" }, nil, "mixed-versions", warning, "", "redis 7.0.15 and redis 7.2.0"},
		{"unfinished failover", func(w *world) {
			w.d.Workload.Annotations = map[string]string{operation.NoteFailover: "{}"}
		}, nil, "unfinished-failover", critical, "", "not finished"},
		{"unfinished restore", func(w *world) {
			w.notes[operation.NoteRestore] = `{"backup":"rdb-1","by":"ada"}`
		}, nil, "unfinished-restore", critical, "", "rdb-1"},
		{"unfinished upgrade", func(w *world) { w.notes[operation.NoteUpgrade] = `{}` }, nil, "unfinished-upgrade", critical, "", "not finished"},
		{"locked", func(w *world) { w.holder = "ada" }, nil, "locked", critical, "", "ada"},
		{"GitOps", func(w *world) { w.d.Workload.Manager = "Argo CD application cache" }, nil, "managed-by-controller", critical, "--allow-managed", "Argo CD"},
		{"memory", func(w *world) { w.limit = 1100 << 10 }, nil, "memory-short", critical, "--ignore-memory", "1.1 MiB"},
		{"little memory", func(w *world) { w.limit = 1280 << 10 }, nil, "memory-short", warning, "", "256 KiB"},
		{"no memory limit", func(w *world) { w.limit = 0 }, nil, "not-checked", notice, "", "no memory limit"},
		{"budget", func(w *world) { w.budgets = []operation.Budget{{Name: "b", Healthy: 2, Wanted: 2}} }, nil, "no-disruption-allowed", notice, "", "2 pods"},
		{"no backup", func(w *world) { w.backup = nil }, nil, "no-backup", warning, "", "no verified backup"},
		{"old backup", func(w *world) { w.backup.CreatedAt = w.now.Add(-25 * time.Hour) }, nil, "backup-old", warning, "", "25h0m0s old"},
		{"renamed command", func(w *world) {
			w.configure("rename-command CONFIG cfg_secret\nrename-command KEYS \"\"")
		}, nil, "renamed-commands", notice, "", "CONFIG has another name, KEYS is disabled"},

		{"not Helm's", func(w *world) { w.helmErr = &operation.Error{Err: fmt.Errorf("no Secret: %w", fs.ErrNotExist)} }, nil, "no-helm-release", critical, "", "no Secret"},
		{"Helm denied", func(w *world) { w.helmErr = errDenied }, nil, "not-checked", warning, "", "forbidden"},
		{"no Helm", func(w *world) { w.noHelm = true }, nil, "not-checked", notice, "", "cannot ask Helm"},
		{"pending", func(w *world) { w.history[1].Status = "pending-upgrade" }, nil, "release-pending", critical, "--allow-pending", "revision 2 is pending-upgrade"},
		{"failed revision", func(w *world) { w.history[1].Status = "failed" }, nil, "release-failed", warning, "", "revision 2 has failed"},
		{"no value for the image", func(w *world) { w.imageErr = operation.Errorf(operation.Refused, "no value") }, nil, "image-not-settable", critical, "", "no value"},
		{"image of the chart", func(w *world) { w.preview.Image = "other" }, nil, "image-not-set", critical, "", "would run other"},
		{"immutable", func(w *world) { w.preview.Immutable = []string{"spec.serviceName"} }, nil, "workload-immutable", critical, "--recreate-workload", "spec.serviceName"},
		{"nothing replaced", func(w *world) { w.preview.Replaced = false }, nil, "nothing-to-replace", notice, "", "no pod"},
		{"hooks", func(w *world) { w.preview.Hooks = []string{"migrate"} }, nil, "hooks", notice, "", "migrate"},

		{"no image", func(w *world) {
			w.starts = []any{&check.PodError{Image: true, Reason: "ErrImagePull", Message: "not found"}}
		}, nil, "image-unavailable", critical, "--allow-failed-trial", "ErrImagePull: not found"},
		{"no room", func(w *world) {
			w.starts = []any{&check.PodError{Reason: "Unschedulable", Message: "0/1 nodes"}}
		}, nil, "not-checked", warning, "", "0/1 nodes"},
		{"no Secret", func(w *world) {
			w.starts = []any{&check.PodError{Reason: "CreateContainerConfigError", Message: "secret x not found"}}
		}, nil, "trial-not-started", critical, "--allow-failed-trial", "secret x not found"},
		{"pods denied", func(w *world) { w.starts = []any{errDenied} }, nil, "not-checked", warning, "", "forbidden"},
		{"server ends", func(w *world) { w.starts = []any{ended("Fatal error", "Exiting")} }, nil, "server-fails", critical, "--allow-failed-trial", "Fatal error / Exiting"},
		{"server ends later", func(w *world) {
			s := newTrial("8.0.2", 12)
			s.endErr = ended("Segmentation fault")
			w.starts = []any{s}
		}, nil, "server-fails", critical, "--allow-failed-trial", "Segmentation fault"},
		{"bad value", func(w *world) {
			w.starts = []any{ended("Reading the configuration file, at line 3", ">>> 'requirepass \"hush\"'", "argument must be 'yes' or 'no'")}
		}, nil, "server-fails", critical, "--allow-failed-trial", ">>> 'requirepass ...'"},
		{"other version", func(w *world) { w.starts = []any{newTrial("7.4.1", 12)} }, nil, "version-mismatch", critical, "--allow-failed-trial", "redis 7.4.1, not 8.0.2"},
		{"ignored directive", func(w *world) { w.configure("save 900 1\nlua-replicate-commands yes\nuser bob on") }, nil, "config-ignored", warning, "", "ignores it"},
		{"unknown command", func(w *world) {
			w.fleet["cache-redis-0"].Info["cmdstat_json.set"] = "calls=7,usec=1"
			w.fleet["cache-redis-0"].Info["cmdstat_get"] = "calls=9,usec=1"
			w.starts[0].(*trial).commands = map[string]bool{"json.set": true}
		}, nil, "command-unknown", warning, "", "called it 7 times"},
		{"other default", func(w *world) {
			w.fleet["cache-redis-0"].Config = map[string]string{"save": "900 1", "maxmemory": "5", "requirepass": "hush"}
			w.starts[0].(*trial).Config["requirepass"] = "other"
		}, nil, "settings-differ", notice, "", "maxmemory"},
		{"ACL file", func(w *world) {
			w.configure("save 900 1\naclfile /data/users.acl")
			w.starts[0].(*trial).Config["aclfile"] = "/data/users.acl"
		}, nil, "acl-file-not-tried", notice, "", "an empty one"},

		{"promoted", func(w *world) {
			w.fleet["cache-redis-0"], w.fleet["cache-redis-1"] = operationtest.Replica("10.0.0.11"), operationtest.Primary("10.0.0.10", "10.0.0.12")
			w.fleet["cache-redis-2"] = operationtest.Replica("10.0.0.11")
			w.d.Services[0].PodSelector = "cache-redis-1"
		}, nil, "primary-not-first", notice, "", "hands the primary back"},
		{"space unknown", func(w *world) { w.spaceErr = errors.New("no df"); w.d.Instances = w.d.Instances[:1] }, nil, "not-checked", notice, "", "no df"},
		{"unknown version", func(w *world) { w.starts = nil }, func(o *check.Options) {
			o.To, o.Image, o.Trial = "", "redis@sha256:abc", false
		}, "not-checked", notice, "", "holds no version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := healthy()
			c.change(w)
			r := w.report(t, c.options)
			f := find(t, r, c.code)
			assert.Equal(t, c.severity, f.Severity)
			assert.Equal(t, c.override, f.Override)
			assert.Contains(t, f.Message, c.says)
			assert.NotEmpty(t, f.Subject)
			assert.Equal(t, c.severity == notice, r.Ready, "%v", r.Findings)
			assert.NotContains(t, fmt.Sprintf("%+v", r), "hush", "a secret")
			assert.NotContains(t, fmt.Sprintf("%+v", r), "cfg_secret", "a secret")
		})
	}
}

// TestOverrides: each override lets exactly its blockers pass.
func TestOverrides(t *testing.T) {
	w := healthy()
	w.d.Workload.Manager = "Flux"
	w.preview.Immutable = []string{"spec.volumeClaimTemplates"}
	w.starts = []any{&check.PodError{Image: true, Reason: "ErrImagePull"}, &check.PodError{Image: true, Reason: "ErrImagePull"}}
	r := w.report(t, nil)
	assert.Len(t, r.Blockers(), 3)
	for _, f := range r.Blockers() {
		assert.NotEmpty(t, f.Override, f.Code)
	}
	w.specs = nil
	r = w.report(t, func(o *check.Options) {
		o.Overrides = check.Overrides{Managed: true, Recreate: true, Trial: true}
	})
	assert.Empty(t, r.Blockers())
	assert.False(t, r.Ready, "overridden is not resolved")
}

// TestWithoutReplicas: an only server loses what it does not keep on disk.
func TestWithoutReplicas(t *testing.T) {
	only := func() *world {
		w := healthy()
		w.d.Instances, w.d.Workload.Desired = w.d.Instances[:1], 1
		w.fleet["cache-redis-0"] = operationtest.Primary()
		return w
	}
	w := only()
	r := w.report(t, nil)
	assert.Equal(t, operation.Warning, find(t, r, "no-replica").Severity)
	assert.NotContains(t, codes(r), "data-loss")

	w = only()
	w.fleet["cache-redis-0"].Config["save"] = ""
	assert.NotContains(t, codes(w.report(t, nil)), "data-loss", "the upgrade lets it save")

	w = only()
	w.d.Workload.Volume.Kind = operation.VolumeNone
	f := find(t, w.report(t, nil), "data-loss")
	assert.Equal(t, operation.Critical, f.Severity)
	assert.Equal(t, "--allow-data-loss", f.Override)
	assert.Contains(t, f.Message, "10 keys")

	w = healthy()
	w.d.Workload.Volume.Kind = operation.VolumeNone
	r = w.report(t, nil)
	assert.True(t, r.Ready, "replicas copy the data: %v", r.Findings)
	assert.Contains(t, codes(r), "no-persistence")
	assert.NotContains(t, codes(r), "no-volume")
}

func TestSpace(t *testing.T) {
	w := healthy()
	w.free = 1 << 19
	r := w.report(t, nil)
	assert.False(t, r.Ready)
	var said int
	for _, f := range r.Findings {
		if f.Code == "space-short" {
			said++
			assert.Contains(t, f.Message, "512 KiB of 10.0 GiB free")
		}
	}
	assert.Equal(t, 3, said)
}

// TestUnknownDirectives: a server names the first that it does not know; one without the
// configuration is asked for all.
func TestUnknownDirectives(t *testing.T) {
	w := healthy()
	w.preview.Config = "save 900 1\nenable-debug-command yes\nlatency-tracking yes\nrename-command KEYS \"\"\n"
	w.starts = []any{
		&check.EndError{Reason: "Error, exit code 1", Log: []string{
			"*** FATAL CONFIG FILE ERROR (Redis 6.0.16) ***", "Reading the configuration file, at line 2",
			">>> 'enable-debug-command yes'", "Bad directive or wrong number of arguments",
		}},
		newTrial("6.0.16", 9),
	}
	r := w.report(t, func(o *check.Options) { o.To = "6.0.16" })
	assert.Equal(t, []string{"enable-debug-command", "latency-tracking"}, r.Trial.UnknownDirectives)
	assert.False(t, r.Trial.Started)
	assert.Equal(t, 9, r.Trial.RDBVersion)
	assert.True(t, r.Target.Observed)
	require.Len(t, w.specs, 2)
	assert.NotContains(t, w.specs[1].Config, "enable-debug-command")
	var subjects []string
	for _, f := range r.Findings {
		if f.Code == "config-unknown" {
			subjects = append(subjects, f.Subject)
			assert.Equal(t, "--allow-failed-trial", f.Override)
		}
	}
	assert.Equal(t, []string{"enable-debug-command", "latency-tracking"}, subjects)
	assert.NotContains(t, codes(r), "server-fails")
	assert.Contains(t, codes(r), "data-unreadable")
}

func TestWithoutTarget(t *testing.T) {
	w := healthy()
	r := w.report(t, func(o *check.Options) { o.To = "" })
	assert.True(t, r.Ready)
	assert.Nil(t, r.Target)
	assert.Nil(t, r.Trial)
	assert.Nil(t, r.Preview)
	assert.Empty(t, w.specs)

	// With a change of the values, the chart tells the image.
	r = w.report(t, func(o *check.Options) { o.To, o.Change.Values = "", map[string]any{"a": 1} })
	assert.Equal(t, "docker.io/library/redis:8.0.2", r.Target.Image)
	assert.Len(t, w.specs, 1)
}

func TestUsage(t *testing.T) {
	w := healthy()
	for _, change := range []func(*check.Options){
		func(o *check.Options) { o.Image = "redis:8" },
		func(o *check.Options) { o.To = "latest" },
		func(o *check.Options) { o.To, o.Image = "", "redis 8" },
	} {
		_, err := w.check(t, change)
		assert.Equal(t, operation.Usage, operation.KindOf(err), "%v", err)
	}
	w.d = &operation.Deployment{Name: "127.0.0.1:6379"}
	_, err := w.check(t, nil)
	assert.Equal(t, operation.Usage, operation.KindOf(err), "%v", err)
}

func TestDenied(t *testing.T) {
	w := healthy()
	for _, s := range w.fleet {
		s.Err = errDenied
	}
	_, err := w.check(t, nil)
	assert.Equal(t, operation.Denied, operation.KindOf(err))
}

// TestInterrupted: after Ctrl-C nothing is left, and nothing is reported as found.
func TestInterrupted(t *testing.T) {
	w := healthy()
	w.starts[0].(*trial).Hang = true
	ctx, cancel := context.WithCancel(t.Context())
	w.onStart = cancel
	c := check.Checker{
		Releases: w, Connector: w, Notes: w, Cluster: w, Trials: w, Reporter: operation.DiscardReporter{}, Now: func() time.Time { return w.now },
	}
	o := check.DefaultOptions()
	o.To = "8.0.2"
	_, err := c.Check(ctx, w.d, o)
	require.ErrorIs(t, err, context.Canceled)
	assert.Len(t, w.specs, 1)
	assert.Zero(t, w.open)
}

// TestPath goes ways between versions and looks at what they lead over.
func TestPath(t *testing.T) {
	const acl = "user worker on >hush ~* +@all\nuser reader on &* +@read\n"
	for _, c := range []struct {
		from, to string
		info     map[string]string
		config   string
		want     []string
	}{
		{"redis 7.0.14", "redis 7.0.15", nil, "", nil},
		{"redis 6.0.16", "redis 7.0.15", nil, "", []string{"way-back-needs-backup"}},
		{"redis 6.0.16", "redis 7.0.15", map[string]string{"aof_enabled": "1", "number_of_cached_scripts": "3"}, acl,
			[]string{"way-back-needs-backup", "acl-channels", "aof-layout", "scripts-stay"}},
		{"redis 6.2.0", "redis 7.0.15", nil, "acl-pubsub-default allchannels\n" + acl, []string{"way-back-needs-backup"}},
		{"redis 6.0.16", "redis 7.0.15", nil, "aclfile /data/users.acl\n", []string{"way-back-needs-backup", "acl-channels"}},
		{"redis 6.2.0", "redis 7.0.0", map[string]string{"cmdstat_debug": "calls=2,usec=1"}, "", []string{"way-back-needs-backup", "protected-commands"}},
		{"redis 7.0.15", "redis 7.2.5", map[string]string{"cmdstat_xreadgroup": "calls=5,usec=1", "cmdstat_eval": "calls=1,usec=1"}, acl,
			[]string{"way-back-needs-backup", "stream-consumers", "script-time"}},
		{"redis 7.2.5", "redis 7.4.0", nil, "", []string{"way-back-needs-backup", "licence"}},
		{"redis 7.4.0", "redis 8.0.2", nil, acl, []string{"acl-categories"}},
		{"redis 7.4.0", "redis 8.0.2", nil, "loadmodule /opt/redisearch.so\nloadmodule /opt/own.so\n", []string{"modules-included"}},
		{"redis 6.0.16", "redis 8.0.2", nil, "", []string{"way-back-needs-backup", "skips-major", "licence"}},
		{"redis 7.0.15", "valkey 8.1.1", nil, "", []string{"way-back-needs-backup", "product-changes"}},
		{"redis 6.0.16", "valkey 8.1.1", map[string]string{"aof_enabled": "1"}, "", []string{"way-back-needs-backup", "product-changes", "aof-layout"}},
		{"redis 7.2.5", "valkey 8.1.1", nil, acl, []string{"product-changes"}},
		{"redis 7.4.0", "valkey 8.1.1", nil, "", []string{"data-unreadable", "product-changes"}},
		{"redis 8.0.2", "valkey 9.0.0", nil, "", []string{"data-unreadable", "product-changes", "way-back-needs-backup"}},
		{"valkey 8.1.1", "redis 8.0.2", nil, "", []string{"product-changes", "way-back-needs-backup", "licence"}},
		{"valkey 8.1.1", "redis 7.0.15", nil, "", []string{"data-unreadable", "product-changes"}},
		{"valkey 9.0.0", "redis 8.0.2", nil, "", []string{"data-unreadable", "product-changes", "way-back-needs-backup", "licence"}},
		{"valkey 8.1.1", "valkey 9.0.0", nil, "", []string{"way-back-needs-backup"}},
		{"redis 7.0.15", "redis 6.0.16", nil, "", []string{"data-unreadable"}},
		{"redis 7.0.15", "redis 7.0.11", nil, "", []string{"downgrade"}},
		{"redis 8.0.2", "redis 7.4.0", nil, "", []string{"downgrade"}},
	} {
		t.Run(c.from+" to "+c.to, func(t *testing.T) {
			w := healthy()
			for _, s := range w.fleet {
				set(s, c.from)
				maps.Copy(s.Info, c.info)
			}
			if c.config != "" {
				w.configure(c.config)
			}
			product, number, _ := strings.Cut(c.to, " ")
			r := w.report(t, func(o *check.Options) { o.To, o.Image, o.Trial = "", product+":"+number, false })
			var got []string
			for _, f := range r.Findings {
				if !slices.Contains([]string{"aof-write-failed", "renamed-commands"}, f.Code) {
					got = append(got, f.Code)
				}
				assert.NotContains(t, f.Message, "hush")
			}
			assert.ElementsMatch(t, c.want, got, "%v", r.Findings)
			for _, f := range r.Findings {
				if f.Severity == operation.Critical {
					assert.Equal(t, "--allow-downgrade", f.Override)
				}
			}
		})
	}
}

// set makes a fake server one of a product and version.
func set(s *operationtest.Server, version string) {
	product, number, _ := strings.Cut(version, " ")
	s.Info["redis_version"] = number
	if product == "valkey" {
		s.Info["redis_version"], s.Info["valkey_version"] = "7.2.4", number
	}
}

func TestACLChannelsNamesTheUsers(t *testing.T) {
	w := healthy()
	for _, s := range w.fleet {
		set(s, "redis 6.2.0")
	}
	w.configure("user worker on ~* +@all\nuser reader on &* +@read\n")
	f := find(t, w.report(t, func(o *check.Options) { o.To, o.Image, o.Trial = "", "redis:7.0.15", false }), "acl-channels")
	assert.Equal(t, operation.Warning, f.Severity)
	assert.Contains(t, f.Message, "user worker of redis.conf")
}

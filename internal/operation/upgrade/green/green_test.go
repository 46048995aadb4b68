package green_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/operation/upgrade/green"
)

// world has two releases, and keeps what is done to it.
type world struct {
	deployments []operation.Deployment
	notes       map[string]map[string]string
	claims      []string
	preview     upgrade.Preview
	again       upgrade.Preview
	change      upgrade.Change
	done        []string
	install     error
}

func (w *world) Resolve(ctx context.Context, t operation.Target) (*operation.Deployment, error) {
	found, _ := w.List(ctx, t)
	if len(found) == 0 {
		return nil, errors.New("there is none")
	}
	return &found[0], nil
}

func (w *world) List(_ context.Context, t operation.Target) ([]operation.Deployment, error) {
	for _, d := range w.deployments {
		if d.Release == t.Release {
			return []operation.Deployment{d}, nil
		}
	}
	return nil, nil
}

func (w *world) Note(_ context.Context, d *operation.Deployment, key string) (string, error) {
	return w.notes[d.Release][key], nil
}

func (w *world) SetNotes(_ context.Context, d *operation.Deployment, notes map[string]string) error {
	if w.notes[d.Release] == nil {
		w.notes[d.Release] = map[string]string{}
	}
	maps.Copy(w.notes[d.Release], notes)
	return nil
}

func (w *world) History(context.Context, *operation.Deployment) ([]upgrade.Revision, error) {
	return []upgrade.Revision{{Number: 1, Status: "deployed"}}, nil
}

func (w *world) WithImage(_ context.Context, _ *operation.Deployment, c upgrade.Change, _ string) (upgrade.Change, error) {
	return c, nil
}

func (w *world) Preview(_ context.Context, _ *operation.Deployment, c upgrade.Change) (upgrade.Preview, error) {
	if c.Values == nil {
		return w.again, nil
	}
	w.change = c
	return w.preview, nil
}

func (w *world) Upgrade(context.Context, *operation.Deployment, upgrade.Change) (upgrade.Revision, error) {
	return upgrade.Revision{}, errors.New("the first release is never upgraded")
}

func (w *world) Settle(context.Context, *operation.Deployment) error { return nil }

func (w *world) Install(_ context.Context, _ *operation.Deployment, name, _ string, _ upgrade.Change) (upgrade.Revision, error) {
	w.done = append(w.done, "install "+name)
	w.claims = []string{"data-" + name + "-0"}
	return upgrade.Revision{Number: 1}, w.install
}

func (w *world) Uninstall(_ context.Context, _, name string) error {
	w.done = append(w.done, "uninstall "+name)
	return nil
}

func (w *world) Routes(_ context.Context, _ *operation.Deployment, from, to string) ([]green.Route, []string, error) {
	return []green.Route{{
		Service: "cache-redis", Port: 6379, Blue: map[string]string{"pod": from}, Green: map[string]string{"pod": to},
	}}, []string{"cache-redis-any"}, nil
}

func (w *world) Reroute(context.Context, *operation.Deployment, string, map[string]string, map[string]string) error {
	return nil
}

func (w *world) Claims(_ context.Context, _, release string) ([]string, error) {
	if release != "cache-green" {
		return nil, errors.New("only those of the second release are anybody's business")
	}
	return w.claims, nil
}

func (w *world) DeleteClaim(_ context.Context, _ *operation.Deployment, name string) error {
	w.done = append(w.done, "delete claim "+name)
	return nil
}

func (w *world) LastLines(context.Context, *operation.Deployment, operation.Instance, int) ([]string, error) {
	return nil, nil
}

const limit = time.Second

// blueGreen are a release with a replica, and a second one whose first server follows the
// first one's primary.
func blueGreen() (*world, operationtest.Fleet) {
	blue, second := operationtest.Deployment(2), operationtest.Deployment(2)
	second.Release, second.Name = "cache-green", "cache-green-redis"
	second.Workload.Name, second.Workload.ServiceName = "cache-green-redis", "cache-green-redis-headless"
	for i := range second.Instances {
		second.Instances[i].Name = strings.Replace(second.Instances[i].Name, "cache-", "cache-green-", 1)
		second.Instances[i].Host = strings.Replace(second.Instances[i].Host, "10.0.0.", "10.0.1.", 1)
	}
	return &world{
			deployments: []operation.Deployment{*blue, *second},
			notes:       map[string]map[string]string{},
			preview:     upgrade.Preview{Image: "redis:8.0.2"},
		}, operationtest.Fleet{
			"cache-redis-0":       operationtest.Primary("10.0.0.11", "10.0.1.10"),
			"cache-redis-1":       operationtest.Replica("10.0.0.10"),
			"cache-green-redis-0": operationtest.Replica("cache-redis-0.cache-redis-headless.prod.svc"),
			"cache-green-redis-1": operationtest.Replica("10.0.1.10"),
		}
}

func (w *world) operation(fleet operationtest.Fleet) green.Green {
	return green.Green{
		Resolver: w, Connector: fleet, Locker: operation.Held{}, Notes: w, Releases: w, Cluster: w,
		Failover: failover.Failover{Connector: fleet, Reporter: operation.DiscardReporter{}, Now: time.Now},
		Reporter: operation.DiscardReporter{}, Now: time.Now, By: "test",
	}
}

func options() green.Options {
	return green.Options{MaxLag: 100, Limits: green.Limits{Limits: failover.Limits{Timeout: limit, Settle: limit}, Start: limit, Pull: limit}}
}

func codes(findings []operation.Finding) []string {
	var found []string
	for _, f := range findings {
		if f.Blocks() {
			found = append(found, f.Code)
		}
	}
	return found
}

func TestWhatStandsInTheWay(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(w *world)
		want    []string
	}{
		"nothing":  {func(*world) {}, nil},
		"its name": {func(w *world) { w.deployments = append(w.deployments, operation.Deployment{Release: "cache-green"}) }, []string{"release-exists"}},
		"old data": {func(w *world) { w.claims = []string{"data-cache-green-redis-0"} }, []string{"claims-exist"}},
		"a shared claim": {func(w *world) {
			w.preview.Workload = []byte(`{"spec":{"template":{"spec":{"volumes":[{"persistentVolumeClaim":{"claimName":"mine"}}]}}}}`)
		}, []string{"shared-claim"}},
		"another password": {func(w *world) {
			w.deployments[0].Credentials = operation.CredentialSource{Kind: "secret", Secret: "cache-redis"}
			w.again.Objects = []upgrade.ObjectChange{{Kind: "Secret", Name: "cache-redis", Action: "changed"}}
		}, []string{"password-generated"}},
		"a second release": {func(w *world) { w.notes["cache"] = map[string]string{operation.NoteGreen: "{}"} }, []string{"unfinished-upgrade"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, fleet := blueGreen()
			w.deployments = w.deployments[:1]
			c.prepare(w)
			plan, err := w.operation(fleet).Plan(t.Context(), &w.deployments[0], options())
			require.NoError(t, err)
			assert.Equal(t, c.want, codes(plan.Findings))
			assert.Equal(t, "cache-redis-0", plan.Primary)
			assert.Empty(t, w.done, "planning changes nothing")
		})
	}
}

// TestNamesAreNotShared: what names objects of the first release is not taken over, unless
// the user says so.
func TestNamesAreNotShared(t *testing.T) {
	w, fleet := blueGreen()
	w.deployments = w.deployments[:1]
	w.deployments[0].Workload.Volume.Kind = operation.VolumeExistingClaim
	o := options()
	o.Change.Values = map[string]any{"persistence": map[string]any{"size": "1Gi"}, "fullnameOverride": "other"}
	_, err := w.operation(fleet).Plan(t.Context(), &w.deployments[0], o)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{
		"persistence": map[string]any{"size": "1Gi", "existingClaim": ""}, "fullnameOverride": "other",
	}, w.change.Values)
}

// TestFailedInstallLeavesNothing: the release that Helm could not make is removed, with
// the claims that it had already.
func TestFailedInstallLeavesNothing(t *testing.T) {
	w, fleet := blueGreen()
	w.deployments = w.deployments[:1]
	w.install = errors.New("quota exceeded")
	op := w.operation(fleet)
	plan, err := op.Plan(t.Context(), &w.deployments[0], options())
	require.NoError(t, err)
	_, err = op.Apply(t.Context(), plan)
	assert.ErrorContains(t, err, "quota exceeded")
	assert.Equal(t, []string{"install cache-green", "uninstall cache-green", "delete claim data-cache-green-0"}, w.done)
	assert.Empty(t, w.notes["cache"][operation.NoteGreen])
}

func record(phase string) map[string]string {
	return map[string]string{operation.NoteGreen: `{"green":"cache-green","primary":"cache-redis-0","phase":"` + phase + `"}`}
}

// TestCutoverIsOneSwitch: its plan has the servers of both releases.
func TestCutoverIsOneSwitch(t *testing.T) {
	w, fleet := blueGreen()
	w.notes["cache"] = record("ready")
	o := green.SwitchOptions{Options: failover.DefaultOptions()}
	plan, err := w.operation(fleet).PlanSwitch(t.Context(), &w.deployments[0], o)
	require.NoError(t, err)
	assert.Empty(t, codes(plan.Findings))
	assert.Equal(t, "upgrade cutover", plan.Operation)
	assert.Equal(t, "cache-redis-0", plan.From)
	assert.Equal(t, "cache-green-redis-0", plan.To)
	assert.Equal(t, []string{"cache-redis-1", "cache-green-redis-1"}, plan.Followers)
	assert.Equal(t, []string{"cache-redis"}, plan.Services)
	var left []string
	for _, f := range plan.Findings {
		if f.Code == "service-stays" {
			left = append(left, f.Subject)
		}
	}
	assert.Equal(t, []string{"cache-redis-any"}, left)
}

// TestNoWayBack: a failback that would lose writes says how many.
func TestNoWayBack(t *testing.T) {
	serving := func() operationtest.Fleet {
		return operationtest.Fleet{
			"cache-green-redis-0": operationtest.Primary().Set(map[string]string{
				"master_replid": strings.Repeat("b", 40), "master_repl_offset": "5000",
				"master_replid2": strings.Repeat("a", 40), "second_repl_offset": "1001",
			}),
			"cache-green-redis-1": operationtest.Replica("10.0.1.10"),
			"cache-redis-0":       operationtest.Replica("10.0.1.10"),
			"cache-redis-1":       operationtest.Replica("10.0.0.10"),
		}
	}
	for name, c := range map[string]struct {
		server *operationtest.Server
		says   []string
	}{
		"its link is down": {
			operationtest.Replica("10.0.1.10").Set(map[string]string{"master_link_status": "down"}),
			[]string{"its link is down", "3.9 KiB of writes"},
		},
		"the same history": {
			operationtest.Replica("10.0.1.10").Set(map[string]string{
				"master_link_status": "down", "master_replid": strings.Repeat("b", 40), "slave_repl_offset": "4990", "master_repl_offset": "4990",
			}),
			[]string{"10 B of writes"},
		},
		"it has restarted": {operationtest.Primary(), []string{"it is a primary of its own"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := blueGreen()
			w.notes["cache"] = record("serving")
			fleet := serving()
			fleet["cache-redis-0"] = c.server
			_, err := w.operation(fleet).PlanSwitch(t.Context(), &w.deployments[0], green.SwitchOptions{Options: failover.DefaultOptions(), Back: true})
			require.Error(t, err)
			assert.Equal(t, operation.Refused, operation.KindOf(err))
			for _, text := range append(c.says, "would be lost") {
				assert.ErrorContains(t, err, text)
			}
		})
	}
}

func TestPhasesOfASwitch(t *testing.T) {
	for _, c := range []struct {
		phase string
		back  bool
		says  string
	}{
		{"ready", true, "no cutover was made"},
		{"serving", false, "cache-green serves already"},
		{"switching", false, "it was interrupted while switching"},
		{"syncing", false, "it was interrupted while syncing"},
	} {
		w, fleet := blueGreen()
		w.notes["cache"] = record(c.phase)
		_, err := w.operation(fleet).PlanSwitch(t.Context(), &w.deployments[0], green.SwitchOptions{Options: failover.DefaultOptions(), Back: c.back})
		assert.ErrorContains(t, err, c.says)
		assert.Equal(t, operation.Refused, operation.KindOf(err), c.phase)
	}
}

func TestAbortAndFinish(t *testing.T) {
	w, fleet := blueGreen()
	op := w.operation(fleet)
	_, err := op.Abort(t.Context(), &w.deployments[0])
	assert.ErrorContains(t, err, "there is no second release")

	w.notes["cache"] = record("serving")
	_, err = op.Abort(t.Context(), &w.deployments[0])
	assert.ErrorContains(t, err, "removing it would remove the data")
	assert.Empty(t, w.done)
	finished, err := op.Finish(t.Context(), &w.deployments[0])
	require.NoError(t, err)
	assert.Equal(t, green.OutcomeFinished, finished.Outcome)
	assert.Empty(t, w.notes["cache"][operation.NoteGreen])

	w.notes["cache"], w.claims = record("ready"), []string{"data-cache-green-redis-0"}
	_, err = op.Finish(t.Context(), &w.deployments[0])
	assert.ErrorContains(t, err, "does not serve")
	removed, err := op.Abort(t.Context(), &w.deployments[0])
	require.NoError(t, err)
	assert.Equal(t, w.claims, removed.Claims)
	assert.Equal(t, []string{"uninstall cache-green", "delete claim data-cache-green-redis-0"}, w.done)
}

func TestStatus(t *testing.T) {
	w, fleet := blueGreen()
	op := w.operation(fleet)
	none, err := op.Status(t.Context(), &w.deployments[0], failover.DefaultLimits())
	require.NoError(t, err)
	assert.Nil(t, none)
	w.notes["cache"] = record("ready")
	delete(fleet, "cache-green-redis-1")
	status, err := op.Status(t.Context(), &w.deployments[0], failover.DefaultLimits())
	require.NoError(t, err)
	assert.Equal(t, []string{"cache-redis-0"}, status.Primaries)
	assert.Equal(t, "cache-redis-0", status.Servers[2].Follows)
	assert.Equal(t, "cache-green", status.Servers[2].Release)
	assert.Contains(t, status.Servers[3].Error, "connection refused")
}

// Package settings shows what every server of a deployment is configured with, and how
// that came about: what the chart asks for, what the pod's own file says, and what was
// set since (CONFIG SET).
package settings

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/operation/redact"
	"github.com/redisctl/redisctl/internal/redis"
)

// Report is what the servers run with. Its JSON form is part of redisctl's interface
// (docs/json-output.md). Secrets are never in it.
type Report struct {
	Namespace string                              `json:"namespace,omitempty"`
	Release   string                              `json:"release,omitempty"`
	Name      string                              `json:"name"`
	Instances []inspect.Answer[map[string]string] `json:"instances"`
	// Differing are the settings that are not the same on all instances that answered:
	// also secrets, whose values are not shown. Sorted.
	Differing []string `json:"differing"`
}

// Read asks every server for the settings that match pattern, as CONFIG GET takes it.
func Read(
	ctx context.Context, connector operation.Connector, d *operation.Deployment, pattern string, timeout time.Duration,
) Report {
	answers := ask(ctx, connector, d, pattern, timeout)
	r := Report{Namespace: d.Namespace, Release: d.Release, Name: d.Name, Differing: differing(answers)}
	var m redact.Mask
	for range 2 { // a secret may be met where nothing names it before it is known
		r.Instances = r.Instances[:0]
		for _, a := range answers {
			masked := a
			masked.Value = nil
			if a.Err == nil {
				masked.Value = make(map[string]string, len(a.Value))
				for _, name := range slices.Sorted(maps.Keys(a.Value)) {
					masked.Value[name] = m.Setting(name, a.Value[name])
				}
			}
			r.Instances = append(r.Instances, masked)
		}
	}
	return r
}

func ask(
	ctx context.Context, connector operation.Connector, d *operation.Deployment, pattern string, timeout time.Duration,
) []inspect.Answer[map[string]string] {
	return inspect.Each(ctx, connector, d, timeout, func(ctx context.Context, s operation.Server) (map[string]string, error) {
		return configGet(ctx, s, pattern)
	})
}

// answered is what one server says of its configuration.
type answered struct {
	settings map[string]string
	file     string // the path of its redis.conf; empty when it has none
}

func configGet(ctx context.Context, s operation.Server, pattern string) (map[string]string, error) {
	found, err := s.ConfigGet(ctx, pattern)
	if errors.Is(err, operation.ErrNoCommand) {
		return nil, &operation.Error{
			Kind: operation.Unsupported, Phase: "CONFIG GET", Err: err,
			Next: "CONFIG is disabled (rename-command): look at the ConfigMap, or at the file in the pod",
		}
	}
	return found, err
}

// differing returns the settings that are not the same everywhere. What follows from the
// place of an instance in the topology differs by design, and is left out.
func differing(answers []inspect.Answer[map[string]string]) []string {
	seen := make(map[string]string)
	differs := make(map[string]bool)
	answered := 0
	for _, a := range answers {
		if a.Err != nil {
			continue
		}
		answered++
		for name, value := range a.Value {
			if before, ok := seen[name]; ok && before != value || !ok && answered > 1 {
				differs[name] = true
			}
			seen[name] = value
		}
		for name := range seen {
			if _, ok := a.Value[name]; !ok {
				differs[name] = true
			}
		}
	}
	for _, own := range []string{"replicaof", "slaveof"} {
		delete(differs, own)
	}
	return slices.Sorted(maps.Keys(differs))
}

// Files reads files of instances.
type Files interface {
	// ReadText returns a file of at most limit bytes. An error matching fs.ErrNotExist
	// says that there is none.
	ReadText(ctx context.Context, d *operation.Deployment, i operation.Instance, path string, limit int64) (string, error)
}

// The causes of a Drift.
const (
	// CauseSet: the server runs with something else than its file says. CONFIG SET did
	// that, or a command that changes settings, such as REPLICAOF; a restart undoes it.
	CauseSet = "set"
	// CauseRestart: the chart asks for something else than the pod's file says. The pod
	// was started before; a restart brings it.
	CauseRestart = "restart"
	// CauseBoth: all three differ.
	CauseBoth = "both"
)

// Drift is a setting that is not what it was meant to be. A value that is not given
// there is nil.
type Drift struct {
	Setting string `json:"setting"`
	// Chart is what the release's redis.conf asks for, File what the pod's own file says
	// (nil also where it could not be read), Running what CONFIG GET says.
	Chart   *string `json:"chart,omitempty"`
	File    *string `json:"file,omitempty"`
	Running string  `json:"running"`
	// Cause is "set", "restart" or "both".
	Cause string `json:"cause"`
}

// InstanceDrift is how far one server is from its files.
type InstanceDrift struct {
	// File is the path of the pod's own file; empty when it was started without one.
	File string `json:"file,omitempty"`
	// Problem is why that file could not be read: the server is then compared with the
	// chart's redis.conf.
	Problem string  `json:"problem,omitempty"`
	Drifts  []Drift `json:"drifts"`
	// NotCompared are settings of the files that are written in another form than the
	// server shows them.
	NotCompared []string `json:"notCompared"`
}

// DriftReport compares what runs with the files. Its JSON form is part of redisctl's
// interface (docs/json-output.md).
type DriftReport struct {
	Namespace string                          `json:"namespace,omitempty"`
	Release   string                          `json:"release,omitempty"`
	Name      string                          `json:"name"`
	Instances []inspect.Answer[InstanceDrift] `json:"instances"`
}

// confLimit is the longest redis.conf that is read, in bytes.
const confLimit = 1 << 20

// Compare asks every server for its settings and its file, and compares them with the
// chart's redis.conf. Only settings that match pattern (with * and ?) are looked at. What
// is in no file cannot be judged: the server does not tell its defaults.
func Compare(
	ctx context.Context, connector operation.Connector, files Files, d *operation.Deployment, pattern string, timeout time.Duration,
) (DriftReport, error) {
	r := DriftReport{Namespace: d.Namespace, Release: d.Release, Name: d.Name}
	if d.Workload == nil {
		return r, &operation.Error{
			Kind: operation.Usage, Object: d.String(), Phase: "--diff",
			Err:  errors.New("there is no chart behind a plain address to compare with"),
			Next: "name a release with -n and -r",
		}
	}
	running := inspect.Each(ctx, connector, d, timeout, func(ctx context.Context, s operation.Server) (answered, error) {
		info, err := s.Info(ctx, "server")
		if err != nil {
			return answered{}, err
		}
		found, err := configGet(ctx, s, "*")
		return answered{settings: found, file: info.Get("config_file")}, err
	})
	var m redact.Mask
	for _, a := range running { // learn all secrets before anything is shown
		for name, value := range a.Value.settings {
			m.Setting(name, value)
		}
	}
	for i, a := range running {
		answer := inspect.Answer[InstanceDrift]{Instance: a.Instance, Err: a.Err, Error: a.Error}
		if a.Err == nil {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			answer.Value = compareOne(ctx, files, d, d.Instances[i], a.Value.file, a.Value.settings, pattern, &m)
			cancel()
		}
		r.Instances = append(r.Instances, answer)
	}
	return r, nil
}

func compareOne(
	ctx context.Context, files Files, d *operation.Deployment, i operation.Instance, path string, running map[string]string,
	pattern string, m *redact.Mask,
) InstanceDrift {
	found := InstanceDrift{File: path, Drifts: []Drift{}, NotCompared: []string{}}
	own, err := readOwn(ctx, files, d, i, path)
	if err != nil {
		found.Problem = err.Error()
	}
	for _, name := range namesIn(own, d.Config) {
		value, ok := running[name]
		if !ok || !redis.MatchGlob(pattern, []byte(name)) {
			continue
		}
		chart, inChart, exact := backup.WantedSetting(d.Config, name)
		if !exact {
			found.NotCompared = append(found.NotCompared, name)
			continue
		}
		drift := Drift{Setting: name, Running: m.Setting(name, value)}
		if inChart {
			text := m.Setting(name, chart)
			drift.Chart = &text
		}
		wanted, given := chart, inChart
		restart := false
		if own != nil {
			wanted, given, _ = backup.WantedSetting(*own, name)
			if given {
				text := m.Setting(name, wanted)
				drift.File = &text
			}
			restart = inChart && (!given || !backup.SameSetting(chart, wanted))
		}
		set := given && !backup.SameSetting(value, wanted)
		switch {
		case set && restart:
			drift.Cause = CauseBoth
		case set:
			drift.Cause = CauseSet
		case restart:
			drift.Cause = CauseRestart
		default:
			continue
		}
		found.Drifts = append(found.Drifts, drift)
	}
	return found
}

// namesIn lists the settings that files give, sorted.
func namesIn(own *redis.Config, chart redis.Config) []string {
	names := make(map[string]bool)
	for _, c := range []*redis.Config{own, &chart} {
		if c == nil {
			continue
		}
		for _, directive := range c.Directives() {
			names[directive.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// readOwn reads the file that the server was started with.
func readOwn(ctx context.Context, files Files, d *operation.Deployment, i operation.Instance, path string) (*redis.Config, error) {
	if path == "" {
		return nil, errors.New("the server was started without a file")
	}
	text, err := files.ReadText(ctx, d, i, path, confLimit)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	conf, err := redis.ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &conf, nil
}

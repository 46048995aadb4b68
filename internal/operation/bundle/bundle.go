// Package bundle gathers what somebody needs who helps from afar: an archive of facts
// about a deployment, without its secrets and without its data.
//
// What may be secret is left out where that is possible: values of environment variables,
// annotations, arguments of slow commands, names that clients gave themselves, ACL rules.
// What cannot be left out is searched for every secret that is known: those of the
// release's Secrets, its values, its settings and its ACL users.
package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/events"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/logs"
	"github.com/redisctl/redisctl/internal/operation/redact"
	"github.com/redisctl/redisctl/internal/operation/replication"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// Options are the user's choices.
type Options struct {
	// Timeout bounds each answer, MaxTime everything.
	Timeout, MaxTime time.Duration
	// LogLines is how many of the last lines of each container's log are kept.
	LogLines int64
	// FileLimit bounds each file, in bytes; what is longer loses its beginning.
	FileLimit int
}

// DefaultOptions keep an archive of a large release within some MiB.
func DefaultOptions() Options {
	return Options{Timeout: 5 * time.Second, MaxTime: 2 * time.Minute, LogLines: 5000, FileLimit: 4 << 20}
}

// Collector gathers. Objects, Events and Logs are nil for plain addresses.
type Collector struct {
	Connector operation.Connector
	Objects   backup.Objects
	Events    events.Source
	Logs      logs.Source
	// Password reads the deployment's password; nil when there is none to learn.
	Password func(ctx context.Context, d *operation.Deployment) (string, error)
	Reporter operation.Reporter
	Now      func() time.Time
	// Build describes redisctl; it goes into the archive as it is.
	Build any
}

// File is a file of the archive.
type File struct {
	Name string `json:"name"`
	// What it holds, for people.
	What  string `json:"what"`
	Bytes int    `json:"bytes"`
	// Truncated is set when its beginning was left out.
	Truncated bool `json:"truncated,omitempty"`

	content []byte
}

// Missing is what could not be gathered.
type Missing struct {
	Part   string `json:"part"`
	Reason string `json:"reason"`
}

// Manifest lists what an archive holds. Its JSON form is part of redisctl's interface
// (docs/json-output.md), and the archive's manifest.json.
type Manifest struct {
	TakenAt   time.Time `json:"takenAt"`
	Namespace string    `json:"namespace,omitempty"`
	Release   string    `json:"release,omitempty"`
	Name      string    `json:"name"`
	Files     []File    `json:"files"`
	Missing   []Missing `json:"missing"`
}

// Partial returns an *operation.Error of kind Partial when something is missing.
func (m Manifest) Partial() error {
	if len(m.Missing) == 0 {
		return nil
	}
	return operation.Errorf(operation.Partial, "%d parts could not be gathered", len(m.Missing))
}

// Plan lists the files that Collect would try to gather.
func (c Collector) Plan(d *operation.Deployment) Manifest {
	g := c.gathering(d, Options{})
	m := g.manifest
	for _, part := range g.parts() {
		for _, f := range part.files {
			m.Files = append(m.Files, File{Name: f, What: part.what})
		}
	}
	return m
}

// Collect gathers everything that can be had before o.MaxTime. What is missing is in the
// manifest; the error is not nil only when the caller's context ended.
func (c Collector) Collect(parent context.Context, d *operation.Deployment, o Options) (Manifest, error) {
	ctx, cancel := context.WithTimeoutCause(parent, o.MaxTime, fmt.Errorf("%w: gathering took longer than %s", context.DeadlineExceeded, o.MaxTime))
	defer cancel()
	g := c.gathering(d, o)
	g.learn(ctx)
	for _, part := range g.parts() {
		if err := context.Cause(parent); err != nil {
			return Manifest{}, err
		}
		if err := context.Cause(ctx); err != nil {
			g.missing(part.name, err)
			continue
		}
		c.Reporter.Step("gathering %s", part.name)
		if err := part.gather(ctx); err != nil {
			g.missing(part.name, err)
		}
	}
	g.finish()
	return g.manifest, nil
}

// part is one thing to gather, into one or several files.
type part struct {
	name, what string
	files      []string
	gather     func(context.Context) error
}

// gathering is one run.
type gathering struct {
	Collector
	d        *operation.Deployment
	o        Options
	mask     redact.Mask
	manifest Manifest
	// blind says why not all secrets are known: free text then stays out.
	blind error
	// objects are those of the release, without Secrets.
	objects    []backup.Resource
	objectsErr error
	helm       *backup.HelmRelease
	helmErr    error
}

func (c Collector) gathering(d *operation.Deployment, o Options) *gathering {
	return &gathering{Collector: c, d: d, o: o, manifest: Manifest{
		TakenAt: c.Now().UTC().Truncate(time.Second), Namespace: d.Namespace, Release: d.Release, Name: d.Name,
		Files: []File{}, Missing: []Missing{},
	}}
}

func (g *gathering) parts() []part {
	parts := []part{
		{"version", "redisctl's version", []string{"redisctl.json"}, func(context.Context) error {
			return g.addJSON("redisctl.json", "redisctl's version", g.Build)
		}},
		{"health", "what redisctl health says", []string{"health.json"}, g.health},
		{"replication", "who follows whom", []string{"replication.json"}, g.replication},
	}
	for _, i := range g.d.Instances {
		at := "instances/" + i.Name + "/"
		parts = append(parts, part{
			"instance " + i.Name, "INFO, settings, slow commands and clients of " + i.Name,
			[]string{at + "info.json", at + "config.json", at + "slowlog.json", at + "clients.json"},
			func(ctx context.Context) error { return g.instance(ctx, i, at) },
		})
	}
	if g.d.Workload == nil {
		return parts
	}
	parts = append(parts,
		part{"events", "what the cluster has reported", []string{"events.json"}, g.events},
		part{"objects", "the release's objects, without Secrets", []string{"objects.yaml"}, g.resources},
		part{"values", "the Helm release and its values", []string{"helm.json"}, func(context.Context) error {
			if g.helmErr != nil {
				return g.helmErr
			}
			return g.addJSON("helm.json", "the Helm release and its values", g.helm)
		}},
	)
	for _, i := range g.d.Instances {
		for _, previous := range []bool{false, true} {
			name, what := "logs/"+i.Name+".log", "the last lines of the log of "+i.Name
			if previous {
				if i.Pod == nil || i.Pod.Restarts == 0 {
					continue
				}
				name, what = "logs/"+i.Name+".previous.log", "the last lines of the log of "+i.Name+" before it was restarted"
			}
			parts = append(parts, part{"log " + i.Name, what, []string{name}, func(ctx context.Context) error {
				return g.log(ctx, i, previous, name, what)
			}})
		}
	}
	return parts
}

func (g *gathering) missing(name string, err error) {
	g.manifest.Missing = append(g.manifest.Missing, Missing{Part: name, Reason: err.Error()})
	g.Reporter.Warn("%s is not included: %s", name, g.mask.Text(err.Error()))
}

func (g *gathering) add(name, what string, content []byte) {
	g.manifest.Files = append(g.manifest.Files, File{Name: name, What: what, content: content})
}

func (g *gathering) addJSON(name, what string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	g.add(name, what, append(text, '\n'))
	return nil
}

// finish searches everything once more: a secret may have been learnt after a file was
// written.
func (g *gathering) finish() {
	for i := range g.manifest.Files {
		f := &g.manifest.Files[i]
		f.content = []byte(g.mask.Text(string(f.content)))
		// Only now: half a secret would not be found.
		if excess := len(f.content) - g.o.FileLimit; g.o.FileLimit > 0 && excess > 0 {
			f.content, f.Truncated = f.content[excess:], true
		}
		f.Bytes = len(f.content)
		f.What = g.mask.Text(f.What)
	}
	for i := range g.manifest.Missing {
		g.manifest.Missing[i].Reason = g.mask.Text(g.manifest.Missing[i].Reason)
	}
	slices.SortStableFunc(g.manifest.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
}

func (g *gathering) health(ctx context.Context) error {
	o := health.DefaultOptions()
	o.Timeout = g.o.Timeout
	report, err := health.Check(ctx, g.Connector, g.d, g.Now(), o)
	if err != nil {
		return err
	}
	return g.addJSON("health.json", "what redisctl health says", report)
}

func (g *gathering) replication(ctx context.Context) error {
	t := topology.Observe(ctx, g.Connector, g.d, g.o.Timeout)
	if err := t.Denied(); err != nil {
		return err
	}
	o := health.DefaultOptions()
	o.Timeout = g.o.Timeout
	return g.addJSON("replication.json", "who follows whom", replication.Describe(&t, o))
}

func (g *gathering) events(ctx context.Context) error {
	if g.blind != nil {
		return g.blind
	}
	ctx, cancel := context.WithTimeout(ctx, g.o.Timeout)
	defer cancel()
	list, err := g.Events.Events(ctx, g.d)
	if err != nil {
		return err
	}
	return g.addJSON("events.json", "what the cluster has reported", list)
}

// log reads the last lines of a log.
func (g *gathering) log(ctx context.Context, i operation.Instance, previous bool, name, what string) error {
	if g.blind != nil {
		return g.blind
	}
	ctx, cancel := context.WithTimeout(ctx, 2*g.o.Timeout)
	defer cancel()
	var text strings.Builder
	full := errors.New("it is long enough")
	err := g.Logs.StreamLog(ctx, g.d, logs.Request{
		Pod: i.Name, Container: g.d.Workload.Container, Tail: g.o.LogLines, Previous: previous,
	}, func(at time.Time, line string) error {
		if text.Len() > 4*g.o.FileLimit {
			return full
		}
		fmt.Fprintf(&text, "%s %s\n", at.UTC().Format(time.RFC3339), g.mask.Prose(line))
		return nil
	})
	if text.Len() > 0 || err == nil {
		g.add(name, what, []byte(text.String()))
	}
	if errors.Is(err, full) {
		return nil
	}
	return err
}

package backup

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/redact"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// HelmRelease is what Helm has on record of a release.
type HelmRelease struct {
	Name     string `json:"name"`
	Revision int    `json:"revision"`
	Status   string `json:"status"`
	// Chart and AppVersion are the chart's name-version and the version of what it
	// installs.
	Chart      string `json:"chart"`
	AppVersion string `json:"appVersion,omitempty"`
	// Values are those that the user gave, not the chart's defaults.
	Values map[string]any `json:"values"`
}

// Objects reads what a cluster knows of a release. Plain addresses have none.
type Objects interface {
	// HelmRelease returns the deployed revision of the release. An *Error of kind
	// Denied says that the user may not read it; one matching fs.ErrNotExist, that
	// Helm has no record of it.
	HelmRelease(ctx context.Context, d *operation.Deployment) (*HelmRelease, error)
	// Resources returns the objects of the release, in the order in which they can be
	// applied. Secrets are left out unless asked for.
	Resources(ctx context.Context, d *operation.Deployment, secrets bool) (Resources, error)
}

// ConfigDocument is the contents of a file of kind snapshot.FileConfig.
type ConfigDocument struct {
	TakenAt   time.Time `json:"takenAt"`
	Namespace string    `json:"namespace,omitempty"`
	Release   string    `json:"release,omitempty"`
	// SecretsIncluded is false when Placeholder stands where secrets were.
	SecretsIncluded bool `json:"secretsIncluded"`
	// RedisConf are the lines of the chart's redis.conf, without comments.
	RedisConf []string `json:"redisConf"`
	// Helm is nil where HelmProblem says why.
	Helm        *HelmRelease `json:"helm,omitempty"`
	HelmProblem string       `json:"helmProblem,omitempty"`
	// Instances are all servers, also those that did not answer.
	Instances []InstanceConfig `json:"instances"`
}

// InstanceConfig is the configuration that one server runs with.
type InstanceConfig struct {
	Instance string `json:"instance"`
	Role     string `json:"role,omitempty"`
	Version  string `json:"version,omitempty"`
	// Problem is why there are no settings.
	Problem string `json:"problem,omitempty"`
	// Settings is the reply to CONFIG GET *.
	Settings map[string]string `json:"settings,omitempty"`
	// Users is the reply to ACL LIST, if it is allowed.
	Users []string `json:"users,omitempty"`
	// Differences are the settings that are not what redis.conf asks for.
	Differences []Difference `json:"differences"`
}

// Difference is a setting that a server runs with, and what redis.conf asks for.
type Difference struct {
	Setting string `json:"setting"`
	Running string `json:"running"`
	Wanted  string `json:"wanted"`
}

// SetOptions are the user's choices for a backup of what is not data.
type SetOptions struct {
	// Secrets includes passwords, which needs an encoding with recipients.
	Secrets bool
	// Timeout bounds each answer of a server.
	Timeout time.Duration
}

// Config backs up configurations. All fields are required.
type Config struct {
	Connector operation.Connector
	Objects   Objects
	Store     storage.Store
	Encoding  codec.Encoding
	Reporter  operation.Reporter
	Now       func() time.Time
	// Version of redisctl, for the manifest.
	Version string
}

// checkSecrets refuses to store secrets in the clear.
func checkSecrets(o SetOptions, e codec.Encoding) error {
	if o.Secrets && len(e.Recipients) == 0 {
		return &operation.Error{
			Kind: operation.Usage, Phase: "--include-secrets", Err: errors.New("secrets are stored only encrypted"),
			Next: "add --encrypt-to, --recipients-file or a passphrase",
		}
	}
	return nil
}

// Run backs up the configuration of d and returns the manifest, what was stored, and
// the folder that it is in.
func (b Config) Run(ctx context.Context, d *operation.Deployment, o SetOptions) (*snapshot.Manifest, *ConfigDocument, string, error) {
	if err := checkSecrets(o, b.Encoding); err != nil {
		return nil, nil, "", err
	}
	begun := b.Now()
	t := topology.Observe(ctx, b.Connector, d, o.Timeout)
	if err := t.Denied(); err != nil {
		return nil, nil, "", err
	}
	source, err := anyMember(&t)
	if err != nil {
		return nil, nil, "", err
	}
	dir, err := Folder(d, source.Name)
	if err != nil {
		return nil, nil, "", &operation.Error{Kind: operation.Usage, Object: d.String(), Phase: "naming the backup's folder", Err: err}
	}
	set, err := snapshot.CreateSet(b.Store, dir, snapshot.KindConfig, snapshot.CreateOptions{
		Version: b.Version, Source: describe(d, source, "config", ""), Begun: begun, Now: b.Now, Encoding: b.Encoding,
	})
	if err != nil {
		return nil, nil, "", failed(ctx, d.String(), "beginning the backup", err)
	}
	defer set.Abort()
	doc, err := b.add(ctx, d, &t, o, set)
	if err != nil {
		return nil, nil, "", failed(ctx, d.String(), "storing the configuration", err)
	}
	m, err := set.Commit(ctx)
	if err != nil {
		return nil, nil, "", failed(ctx, d.String(), "storing the backup", err)
	}
	sweep(ctx, b.Store, dir, b.Reporter)
	return m, doc, dir, nil
}

// anyMember returns an instance that answers: the primary if there is one.
func anyMember(t *topology.Topology) (*topology.Member, error) {
	if primary, err := t.Primary(); err == nil {
		return primary, nil
	}
	for i := range t.Members {
		if t.Members[i].Err == nil {
			return &t.Members[i], nil
		}
	}
	return nil, noSource(t)
}

// add reads the configuration and adds it to set.
func (b Config) add(ctx context.Context, d *operation.Deployment, t *topology.Topology, o SetOptions, set *snapshot.Set) (*ConfigDocument, error) {
	doc := b.collect(ctx, d, t, o)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the configuration: %w", err)
	}
	_, err = set.Add(ctx, snapshot.SetFile{Name: "config.json", Kind: snapshot.FileConfig}, bytes.NewReader(append(text, '\n')))
	return doc, err
}

// collect asks everybody. What could not be read says why.
func (b Config) collect(ctx context.Context, d *operation.Deployment, t *topology.Topology, o SetOptions) *ConfigDocument {
	b.Reporter.Step("reading the configuration of %s", d)
	doc := &ConfigDocument{
		TakenAt: b.Now().UTC(), Namespace: d.Namespace, Release: d.Release, SecretsIncluded: o.Secrets,
		RedisConf: []string{}, Instances: make([]InstanceConfig, len(t.Members)),
	}
	m := &redact.Mask{Off: o.Secrets}
	// The servers first: their passwords are then known wherever else they appear.
	for i := range t.Members {
		doc.Instances[i] = b.ask(ctx, d, &t.Members[i], m)
	}
	for _, directive := range d.Config.Directives() {
		line := directive.Name
		for _, arg := range m.Directive(directive.Name, directive.Args) {
			line += " " + quote(arg)
		}
		doc.RedisConf = append(doc.RedisConf, line)
	}
	if d.Workload == nil {
		return doc
	}
	release, err := b.Objects.HelmRelease(ctx, d)
	if err != nil {
		doc.HelmProblem = err.Error()
		b.Reporter.Warn("the Helm values are not included: %v", err)
		return doc
	}
	release.Values, _ = m.Values(release.Values).(map[string]any)
	doc.Helm = release
	return doc
}

// ask reads the configuration of one server.
func (b Config) ask(ctx context.Context, d *operation.Deployment, member *topology.Member, m *redact.Mask) InstanceConfig {
	c := InstanceConfig{Instance: member.Name, Differences: []Difference{}}
	fail := func(err error) InstanceConfig {
		c.Problem = err.Error()
		b.Reporter.Warn("the settings of %s are not included: %v", member.Name, err)
		return c
	}
	if member.Err != nil {
		return fail(member.Err)
	}
	c.Role, c.Version = string(member.Replication.Role), member.Version.String()
	server, err := b.Connector.Connect(ctx, d, member.Instance)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = server.Close() }() // the answers are here; closing can only fail to say goodbye
	settings, err := server.ConfigGet(ctx, "*")
	if err != nil {
		return fail(err)
	}
	c.Differences = differences(settings, d.Config, m)
	c.Settings = make(map[string]string, len(settings))
	for name, value := range settings {
		c.Settings[name] = m.Setting(name, value)
	}
	// Before 6.0 there is no ACL, and not everybody may see it.
	if reply, err := server.Do(ctx, "ACL", "LIST"); err == nil {
		lines, _ := reply.([]any)
		for _, line := range lines {
			c.Users = append(c.Users, m.ACLUser(fmt.Sprint(line)))
		}
	}
	return c
}

// isComparable is false for directives whose running form differs from what is
// written.
func isComparable(name string) bool {
	switch name {
	case "client-output-buffer-limit", "user", "include", "loadmodule", "rename-command", "notify-keyspace-events", "oom-score-adj-values":
		return false
	default:
		return true
	}
}

// differences compares what runs with what redis.conf asks for.
func differences(running map[string]string, wanted redis.Config, m *redact.Mask) []Difference {
	found := []Difference{}
	seen := map[string]bool{}
	for _, directive := range wanted.Directives() {
		value, ok := running[directive.Name]
		if !ok || seen[directive.Name] || !isComparable(directive.Name) {
			continue
		}
		seen[directive.Name] = true
		want, _ := wanted.Get(directive.Name)
		if directive.Name == "save" {
			want = savePoints(wanted)
		}
		if normal(value) != normal(want) {
			found = append(found, Difference{
				Setting: directive.Name, Running: m.Setting(directive.Name, value), Wanted: m.Setting(directive.Name, want),
			})
		}
	}
	slices.SortFunc(found, func(a, b Difference) int { return cmp.Compare(a.Setting, b.Setting) })
	return found
}

// savePoints joins all save lines as CONFIG GET shows them.
func savePoints(c redis.Config) string {
	var points []string
	for _, directive := range c.Directives() {
		switch {
		case directive.Name != "save":
		case len(directive.Args) == 1 && directive.Args[0] == "":
			points = nil
		default:
			points = append(points, directive.Args...)
		}
	}
	return strings.Join(points, " ")
}

var amount = regexp.MustCompile(`^([0-9]+)(k|m|g)?(b)?$`)

// normal brings values to one form: units of memory as memtoll in util.c reads
// them, lower case, single spaces.
func normal(value string) string {
	value = strings.Join(strings.Fields(strings.ToLower(value)), " ")
	parts := amount.FindStringSubmatch(value)
	if parts == nil {
		return strings.TrimSuffix(value, "/")
	}
	n, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return value
	}
	unit := uint64(1000)
	if parts[3] != "" {
		unit = 1024
	}
	switch parts[2] {
	case "g":
		n *= unit * unit * unit
	case "m":
		n *= unit * unit
	case "k":
		n *= unit
	}
	return strconv.FormatUint(n, 10)
}

// quote writes an argument of redis.conf so that it is read back as it is.
func quote(arg string) string {
	if arg != "" && !strings.ContainsAny(arg, " \t\r\n\"'\\#") {
		return arg
	}
	return strconv.Quote(arg)
}

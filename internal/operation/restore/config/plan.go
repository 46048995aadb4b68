package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// hidden is shown in the place of secrets.
const hidden = "(secret)"

// server is what one instance runs with.
type server struct {
	instance operation.Instance
	version  redis.Version
	used     int64
	// values by canonical name, names as the server knows them. Nil when CONFIG is
	// disabled.
	values, names map[string]string
}

// Plan compares the backup with the running servers and with what the chart asks for.
// It only reads. source tells where the backup comes from, nil when that is not known.
func (r Restore) Plan(
	ctx context.Context, d *operation.Deployment, name string, doc *backup.ConfigDocument, source *snapshot.Source, o Options,
) (*Plan, error) {
	p := &Plan{
		Plan:   operation.Plan{Operation: "restore config", Object: d.String(), Steps: []operation.Step{}, Findings: []operation.Finding{}},
		Backup: name, TakenAt: doc.TakenAt, Settings: []Setting{}, deployment: d, options: o,
	}
	p.Findings = append(p.Findings, o.Common(name, d, restore.Contents{Source: source})...)
	p.Findings = append(p.Findings, restore.Locked(ctx, r.Locker, d)...)
	was, err := former(name, doc)
	if err != nil {
		return nil, err
	}
	servers, err := r.servers(ctx, p)
	if err != nil {
		return nil, err
	}
	if len(servers) == 0 {
		return p, nil // the findings say why
	}
	c := comparing{plan: p, doc: doc, was: was, servers: servers, chart: d.Config}
	c.compare()
	c.compareLines()
	slices.SortFunc(p.Settings, func(a, b Setting) int { return cmp.Compare(a.Name, b.Name) })
	if err := r.planValues(ctx, p); err != nil {
		return nil, err
	}
	p.planSteps()
	return p, nil
}

// then is what the servers ran with when the backup was taken.
type then struct {
	version redis.Version
	values  map[string]string
	names   map[string]string
	// differing are settings that others had other values of.
	differing map[string]bool
}

// former chooses the primary's settings.
func former(name string, doc *backup.ConfigDocument) (then, error) {
	var chosen *backup.InstanceConfig
	for i := range doc.Instances {
		c := &doc.Instances[i]
		if len(c.Settings) > 0 && (chosen == nil || c.Role == string(redis.RolePrimary)) {
			chosen = c
		}
	}
	if chosen == nil {
		return then{}, &operation.Error{
			Kind: operation.Usage, Object: name, Phase: "reading the configuration",
			Err: errors.New("it has no settings of any server: none could be asked when it was taken"), Unchanged: "nothing was changed",
		}
	}
	was := then{differing: map[string]bool{}}
	// A version that cannot be read is like none: everything may be a default.
	_ = was.version.UnmarshalText([]byte(chosen.Version))
	was.values, was.names = canonicalKeys(chosen.Settings)
	for i := range doc.Instances {
		values, _ := canonicalKeys(doc.Instances[i].Settings)
		for name, value := range values {
			if other, ok := was.values[name]; ok && !backup.SameSetting(value, other) {
				was.differing[name] = true
			}
		}
	}
	return was, nil
}

// servers asks all instances. Those that do not answer block the plan: a setting is to be
// the same everywhere.
func (r Restore) servers(ctx context.Context, p *Plan) ([]server, error) {
	d := p.deployment
	t := topology.Observe(ctx, r.Connector, d, p.options.Timeout)
	if err := t.Denied(); err != nil {
		return nil, err
	}
	var servers []server
	for i := range t.Members {
		m := &t.Members[i]
		s := server{instance: m.Instance, version: m.Version, used: m.Info.Memory().Used}
		err := m.Err
		if err == nil {
			s.values, s.names, err = r.settings(ctx, d, m.Instance)
		}
		switch {
		case errors.Is(err, operation.ErrNoCommand):
			p.Findings = append(p.Findings, operation.Finding{
				Code: "config-disabled", Severity: operation.Warning, Subject: m.Name,
				Message: "CONFIG is disabled: what it runs with is not known, and cannot be changed while it runs",
			})
		case err != nil:
			p.Findings = append(p.Findings, operation.Finding{
				Code: "instance-unreachable", Severity: operation.Critical, Subject: m.Name, Message: err.Error(),
				Hint: "--pod restores the settings of one instance",
			})
			continue
		}
		servers = append(servers, s)
	}
	return servers, nil
}

func (r Restore) settings(ctx context.Context, d *operation.Deployment, i operation.Instance) (values, names map[string]string, err error) {
	connection, err := r.Connector.Connect(ctx, d, i)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = connection.Close() }() // it was only asked
	all, err := connection.ConfigGet(ctx, "*")
	if err != nil {
		return nil, nil, err
	}
	values, names = canonicalKeys(all)
	return values, names, nil
}

// comparing is a comparison in progress.
type comparing struct {
	plan    *Plan
	doc     *backup.ConfigDocument
	was     then
	servers []server
	chart   redis.Config
}

func (c *comparing) compare() {
	asked := c.askedThen()
	for _, name := range slices.Sorted(maps.Keys(c.was.values)) {
		if !c.selected(name) {
			continue
		}
		s, differs := c.setting(name)
		if !differs {
			c.plan.Equal++
			continue
		}
		if c.always(&s, name) && !c.named(name) {
			continue
		}
		c.decide(&s, name, asked)
		c.guard(&s)
		c.plan.Settings = append(c.plan.Settings, s)
	}
}

// always reports whether a setting differs from server to server, or cannot be compared:
// it would be in every plan.
func (c *comparing) always(s *Setting, name string) bool {
	return fateOf(name) == own || strings.Contains(s.value, backup.Placeholder)
}

// askedThen are the settings that redis.conf named when the backup was taken.
func (c *comparing) askedThen() map[string]bool {
	asked := map[string]bool{}
	for _, line := range c.doc.RedisConf {
		name, _, _ := strings.Cut(line, " ")
		asked[canonical(strings.ToLower(name))] = true
	}
	for _, i := range c.doc.Instances {
		for _, d := range i.Differences {
			asked[canonical(d.Setting)] = true
		}
	}
	return asked
}

// selected reports whether the user wants a setting, which any of its names selects.
func (c *comparing) selected(name string) bool {
	only := c.plan.options.Only
	return len(only) == 0 || slices.ContainsFunc(only, func(pattern string) bool {
		pattern = strings.ToLower(pattern)
		return redis.MatchGlob(pattern, []byte(name)) || redis.MatchGlob(pattern, []byte(c.was.names[name])) || canonical(pattern) == name
	})
}

// named reports whether the user has written the whole name.
func (c *comparing) named(name string) bool {
	return slices.ContainsFunc(c.plan.options.Only, func(pattern string) bool { return canonical(strings.ToLower(pattern)) == name })
}

// setting describes a setting, and reports whether it is not everywhere what it was.
func (c *comparing) setting(name string) (s Setting, differs bool) {
	s = Setting{Name: c.was.names[name], value: c.was.values[name], Running: []Running{}}
	show := func(value string) string {
		if backup.IsSecret(name) && value != "" {
			return hidden
		}
		return value
	}
	s.Backup = show(s.value)
	for i := range c.servers {
		value, known := c.servers[i].values[name]
		if !known {
			continue
		}
		own := c.servers[i].names[name]
		if i == 0 {
			s.Name = own // as the servers of today call it
		}
		changed := !backup.SameSetting(value, s.value)
		differs = differs || changed
		s.Running = append(s.Running, Running{Instance: c.servers[i].instance.Name, Value: show(value), Set: changed, value: value, name: own})
	}
	wanted, given, exact := c.wanted(name)
	if given {
		shown := show(wanted)
		s.Chart = &shown
		differs = differs || exact && !backup.SameSetting(wanted, s.value)
	}
	return s, differs || len(s.Running) == 0 // nobody knows it, or nobody tells
}

// wanted is what the chart asks for, under whatever name.
func (c *comparing) wanted(name string) (value string, given, exact bool) {
	for _, d := range c.chart.Directives() {
		if canonical(d.Name) == name {
			return backup.WantedSetting(c.chart, d.Name)
		}
	}
	return "", false, true
}

// disabled reports whether no server tells its settings.
func (c *comparing) disabled() bool {
	return !slices.ContainsFunc(c.servers, func(s server) bool { return s.values != nil })
}

// decide says what becomes of a setting that differs.
func (c *comparing) decide(s *Setting, name string, asked map[string]bool) {
	skip := func(reason string) {
		s.Action, s.Reason = ActionSkip, reason
		for i := range s.Running {
			s.Running[i].Set = false
		}
	}
	chart := s.Chart != nil && !backup.SameSetting(*s.Chart, s.Backup)
	otherVersion := c.was.version.Major != c.servers[0].version.Major || c.was.version.Minor != c.servers[0].version.Minor ||
		c.was.version.Product != c.servers[0].version.Product
	kind := fateOf(name)
	switch {
	case kind == own:
		skip("it is about one server, its files or its surroundings")
	case (kind == credential || kind == secret) && !c.plan.options.Secrets:
		skip("a secret: --include-secrets")
	case strings.Contains(s.value, backup.Placeholder):
		skip("the backup was taken without secrets")
	case !c.disabled() && len(s.Running) == 0:
		skip("these servers do not know it")
	case otherVersion && !asked[name] && !c.named(name):
		skip(fmt.Sprintf("it may be a default of %s: --only %s restores it", c.was.version, s.Name))
	case kind == credential:
		c.decideCredential(s, skip)
	case c.disabled():
		if !asked[name] && !c.named(name) {
			skip("what the servers run with is not known: CONFIG is disabled")
			return
		}
		s.Action, s.Reason, s.wanted, s.lines = ActionValues, "CONFIG is disabled", !c.askedAlike(name, s), linesOf(s.Name, s.value)
	case kind == startOnly:
		s.Action, s.Reason, s.lines = ActionValues, "servers read it only when they start", linesOf(s.Name, s.value)
	case !slices.ContainsFunc(s.Running, func(r Running) bool { return r.Set }):
		s.Action, s.Reason, s.lines = ActionValues, "it runs like that, and redis.conf asks for something else", linesOf(s.Name, s.value)
	default:
		s.Action, s.lines = ActionSet, linesOf(s.Name, s.value)
		if s.Chart != nil && !chart {
			s.lines, s.Reason = nil, "redis.conf asks for it"
		}
	}
	if c.was.differing[name] && s.Action != ActionSkip {
		s.Reason = strings.TrimPrefix(s.Reason+"; the primary had it, others had other values", "; ")
	}
	if s.Action != ActionSet {
		for i := range s.Running {
			s.Running[i].Set = false
		}
	}
}

// askedAlike reports whether redis.conf asks for the value of the backup.
func (c *comparing) askedAlike(name string, s *Setting) bool {
	wanted, given, exact := c.wanted(name)
	return given && exact && backup.SameSetting(wanted, s.value)
}

// decideCredential: servers and Secret must change together, which only a restart with
// another Secret does.
func (c *comparing) decideCredential(s *Setting, skip func(string)) {
	if c.plan.deployment.Workload != nil {
		skip("the password is in the release's Secret: change it there, and redis.password or redis.existingSecret of the chart with it")
		return
	}
	s.Action, s.Reason, s.lines = ActionValues, "clients would be locked out", linesOf(s.Name, s.value)
}

// guard blocks what would make servers give up data, and warns of what a restart in
// between would do.
func (c *comparing) guard(s *Setting) {
	if s.Action != ActionSet {
		return
	}
	switch s.Name {
	case "maxmemory":
		limit, err := strconv.ParseInt(s.value, 10, 64)
		for i := range c.servers {
			if used := c.servers[i].used; err == nil && limit > 0 && used > limit {
				c.plan.Findings = append(c.plan.Findings, operation.Finding{
					Code: "larger-than-maxmemory", Severity: operation.Critical, Subject: c.servers[i].instance.Name,
					Message:  fmt.Sprintf("it uses %s, maxmemory of the backup is %s: keys would be evicted, or writes refused", operation.Bytes(used), operation.Bytes(limit)),
					Override: "--ignore-memory", Overridden: c.plan.options.Memory,
				})
			}
		}
	case "appendonly":
		if len(s.lines) > 0 {
			c.plan.Findings = append(c.plan.Findings, operation.Finding{
				Code: "restart-loads-other-files", Severity: operation.Warning, Subject: c.plan.deployment.Name,
				Message: "until redis.conf asks for appendonly " + s.value + " too, a restart loads the other kind of file, which is as old as the change",
				Hint:    "upgrade the release with the values file right afterwards",
			})
		}
	}
}

// compareLines finds what only redis.conf can ask for.
func (c *comparing) compareLines() {
	if len(c.plan.options.Only) > 0 && !slices.ContainsFunc(c.plan.options.Only, isLine) {
		return
	}
	present := map[string]bool{}
	for _, d := range c.chart.Directives() {
		present[lineOf(d)] = true
	}
	for _, line := range c.doc.RedisConf {
		words, err := redis.SplitArgs(line)
		if err != nil || len(words) == 0 || !isLine(words[0]) || present[line] {
			continue
		}
		name := strings.ToLower(words[0])
		s := Setting{Name: name, Backup: strings.Join(words[1:], " "), Running: []Running{}, Action: ActionValues, Reason: "servers read it only when they start", lines: []string{line}}
		if name == "user" || name == "include" || strings.Contains(line, backup.Placeholder) {
			s.Action, s.lines, s.Reason = ActionSkip, nil, "it holds secrets, or other files have it"
			s.Backup = words[min(1, len(words)-1)]
		}
		c.plan.Settings = append(c.plan.Settings, s)
	}
}

// isLine reports whether a directive is no setting: CONFIG GET does not show it.
func isLine(name string) bool {
	switch strings.ToLower(name) {
	case "rename-command", "loadmodule", "user", "include":
		return true
	default:
		return false
	}
}

// lineOf writes a directive as backup.Config stores it.
func lineOf(d redis.Directive) string {
	line := d.Name
	for _, arg := range d.Args {
		line += " " + backup.QuoteSetting(arg)
	}
	return line
}

// linesOf returns the lines of redis.conf that ask for a value of CONFIG GET. Save points
// and limits of buffers have lines of their own, which every version takes.
func linesOf(name, value string) []string {
	words := strings.Fields(value)
	var lines []string
	switch {
	case name == "save":
		lines = append(lines, `save ""`) // drops what earlier lines ask for
		for i := 0; i+1 < len(words); i += 2 {
			lines = append(lines, "save "+words[i]+" "+words[i+1])
		}
	case name == "client-output-buffer-limit":
		for i := 0; i+3 < len(words); i += 4 {
			lines = append(lines, name+" "+strings.Join(words[i:i+4], " "))
		}
	case isList(name):
		lines = []string{name + " " + value}
	default:
		lines = []string{name + " " + backup.QuoteSetting(value)}
	}
	return lines
}

// isList reports whether redis.conf wants the words of a value one by one.
func isList(name string) bool {
	return name == "latency-tracking-info-percentiles"
}

func (p *Plan) planSteps() {
	set := 0
	for i := range p.Settings {
		if p.Settings[i].Action == ActionSet {
			set++
		}
	}
	if set > 0 {
		p.Steps = append(p.Steps,
			operation.Step{Action: fmt.Sprintf("set %d settings by CONFIG SET, on all instances or on none", set), Subject: p.deployment.InstanceNames(), Mutates: true},
			operation.Step{Action: "read them again", Subject: p.deployment.InstanceNames()},
		)
	}
	if len(p.values) > 0 {
		p.Steps = append(p.Steps, operation.Step{Action: "write what lasts to a file for the chart (" + string(p.Form) + ")"})
	}
}

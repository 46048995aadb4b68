package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// planValues makes the file that lets the settings outlive a restart.
func (r Restore) planValues(ctx context.Context, p *Plan) error {
	var lines []string
	replaced := map[string]bool{}
	for i := range p.Settings {
		s := &p.Settings[i]
		lines = append(lines, s.lines...)
		if len(s.lines) > 0 && !isLine(s.Name) {
			replaced[canonical(s.Name)] = true
		}
	}
	p.Form = FormRedisConf
	if p.deployment.Workload == nil {
		p.values = fragment(p, "", lines)
		return nil
	}
	why := ""
	release, err := r.Objects.HelmRelease(ctx, p.deployment)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		why = "Helm has no record of the release"
	case operation.KindOf(err) == operation.Denied:
		why = "the release's Helm values cannot be read"
	case err != nil:
		return err
	case textAt(release.Values, "redis", "existingConfigMap") != "":
		why = "the release uses the ConfigMap " + textAt(release.Values, "redis", "existingConfigMap")
	}
	if why != "" {
		if len(lines) > 0 {
			p.Findings = append(p.Findings, operation.Finding{
				Code: "no-values", Severity: operation.Notice, Subject: p.deployment.Name, Message: why + ": the file has lines of redis.conf instead of values",
			})
		}
		p.values = fragment(p, why, lines)
		return nil
	}
	p.Form = FormValues
	if len(lines) == 0 {
		return nil
	}
	extra := append(kept(textAt(release.Values, "redis", "extraConfig"), replaced), lines...)
	text, err := yaml.Marshal(map[string]any{"redis": map[string]any{"extraConfig": strings.Join(extra, "\n") + "\n"}})
	if err != nil {
		return fmt.Errorf("encoding the values: %w", err)
	}
	head := fmt.Sprintf("# Settings of %s from the backup %s, behind the present redis.extraConfig.\n"+
		"# helm upgrade %s CHART -n %s --reuse-values -f THIS_FILE; a changed redis.conf restarts the pods.\n",
		p.Object, p.Backup, p.deployment.Release, p.deployment.Namespace)
	p.values = append([]byte(head), text...)
	return nil
}

// fragment returns lines of redis.conf.
func fragment(p *Plan, why string, lines []string) []byte {
	if len(lines) == 0 {
		return nil
	}
	head := "# Settings of " + p.Object + " from the backup " + p.Backup + ", to be added at the end of redis.conf.\n"
	if why != "" {
		head += "# " + why + ".\n"
	}
	return []byte(head + strings.Join(lines, "\n") + "\n")
}

// kept returns the lines of a redis.conf but for those of settings that are replaced.
func kept(text string, replaced map[string]bool) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		words, err := redis.SplitArgs(strings.TrimSpace(line))
		if err == nil && len(words) > 0 && replaced[canonical(strings.ToLower(words[0]))] {
			continue
		}
		lines = append(lines, line)
	}
	return lines
}

// textAt returns the text at a path of Helm values.
func textAt(values map[string]any, path ...string) string {
	for _, name := range path[:len(path)-1] {
		values, _ = values[name].(map[string]any)
	}
	text, _ := values[path[len(path)-1]].(string)
	return text
}

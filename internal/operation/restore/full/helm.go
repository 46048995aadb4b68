package full

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
)

func base64Of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// chartName splits "redis-1.4.2" as Helm joins it.
var chartName = regexp.MustCompile(`^(.+)-(v?[0-9]+\.[0-9]+.*)$`)

// planHelm prepares how Helm gets to know the release. Its own record has the whole
// chart, which a backup of objects does not: so the operator upgrades once, with the chart
// and the values, and Helm takes over the objects that say they are this release's.
func (p *Plan) planHelm(password string) error {
	release := p.source.Config.Helm
	if release == nil {
		p.find(operation.Notice, "no-helm-values", p.Name, "the backup does not have the Helm values: "+p.source.Config.HelmProblem, "")
		return nil
	}
	values, missing := p.fill(release.Values, "", password)
	if len(missing) > 0 {
		p.find(operation.Warning, "values-without-secrets", p.Name, "the Helm values lack what the backup does not have: "+strings.Join(missing, ", "),
			"add them to the values file before Helm uses it")
	}
	filled, _ := values.(map[string]any)
	if class := p.options.StorageClass; class != "" {
		persistence, ok := filled["persistence"].(map[string]any)
		if !ok {
			persistence = map[string]any{}
			filled["persistence"] = persistence
		}
		persistence["storageClass"] = class
	}
	text, err := yaml.Marshal(filled)
	if err != nil {
		return fmt.Errorf("encoding the values: %w", err)
	}
	p.values = append(fmt.Appendf(nil, "# Helm values of %s from the backup %s.\n", p.Object, p.Backup), text...)
	chart, version := "CHART", ""
	if parts := chartName.FindStringSubmatch(release.Chart); parts != nil {
		chart, version = strings.ToUpper(parts[1])+"_CHART", " --version "+parts[2]
	}
	p.helm = fmt.Sprintf("helm upgrade --install %s %s%s --namespace %s --values ", p.Release, chart, version, p.Namespace)
	return nil
}

// fill puts the password where it was left out, and leaves out what is not known.
func (p *Plan) fill(value any, path, password string) (filled any, missing []string) {
	switch value := value.(type) {
	case map[string]any:
		result := make(map[string]any, len(value))
		for key, v := range value {
			at := strings.TrimPrefix(path+"."+key, ".")
			text, _ := v.(string)
			switch {
			case at == "redis.password" && text == backup.Placeholder && password != "":
				result[key] = password
			case strings.Contains(text, backup.Placeholder):
				missing = append(missing, at)
			default:
				kept, lacking := p.fill(v, at, password)
				result[key], missing = kept, append(missing, lacking...)
			}
		}
		return result, missing
	case []any:
		result := make([]any, len(value))
		for i, v := range value {
			kept, lacking := p.fill(v, fmt.Sprintf("%s[%d]", path, i), password)
			result[i], missing = kept, append(missing, lacking...)
		}
		return result, missing
	default:
		return value, nil
	}
}

// HelmCommand returns what makes Helm know the release, with the values in file. Empty
// when the backup does not have them.
func (p *Plan) HelmCommand(file string) string {
	if p.helm == "" {
		return ""
	}
	return p.helm + file
}

package bundle

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/redact"
)

// learn finds out the secrets before anything is gathered.
func (g *gathering) learn(ctx context.Context) {
	g.Reporter.Step("finding out what is secret")
	if g.Password != nil {
		password, err := g.Password(ctx, g.d)
		g.know(password)
		if err != nil {
			g.blind = fmt.Errorf("the password is not known, so that it cannot be searched for: %w", err)
		}
	}
	if g.d.Workload == nil {
		return
	}
	found, err := g.Objects.Resources(ctx, g.d, true)
	g.objectsErr = err
	if err != nil {
		g.blind = fmt.Errorf("the secrets are not known, so that they cannot be searched for: %w", err)
	}
	for _, gap := range found.Missing {
		g.missing(gap.Part, fmt.Errorf("%s", gap.Reason))
		if gap.Part == "secrets" {
			g.blind = fmt.Errorf("the secrets are not known, so that they cannot be searched for: %s", gap.Reason)
		}
	}
	for _, o := range found.Items {
		if o.Kind == "Secret" {
			g.knowSecret(o.YAML)
			continue
		}
		g.objects = append(g.objects, o)
	}
	g.helm, g.helmErr = g.Objects.HelmRelease(ctx, g.d)
	if g.helmErr == nil {
		g.helm.Values, _ = g.mask.Values(g.helm.Values).(map[string]any) // learns, too
		g.helm.Values, _ = withoutEnvironment(g.helm.Values).(map[string]any)
	}
	for _, directive := range g.d.Config.Directives() {
		g.mask.Directive(directive.Name, directive.Args)
	}
}

// know remembers a secret in all forms in which files may hold it.
func (g *gathering) know(secret string) {
	secret = strings.TrimSpace(secret)
	if secret == "" {
		return
	}
	g.mask.Learn(secret)
	g.mask.Learn(base64.StdEncoding.EncodeToString([]byte(secret)))
	if quoted, err := json.Marshal(secret); err == nil {
		g.mask.Learn(string(quoted[1 : len(quoted)-1]))
	}
	quoted := strconv.Quote(secret)
	for _, form := range []string{url.QueryEscape(secret), url.PathEscape(secret), quoted[1 : len(quoted)-1]} {
		g.mask.Learn(form) // in addresses, and in log lines of programs
	}
}

// knowSecret remembers the values of a Secret, and their lines: a file of users has many.
func (g *gathering) knowSecret(text []byte) {
	var o struct {
		Data       map[string]string `json:"data"`
		StringData map[string]string `json:"stringData"`
	}
	if err := yaml.Unmarshal(text, &o); err != nil {
		g.blind = fmt.Errorf("a Secret cannot be read: %w", err)
		return
	}
	values := maps.Clone(o.StringData)
	if values == nil {
		values = make(map[string]string)
	}
	for name, encoded := range o.Data {
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err == nil {
			values[name] = string(decoded)
		}
	}
	for _, value := range values {
		g.know(value)
		for line := range strings.Lines(value) {
			g.know(line)
			g.mask.Prose(line)
		}
	}
}

// resources writes the objects, without annotations and values of environment variables.
func (g *gathering) resources(context.Context) error {
	if g.objectsErr != nil {
		return g.objectsErr
	}
	var b strings.Builder
	for _, o := range g.objects {
		var content map[string]any
		if err := yaml.Unmarshal(o.YAML, &content); err != nil {
			return fmt.Errorf("%s %s: %w", o.Kind, o.Name, err)
		}
		delete(content, "binaryData")
		text, err := yaml.Marshal(g.mask.Values(withoutEnvironment(content)))
		if err != nil {
			return fmt.Errorf("%s %s: %w", o.Kind, o.Name, err)
		}
		b.WriteString("---\n")
		b.Write(text)
	}
	g.add("objects.yaml", "the release's objects, without Secrets", []byte(b.String()))
	return nil
}

// secretWord finds passwords in arguments of programs, and new names of commands, which
// some keep secret.
var secretWord = regexp.MustCompile(`(?im)(--?(?:requirepass|masterauth|password|pass|a)(?:=|[ \t]+)|^[ \t]*rename-command[ \t]+\S+[ \t]+)("[^"\n]+"|'[^'\n]+'|[^\s"']+)`)

// withoutEnvironment removes annotations, hides the values of environment variables and of
// passwords in arguments, and keeps the rest.
func withoutEnvironment(value any) any {
	switch value := value.(type) {
	case map[string]any:
		kept := make(map[string]any, len(value))
		for key, v := range value {
			switch {
			case key == "annotations" || strings.HasSuffix(key, "Annotations"):
			case isEnvironment(key):
				kept[key] = hidden(v)
			default:
				kept[key] = withoutEnvironment(v)
			}
		}
		return kept
	case []any:
		kept := make([]any, len(value))
		secret := false // the argument before was --requirepass or the like
		for i, v := range value {
			word, isText := v.(string)
			kept[i] = withoutEnvironment(v)
			if secret && isText {
				kept[i] = redact.Placeholder
			}
			secret = isText && secretOption.MatchString(word)
		}
		return kept
	case string:
		return secretWord.ReplaceAllString(value, "${1}"+redact.Placeholder)
	default:
		return value
	}
}

var secretOption = regexp.MustCompile(`^--?(requirepass|masterauth|password|pass|a)$`)

func isEnvironment(key string) bool {
	key = strings.ToLower(key)
	return key == "env" || strings.HasSuffix(key, "env") || strings.HasSuffix(key, "envvars")
}

// hidden keeps the names of environment variables: as the API has them, and as maps, which
// charts' values may have.
func hidden(value any) any {
	switch value := value.(type) {
	case []any:
		kept := make([]any, len(value))
		for i, v := range value {
			kept[i] = v
			if variable, ok := v.(map[string]any); ok {
				variable = maps.Clone(variable)
				if _, ok := variable["value"]; ok {
					variable["value"] = redact.Placeholder
				}
				kept[i] = variable
			}
		}
		return kept
	case map[string]any:
		kept := make(map[string]any, len(value))
		for name := range value {
			kept[name] = redact.Placeholder
		}
		return kept
	default:
		return redact.Placeholder
	}
}

// settings masks the reply to CONFIG GET.
func (g *gathering) settings(running map[string]string) map[string]string {
	masked := make(map[string]string, len(running))
	for name, value := range running {
		masked[name] = g.mask.Setting(name, value)
		if redact.IsSecret(name) {
			g.know(value)
		}
	}
	return masked
}

// learnUsers remembers the hashes of passwords; the users themselves stay out: their rules
// name keys.
func (g *gathering) learnUsers(ctx context.Context, server operation.Server) {
	reply, err := server.Do(ctx, "ACL", "LIST")
	if err != nil {
		return // before 6.0 there is none, and not everybody may see it
	}
	lines, _ := reply.([]any)
	for _, line := range lines {
		g.mask.ACLUser(fmt.Sprint(line))
	}
}

// Package redact replaces secrets in what is stored or shown: those whose names give
// them away, and those that are known, wherever they appear.
package redact

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Placeholder stands where a secret was.
const Placeholder = "(secret, not included)"

// Mask replaces secrets by Placeholder. It learns those that it meets, so that they are
// found again where nothing names them. The zero value is ready; it is not safe for
// concurrent use.
type Mask struct {
	// Off keeps everything.
	Off bool
	// known are secrets that were seen.
	known map[string]bool
	// replacer finds known; nil until it is needed.
	replacer *strings.Replacer
}

// shortestKnown is the length from which a known secret is looked for inside of other
// text: a password "a" is in every word.
const shortestKnown = 6

// Learn remembers a secret, and says whether there is one.
func (m *Mask) Learn(secret string) bool {
	if secret == "" {
		return false
	}
	if m.known == nil {
		m.known = make(map[string]bool)
	}
	if !m.known[secret] {
		m.known[secret], m.replacer = true, nil
	}
	return true
}

// Text replaces known secrets in a text. Of two that begin at the same place, the longer
// one goes.
func (m *Mask) Text(s string) string {
	if m.Off || len(m.known) == 0 {
		return s
	}
	if m.known[s] {
		return Placeholder
	}
	if m.replacer == nil {
		m.replacer = newReplacer(m.known)
	}
	return m.replacer.Replace(s)
}

// newReplacer replaces in one pass, so that no secret is looked for in a Placeholder.
func newReplacer(known map[string]bool) *strings.Replacer {
	var pairs []string
	for _, secret := range slices.SortedFunc(maps.Keys(known), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	}) {
		if len(secret) >= shortestKnown {
			pairs = append(pairs, secret, Placeholder)
		}
	}
	return strings.NewReplacer(pairs...)
}

// IsSecret reports whether a setting of a server is a secret.
func IsSecret(name string) bool {
	name = strings.ToLower(name)
	return name == "masterauth" || name == "primaryauth" || strings.Contains(name, "pass")
}

// Setting masks the value of a setting of a server.
func (m *Mask) Setting(name, value string) string {
	if !m.Off && IsSecret(name) && m.Learn(value) {
		return Placeholder
	}
	return m.Text(value)
}

// Directive masks the arguments of a line of redis.conf.
func (m *Mask) Directive(name string, args []string) []string {
	masked := make([]string, len(args))
	for i, arg := range args {
		if name == "user" {
			masked[i] = m.aclRule(arg)
		} else {
			masked[i] = m.Setting(name, arg)
		}
	}
	return masked
}

// aclRule masks a rule of an ACL user that holds a password or its hash: >password,
// <password, #hash and !hash.
func (m *Mask) aclRule(rule string) string {
	if !m.Off && len(rule) > 1 && strings.ContainsRune("><#!", rune(rule[0])) {
		m.Learn(rule[1:])
		return rule[:1] + Placeholder
	}
	return m.Text(rule)
}

// ACLUser masks a line of ACL LIST.
func (m *Mask) ACLUser(line string) string {
	rules := strings.Fields(line)
	for i, rule := range rules {
		if i >= 2 { // after "user" and the name
			rules[i] = m.aclRule(rule)
		}
	}
	return strings.Join(rules, " ")
}

// confLine finds lines of a redis.conf inside of other text.
var confLine = regexp.MustCompile(`(?im)^([ \t]*(?:requirepass|masterauth|primaryauth|tls-key-file-pass|tls-client-key-file-pass)[ \t]+)(.+)$`)

// aclWord finds the passwords of user lines inside of other text.
var aclWord = regexp.MustCompile(`(?im)^[ \t]*user[ \t].*$`)

// Prose masks what looks like lines of a redis.conf, and known secrets.
func (m *Mask) Prose(s string) string {
	if m.Off {
		return s
	}
	s = confLine.ReplaceAllString(s, "${1}"+Placeholder)
	s = aclWord.ReplaceAllStringFunc(s, func(line string) string {
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		return indent + m.ACLUser(line)
	})
	return m.Text(s)
}

// secretKey reports whether the value under a key of Helm values is a secret. Names
// of Secrets and of their keys are none: the chart needs them.
func secretKey(key string) bool {
	key = strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(key))
	if strings.HasPrefix(key, "existingsecret") || strings.HasSuffix(key, "key") && !strings.HasSuffix(key, "privatekey") && !strings.HasSuffix(key, "apikey") ||
		strings.HasSuffix(key, "name") || strings.HasSuffix(key, "file") {
		return false
	}
	for _, part := range []string{
		"secret", "password", "passwd", "passphrase", "requirepass", "masterauth", "token", "credential", "privatekey", "apikey",
	} {
		if strings.Contains(key, part) {
			return true
		}
	}
	return false
}

// Values masks Helm values.
func (m *Mask) Values(value any) any {
	switch value := value.(type) {
	case map[string]any:
		masked := make(map[string]any, len(value))
		name, _ := value["name"].(string) // of an environment variable
		for key, v := range value {
			text, scalar := v.(string)
			switch {
			case !m.Off && scalar && (secretKey(key) || key == "value" && secretKey(name)):
				masked[key] = v
				if m.Learn(text) {
					masked[key] = Placeholder
				}
			default:
				masked[key] = m.Values(v)
			}
		}
		return masked
	case []any:
		masked := make([]any, len(value))
		for i, v := range value {
			masked[i] = m.Values(v)
		}
		return masked
	case string:
		return m.Prose(value)
	default:
		return value
	}
}

package backup

import (
	"regexp"
	"strings"
)

// Placeholder stands where a secret was.
const Placeholder = "(secret, not included)"

// mask replaces secrets: those that their names give away, and those that are known,
// wherever they appear.
type mask struct {
	// off keeps everything.
	off bool
	// known are secrets that were seen.
	known map[string]bool
}

// shortestKnown is the length from which a known secret is looked for inside of other
// text: a password "a" is in every word.
const shortestKnown = 6

// learn remembers a secret, and says whether there is one.
func (m *mask) learn(secret string) bool {
	if secret == "" {
		return false
	}
	if m.known == nil {
		m.known = make(map[string]bool)
	}
	m.known[secret] = true
	return true
}

// text replaces known secrets in a text.
func (m *mask) text(s string) string {
	if m.off {
		return s
	}
	for secret := range m.known {
		if s == secret {
			return Placeholder
		}
		if len(secret) >= shortestKnown {
			s = strings.ReplaceAll(s, secret, Placeholder)
		}
	}
	return s
}

// IsSecret reports whether a setting of a server is a secret.
func IsSecret(name string) bool {
	name = strings.ToLower(name)
	return name == "masterauth" || name == "primaryauth" || strings.Contains(name, "pass")
}

// setting masks the value of a setting of a server.
func (m *mask) setting(name, value string) string {
	if !m.off && IsSecret(name) && m.learn(value) {
		return Placeholder
	}
	return m.text(value)
}

// directive masks the arguments of a line of redis.conf.
func (m *mask) directive(name string, args []string) []string {
	masked := make([]string, len(args))
	for i, arg := range args {
		if name == "user" {
			masked[i] = m.aclRule(arg)
		} else {
			masked[i] = m.setting(name, arg)
		}
	}
	return masked
}

// aclRule masks a rule of an ACL user that holds a password or its hash: >password,
// <password, #hash and !hash.
func (m *mask) aclRule(rule string) string {
	if !m.off && len(rule) > 1 && strings.ContainsRune("><#!", rune(rule[0])) {
		m.learn(rule[1:])
		return rule[:1] + Placeholder
	}
	return m.text(rule)
}

// aclUser masks a line of ACL LIST.
func (m *mask) aclUser(line string) string {
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

// prose masks what looks like lines of a redis.conf, and known secrets.
func (m *mask) prose(s string) string {
	if m.off {
		return s
	}
	s = confLine.ReplaceAllString(s, "${1}"+Placeholder)
	s = aclWord.ReplaceAllStringFunc(s, func(line string) string {
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		return indent + m.aclUser(line)
	})
	return m.text(s)
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

// values masks Helm values.
func (m *mask) values(value any) any {
	switch value := value.(type) {
	case map[string]any:
		masked := make(map[string]any, len(value))
		name, _ := value["name"].(string) // of an environment variable
		for key, v := range value {
			text, scalar := v.(string)
			switch {
			case !m.off && scalar && (secretKey(key) || key == "value" && secretKey(name)):
				masked[key] = v
				if m.learn(text) {
					masked[key] = Placeholder
				}
			default:
				masked[key] = m.values(v)
			}
		}
		return masked
	case []any:
		masked := make([]any, len(value))
		for i, v := range value {
			masked[i] = m.values(v)
		}
		return masked
	case string:
		return m.prose(value)
	default:
		return value
	}
}

package full

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/redisctl/redisctl/internal/operation/backup"
)

// Object is one object of Kubernetes.
type Object struct {
	Kind, Namespace, Name string
	// Content is the whole object.
	Content map[string]any
}

// String returns "ConfigMap cache-redis".
func (o Object) String() string { return o.Kind + " " + o.Name }

// ParseObjects reads a stream of YAML documents. Its errors do not repeat the text, which
// may hold secrets.
func ParseObjects(text []byte) ([]Object, error) {
	var objects []Object
	for n, document := range bytes.Split(append([]byte("\n"), text...), []byte("\n---\n")) {
		var content map[string]any
		if err := yaml.Unmarshal(document, &content); err != nil {
			return nil, fmt.Errorf("document %d is no YAML object", n)
		}
		if len(content) == 0 {
			continue
		}
		o := Object{Content: content}
		o.Kind, _ = content["kind"].(string)
		metadata, _ := content["metadata"].(map[string]any)
		o.Name, _ = metadata["name"].(string)
		o.Namespace, _ = metadata["namespace"].(string)
		if o.Kind == "" || o.Name == "" || content["apiVersion"] == nil {
			return nil, fmt.Errorf("document %d is no object of Kubernetes: it has no apiVersion, kind or name", n)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// metadata returns the object's metadata, which ParseObjects has seen.
func (o Object) metadata() map[string]any {
	m, _ := o.Content["metadata"].(map[string]any)
	return m
}

// annotate sets an annotation.
func (o Object) annotate(name, value string) {
	m := o.metadata()
	annotations, ok := m["annotations"].(map[string]any)
	if !ok {
		annotations = map[string]any{}
		m["annotations"] = annotations
	}
	annotations[name] = value
}

// at returns what is at a path of maps, nil when it ends before.
func at(value any, path ...string) any {
	for _, name := range path {
		m, _ := value.(map[string]any)
		value = m[name]
	}
	return value
}

func textAt(value any, path ...string) string {
	text, _ := at(value, path...).(string)
	return text
}

// Change is a place of an object that is not as in the backup.
type Change struct {
	// Object is "StatefulSet cache-redis", Path where it was changed.
	Object string `json:"object"`
	Path   string `json:"path"`
	From   string `json:"from"`
	To     string `json:"to"`
}

// move puts an object into another namespace: its own, that of the Helm release that owns
// it, that of the accounts a RoleBinding is for, and DNS names of the given Services
// wherever they are. It returns what was changed, and where the old namespace is named
// besides.
func (o *Object) move(services []string, from, to string) (changes []Change, mentions []string) {
	o.metadata()["namespace"] = to
	o.Namespace = to
	if from == to {
		return nil, nil
	}
	m := mover{services: services, from: from, to: to, object: o.String()}
	for _, key := range slices.Sorted(maps.Keys(o.Content)) {
		o.Content[key] = m.walk(o.Content[key], key)
	}
	return m.changes, m.mentions
}

type mover struct {
	services         []string
	from, to, object string
	changes          []Change
	mentions         []string
}

func (m *mover) walk(value any, path string) any {
	switch value := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			value[key] = m.walk(value[key], path+"."+key)
		}
	case []any:
		for i := range value {
			value[i] = m.walk(value[i], fmt.Sprintf("%s[%d]", path, i))
		}
	case string:
		return m.text(value, path)
	}
	return value
}

func (m *mover) text(value, path string) string {
	if path == "metadata.namespace" {
		return value
	}
	moved := value
	if value == m.from && (path == "metadata.annotations.meta.helm.sh/release-namespace" ||
		strings.HasPrefix(path, "subjects[") && strings.HasSuffix(path, ".namespace")) {
		moved = m.to
	}
	for _, service := range m.services {
		moved = replaceName(moved, service+"."+m.from, service+"."+m.to)
	}
	if moved != value {
		from, to := firstDifference(value, moved)
		m.changes = append(m.changes, Change{Object: m.object, Path: path, From: from, To: to})
	}
	if replaceName(moved, m.from, "") != moved {
		m.mentions = append(m.mentions, m.object+", "+path)
	}
	return moved
}

// replaceName replaces a DNS name wherever it stands alone or between dots.
func replaceName(text, name, with string) string {
	var b strings.Builder
	for {
		i := strings.Index(text, name)
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		end := i + len(name)
		whole := (i == 0 || !isNamePart(text[i-1])) && (end == len(text) || !isNamePart(text[end]))
		b.WriteString(text[:i])
		if whole {
			b.WriteString(with)
		} else {
			b.WriteString(name)
		}
		text = text[end:]
	}
}

// isNamePart reports whether a byte can be inside of a DNS label.
func isNamePart(c byte) bool {
	return c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// firstDifference returns the first words of two texts that differ.
func firstDifference(a, b string) (string, string) {
	words, others := strings.Fields(a), strings.Fields(b)
	for i := range words {
		if i < len(others) && words[i] != others[i] {
			return words[i], others[i]
		}
	}
	return a, b
}

// serviceNames returns the names of the Services among the objects, longer ones first.
func serviceNames(objects []Object) []string {
	var names []string
	for _, o := range objects {
		if o.Kind == "Service" {
			names = append(names, o.Name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	return names
}

// claims returns the maps that hold a storageClassName: of claims and of templates.
func (o Object) claims() []map[string]any {
	var found []map[string]any
	add := func(value any) {
		if spec, ok := at(value, "spec").(map[string]any); ok {
			found = append(found, spec)
		}
	}
	switch o.Kind {
	case "PersistentVolumeClaim":
		add(o.Content)
	case "StatefulSet":
		templates, _ := at(o.Content, "spec", "volumeClaimTemplates").([]any)
		for _, t := range templates {
			add(t)
		}
	}
	return found
}

// secretRef is a Secret that a workload needs, and the key of it, if it names one.
type secretRef struct{ name, key string }

// secretRefs returns what the pods of a StatefulSet cannot start without.
func (o Object) secretRefs() []secretRef {
	var refs []secretRef
	add := func(name, key string) {
		if ref := (secretRef{name, key}); name != "" && !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	var walk func(value any)
	walk = func(value any) {
		switch value := value.(type) {
		case []any:
			for _, v := range value {
				walk(v)
			}
		case map[string]any:
			if value["optional"] == true {
				return
			}
			add(textAt(value, "secretName"), "")
			for _, field := range []string{"secretKeyRef", "secretRef"} {
				if at(value, field, "optional") != true {
					add(textAt(value, field, "name"), textAt(value, field, "key"))
				}
			}
			for _, key := range slices.Sorted(maps.Keys(value)) {
				walk(value[key])
			}
		}
	}
	walk(at(o.Content, "spec", "template", "spec"))
	return refs
}

// passwordVariable is how the chart hands the password to the server.
const passwordVariable = "REDIS_PASSWORD"

// passwordRef returns where a StatefulSet's password comes from.
func (o Object) passwordRef() (secretRef, bool) {
	containers, _ := at(o.Content, "spec", "template", "spec", "containers").([]any)
	for _, c := range containers {
		variables, _ := at(c, "env").([]any)
		for _, v := range variables {
			if textAt(v, "name") != passwordVariable {
				continue
			}
			ref := secretRef{textAt(v, "valueFrom", "secretKeyRef", "name"), textAt(v, "valueFrom", "secretKeyRef", "key")}
			if ref.name != "" {
				return ref, true
			}
		}
	}
	return secretRef{}, false
}

// holdsPlaceholder reports whether something stands where a secret was.
func (o Object) holdsPlaceholder() bool {
	found := false
	var walk func(value any)
	walk = func(value any) {
		switch value := value.(type) {
		case []any:
			for _, v := range value {
				walk(v)
			}
		case map[string]any:
			for _, v := range value {
				walk(v)
			}
		case string:
			found = found || strings.Contains(value, backup.Placeholder)
		}
	}
	walk(o.Content)
	return found
}

var errNoWorkload = errors.New("it does not have the StatefulSet that its data is of")

// workload returns the StatefulSet that an instance belongs to.
func workload(objects []Object, instance string) (Object, error) {
	for _, o := range objects {
		if ordinal, ok := strings.CutPrefix(instance, o.Name+"-"); ok && o.Kind == "StatefulSet" && !strings.Contains(ordinal, "-") {
			return o, nil
		}
	}
	return Object{}, errNoWorkload
}

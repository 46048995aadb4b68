package access

import (
	"fmt"
	"slices"
	"strings"
)

// The versions and kinds of what is printed.
const (
	rbacVersion = rbac + "/v1"
	role        = "Role"
	clusterRole = "ClusterRole"
)

// Object is a Role, a ClusterRole or a binding, in the form of the Kubernetes API.
type Object struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Metadata   Metadata     `json:"metadata"`
	Rules      []PolicyRule `json:"rules,omitempty"`
	RoleRef    *RoleRef     `json:"roleRef,omitempty"`
	Subjects   []Subject    `json:"subjects,omitempty"`
	// grants are where the rules came from.
	grants []Grant
}

// Metadata names an Object.
type Metadata struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}

// PolicyRule is a rule as the Kubernetes API has it.
type PolicyRule struct {
	APIGroups     []string `json:"apiGroups"`
	Resources     []string `json:"resources"`
	ResourceNames []string `json:"resourceNames,omitempty"`
	Verbs         []string `json:"verbs"`
}

// RoleRef is the role of a binding.
type RoleRef struct {
	APIGroup string `json:"apiGroup"`
	Kind     string `json:"kind"`
	Name     string `json:"name"`
}

// Subject is who gets a role.
type Subject struct {
	Kind      string `json:"kind"`
	APIGroup  string `json:"apiGroup,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// ParseSubject reads user:NAME, group:NAME or serviceaccount:NAMESPACE/NAME.
func ParseSubject(text string) (Subject, error) {
	kind, name, _ := strings.Cut(text, ":")
	switch namespace, account, inNamespace := strings.Cut(name, "/"); {
	case name == "":
	case kind == "user":
		return Subject{Kind: "User", APIGroup: rbac, Name: name}, nil
	case kind == "group":
		return Subject{Kind: "Group", APIGroup: rbac, Name: name}, nil
	case kind == "serviceaccount" && inNamespace && namespace != "" && account != "":
		return Subject{Kind: "ServiceAccount", Namespace: namespace, Name: account}, nil
	}
	return Subject{}, fmt.Errorf("%q is none of user:NAME, group:NAME and serviceaccount:NAMESPACE/NAME", text)
}

// Objects returns the roles that hold the grants, each with its binding when there are
// subjects. Grants about what is in no namespace, and with everywhere all of them, make
// a ClusterRole.
func Objects(name string, grants []Grant, namespace string, everywhere bool, subjects []Subject) []Object {
	var inside, outside []Grant
	for _, g := range grants {
		if g.Cluster || everywhere {
			outside = append(outside, g)
		} else {
			inside = append(inside, g)
		}
	}
	var objects []Object
	add := func(kind string, grants []Grant, m Metadata) {
		if len(grants) == 0 {
			return
		}
		o := Object{APIVersion: rbacVersion, Kind: kind, Metadata: m, grants: grants}
		for _, g := range grants {
			o.Rules = append(o.Rules, PolicyRule{
				APIGroups: []string{g.Group}, Resources: []string{g.Resource}, ResourceNames: g.Names, Verbs: g.Verbs,
			})
		}
		objects = append(objects, o)
		if len(subjects) > 0 {
			objects = append(objects, Object{
				APIVersion: rbacVersion, Kind: kind + "Binding", Metadata: m,
				RoleRef: &RoleRef{APIGroup: rbac, Kind: kind, Name: m.Name}, Subjects: subjects,
			})
		}
	}
	add(role, inside, Metadata{Name: name, Namespace: namespace})
	add(clusterRole, outside, Metadata{Name: name})
	return objects
}

// YAML writes the objects for kubectl apply, each rule with a comment on what it is for.
// commands is how many commands the roles are for: with one, it is not repeated.
func YAML(objects []Object, commands int) string {
	if len(objects) == 0 {
		return "# Nothing of Kubernetes is needed.\n"
	}
	var b strings.Builder
	for i, o := range objects {
		if i > 0 {
			b.WriteString("---\n")
		}
		fmt.Fprintf(&b, "apiVersion: %s\nkind: %s\nmetadata:\n  name: %s\n", o.APIVersion, o.Kind, quote(o.Metadata.Name))
		if o.Metadata.Namespace != "" {
			fmt.Fprintf(&b, "  namespace: %s\n", quote(o.Metadata.Namespace))
		}
		if o.RoleRef != nil {
			writeBinding(&b, o)
			continue
		}
		b.WriteString("rules:\n")
		for i, r := range o.Rules {
			for _, reason := range o.grants[i].Reasons {
				writeReason(&b, reason, commands)
			}
			fmt.Fprintf(&b, "  - apiGroups: %s\n    resources: %s\n", flow(r.APIGroups), flow(r.Resources))
			if len(r.ResourceNames) > 0 {
				fmt.Fprintf(&b, "    resourceNames: %s\n", flow(r.ResourceNames))
			}
			fmt.Fprintf(&b, "    verbs: %s\n", flow(r.Verbs))
		}
	}
	return b.String()
}

func writeBinding(b *strings.Builder, o Object) {
	fmt.Fprintf(b, "roleRef: {apiGroup: %s, kind: %s, name: %s}\nsubjects:\n", o.RoleRef.APIGroup, o.RoleRef.Kind, quote(o.RoleRef.Name))
	for _, s := range o.Subjects {
		fmt.Fprintf(b, "  - {kind: %s, name: %s", s.Kind, quote(s.Name))
		if s.Namespace != "" {
			fmt.Fprintf(b, ", namespace: %s", quote(s.Namespace))
		}
		if s.APIGroup != "" {
			fmt.Fprintf(b, ", apiGroup: %s", s.APIGroup)
		}
		b.WriteString("}\n")
	}
}

// commentWidth is where comments are broken.
const commentWidth = 96

func writeReason(b *strings.Builder, r Reason, commands int) {
	text := strings.Join(r.Verbs, ", ") + ": " + r.Why
	if r.When != "" {
		text += ", " + r.When
	}
	if r.Without != "" {
		text += " (without it, " + r.Without + ")"
	}
	switch {
	case commands == 1:
	case len(r.Commands) == commands:
		text += " [all]"
	default:
		text += " [" + strings.Join(r.Commands, ", ") + "]"
	}
	line := "  #"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > commentWidth {
			b.WriteString(line + "\n")
			line = "  #  "
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

func flow(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quote makes any text a YAML string: Go's quoting is JSON's for what names may hold.
func quote(text string) string {
	plain := text != "" && !slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "null"}, text) &&
		strings.Trim(text, "abcdefghijklmnopqrstuvwxyz-./") == ""
	if plain {
		return text
	}
	return fmt.Sprintf("%q", text)
}

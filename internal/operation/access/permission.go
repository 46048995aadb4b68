package access

import "slices"

// Permission is one verb on one object, as the API server is asked about it.
type Permission struct {
	Verb, Group string
	// Resource may have a subresource: "pods/exec".
	Resource string
	// Namespace is empty for what is in none.
	Namespace string
	// Name is empty for all objects of the namespace.
	Name string
}

// String returns "patch services cache-redis".
func (p Permission) String() string {
	text := p.Verb + " " + p.Resource
	if p.Name != "" {
		text += " " + p.Name
	}
	return text
}

// Permissions returns what the command cannot do without on the objects of n, each verb
// on each object once, in the order of the table. holds are conditions (Rule.When) that
// are known to be met; rules under other conditions are left to the API server, which
// says no when it comes to them.
func (n Need) Permissions(of Names, holds ...string) []Permission {
	var all []Permission
	for _, r := range n.Rules {
		if of.vacant(r.On) || !r.Needed(holds...) {
			continue
		}
		names := of.Of(r.On)
		if len(names) == 0 {
			names = []string{""}
		}
		for _, verb := range r.Verbs {
			for _, name := range names {
				p := Permission{Verb: verb, Group: r.Group, Resource: r.Resource, Namespace: of.Namespace, Name: name}
				if r.Cluster {
					p.Namespace = ""
				}
				if !slices.Contains(all, p) {
					all = append(all, p)
				}
			}
		}
	}
	return all
}

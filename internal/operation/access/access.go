// Package access holds what each command needs of Kubernetes: one table, from which
// `redisctl rbac` prints Roles, and from which commands that change something find out
// beforehand whether they are allowed to. An end-to-end test runs every command under
// exactly these Roles, and without each single permission.
package access

import (
	"cmp"
	"slices"
	"strings"
)

// Owner says which objects a rule is about, so that their names can be put into it
// (resourceNames). RBAC cannot restrict list and create by names, with the exception of
// create on subresources, which have their object's name in the address.
type Owner int

// The owners.
const (
	Anybody       Owner = iota // no names: all objects of the namespace
	Workload                   // the StatefulSet
	Pods                       // its pods
	Password                   // the Secret that the password comes from
	Configuration              // the ConfigMaps that the pods mount
	Services                   // the release's Services that are not headless
	Lock                       // the Lease redisctl-WORKLOAD
	Guard                      // what belongs to the guard: redisctl-guard-WORKLOAD
	Claims                     // the claims of the pods
	Helper                     // the helper pod, and the claim made from a snapshot
	PodsAndHelper              // both
)

// Rule is one permission.
type Rule struct {
	// Group is the API group, empty for the core.
	Group string
	// Resource in the plural; it may have a subresource: "pods/exec".
	Resource string
	Verbs    []string
	On       Owner
	// Cluster is set for objects that are in no namespace.
	Cluster bool
	// Why says what it is for, in the words of the operator.
	Why string
	// When says in which case it is needed; empty: always.
	When string
	// Without says what becomes of a command that is not allowed to, if it goes on all
	// the same; empty: it ends with exit code 8.
	Without string
}

// Needed reports whether the command ends without the rule when the conditions (When) hold.
func (r Rule) Needed(holds ...string) bool {
	return r.Without == "" && (r.When == "" || slices.Contains(holds, r.When))
}

// Need is what one command needs.
type Need struct {
	// Command without the program's name: "backup rdb".
	Command string
	Rules   []Rule
}

// Names are the objects of one release. A rule about objects without a name here holds
// for all of the namespace.
type Names struct {
	Namespace, Release                 string
	Workload                           string
	Secret                             string
	Pods, Services, ConfigMaps, Claims []string
}

// The prefixes of names that redisctl gives, as internal/kube has them.
const (
	lockPrefix   = "redisctl-"
	guardPrefix  = "redisctl-guard-"
	helperSuffix = "-redisctl-restore"
)

// Of returns the names that a rule can be restricted to; nil where it cannot.
func (n Names) Of(o Owner) []string {
	if n.Workload == "" {
		return nil
	}
	switch o {
	case Workload:
		return []string{n.Workload}
	case Pods:
		return n.Pods
	case Password:
		return []string{n.Secret}
	case Configuration:
		return n.ConfigMaps
	case Services:
		return n.Services
	case Lock:
		return []string{lockPrefix + n.Workload}
	case Guard:
		return []string{guardPrefix + n.Workload}
	case Claims:
		return n.Claims
	case Helper:
		return []string{n.Workload + helperSuffix}
	case PodsAndHelper:
		return append(slices.Clone(n.Pods), n.Workload+helperSuffix)
	default:
		return nil
	}
}

// vacant reports that the release has nothing that the rule could be about: without a
// name it would hold for everything.
func (n Names) vacant(o Owner) bool {
	return n.Workload != "" && (o == Password && n.Secret == "" || o != Anybody && len(n.Of(o)) == 0)
}

// Of returns what a command needs. The second result is false for a command that the
// table does not have.
func Of(command string) (Need, bool) {
	for _, n := range Table() {
		if n.Command == command {
			return n, true
		}
	}
	return Need{}, false
}

// Reason is one purpose of a permission.
type Reason struct {
	Verbs    []string `json:"verbs"`
	Commands []string `json:"commands"`
	Why      string   `json:"why"`
	// When and Without are those of Rule.
	When    string `json:"when,omitempty"`
	Without string `json:"without,omitempty"`
}

// Grant is a rule of a Role, merged from what several commands need.
type Grant struct {
	Cluster  bool     `json:"cluster,omitempty"`
	Group    string   `json:"group"`
	Resource string   `json:"resource"`
	Verbs    []string `json:"verbs"`
	// Names that it is restricted to; none: all.
	Names   []string `json:"names,omitempty"`
	Reasons []Reason `json:"reasons"`
}

// Merge returns the grants of several commands, by group and resource, each verb on each
// name once. With everywhere, no names are put in: they differ by namespace.
func Merge(needs []Need, n Names, everywhere bool) []Grant {
	if everywhere {
		n = Names{}
	}
	var grants []Grant
	for _, need := range needs {
		for _, r := range need.Rules {
			if n.vacant(r.On) {
				continue
			}
			i := slices.IndexFunc(grants, func(g Grant) bool { return g.holds(r, n.Of(r.On)) })
			if i < 0 {
				i = len(grants)
				grants = append(grants, Grant{Cluster: r.Cluster, Group: r.Group, Resource: r.Resource, Names: n.Of(r.On)})
			}
			grants[i].add(need.Command, r)
		}
	}
	grants = withoutRepetition(grants)
	slices.SortStableFunc(grants, func(a, b Grant) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource), -cmp.Compare(len(a.Names), len(b.Names)))
	})
	return grants
}

func (g *Grant) holds(r Rule, names []string) bool {
	return g.Cluster == r.Cluster && g.Group == r.Group && g.Resource == r.Resource && slices.Equal(g.Names, names)
}

func (g *Grant) add(command string, r Rule) {
	for _, v := range r.Verbs {
		if !slices.Contains(g.Verbs, v) {
			g.Verbs = append(g.Verbs, v)
		}
	}
	for i, reason := range g.Reasons {
		if reason.Why == r.Why && reason.When == r.When && reason.Without == r.Without && slices.Equal(reason.Verbs, r.Verbs) {
			if !slices.Contains(reason.Commands, command) {
				g.Reasons[i].Commands = append(g.Reasons[i].Commands, command)
			}
			return
		}
	}
	g.Reasons = append(g.Reasons, Reason{Verbs: r.Verbs, Commands: []string{command}, Why: r.Why, When: r.When, Without: r.Without})
}

// withoutRepetition takes verbs on names away that hold for all names anyway.
func withoutRepetition(grants []Grant) []Grant {
	var kept []Grant
	for _, g := range grants {
		if len(g.Names) > 0 {
			for _, wider := range grants {
				if len(wider.Names) == 0 && wider.holds(Rule{Cluster: g.Cluster, Group: g.Group, Resource: g.Resource}, nil) {
					g.Verbs = slices.DeleteFunc(slices.Clone(g.Verbs), func(v string) bool { return slices.Contains(wider.Verbs, v) })
				}
			}
		}
		if len(g.Verbs) > 0 {
			kept = append(kept, g)
		}
	}
	return kept
}

// Commands lists the commands of the table.
func Commands() []string {
	var names []string
	for _, n := range Table() {
		names = append(names, n.Command)
	}
	return names
}

// Below returns the needs of a command, or of all commands of a group. The second
// result is false when there are none.
func Below(words string) ([]Need, bool) {
	var found []Need
	for _, n := range Table() {
		if n.Command == words || strings.HasPrefix(n.Command, words+" ") {
			found = append(found, n)
		}
	}
	return found, len(found) > 0
}

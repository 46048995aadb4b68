package access

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Only what a command can never do without is asked about beforehand: somebody whose own
// Role is narrower must not be turned away for what would not have been needed.
func TestPermissionsAskedBeforehand(t *testing.T) {
	n := Need{Command: "switch", Rules: []Rule{
		{Resource: "pods", Verbs: []string{"list"}},
		{Resource: "services", Verbs: []string{"get", "patch"}, On: Services},
		{Resource: "secrets", Verbs: []string{"get"}, On: Password},
		{Resource: "events", Verbs: []string{"list"}, Without: "they are not shown"},
		{Resource: "pods/exec", Verbs: []string{"create"}, On: Pods, When: OnVolume},
		{Resource: "leases", Verbs: []string{"create"}, When: "for the first time"},
		{Resource: "namespaces", Verbs: []string{"get"}, Cluster: true},
		{Resource: "pods", Verbs: []string{"list"}},
	}}
	release := Names{Namespace: "prod", Workload: "cache", Services: []string{"a", "b"}, Pods: []string{"cache-0"}}
	text := func(all []Permission) (texts []string) {
		for _, p := range all {
			texts = append(texts, p.Namespace+": "+p.String())
		}
		return texts
	}
	assert.Equal(t, []string{
		"prod: list pods", "prod: get services a", "prod: get services b", "prod: patch services a", "prod: patch services b", ": get namespaces",
	}, text(n.Permissions(release)), "no password, so no Secret")
	assert.Contains(t, text(n.Permissions(release, OnVolume)), "prod: create pods/exec cache-0")
	assert.Equal(t, []string{"prod: list pods", "prod: get services", "prod: patch services", "prod: get secrets", ": get namespaces"},
		text(n.Permissions(Names{Namespace: "prod"})), "names that are not known")
}

// A condition that a command says to hold must be one of the table.
func TestConditionsAreThoseOfTheTable(t *testing.T) {
	for command, condition := range map[string]string{"restore rdb": OnVolume, "upgrade apply": InPods} {
		n, ok := Of(command)
		require.True(t, ok)
		assert.Greater(t, len(n.Permissions(Names{}, condition)), len(n.Permissions(Names{})), command)
	}
	n, _ := Of("upgrade apply")
	assert.Contains(t, n.Permissions(Names{}, InPods), Permission{Verb: "delete", Resource: "pods"})
	assert.NotContains(t, n.Permissions(Names{}, Beside), Permission{Verb: "delete", Resource: "pods"})
}

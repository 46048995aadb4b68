package access

import "slices"

// The API groups besides the core.
const (
	apps         = "apps"
	rbac         = "rbac.authorization.k8s.io"
	coordination = "coordination.k8s.io"
	discovery    = "discovery.k8s.io"
	networking   = "networking.k8s.io"
	policy       = "policy"
	snapshots    = "snapshot.storage.k8s.io"
	storage      = "storage.k8s.io"
	events       = "events.k8s.io"
)

// Conditions that commands know to hold once they have a plan.
const (
	OnVolume = "with --method volume"
	Begun    = "where one was interrupted"
	Second   = "where there is a second release"
	InPods   = "with --strategy rolling or in-place"
	Beside   = "with --strategy blue-green or dump-restore"
)

// Table is what every command needs, in the order of the help. Commands that never ask
// Kubernetes have no rules. What is written here was read off the API server's audit
// log, but for the groups maintenance, info and support-bundle, which were read off the code.
func Table() []Need {
	return slices.Concat(observing(), maintaining(), keeping(), restoring(), switching(), guarding(), upgrading(), alone())
}

func connects(command string, more ...[]Rule) Need {
	return Need{Command: command, Rules: slices.Concat(append([][]Rule{find(), connect()}, more...)...)}
}

// looks is for commands that never connect to a server.
func looks(command string, more ...[]Rule) Need {
	return Need{Command: command, Rules: slices.Concat(append([][]Rule{find()}, more...)...)}
}

func observing() []Need {
	return []Need{
		connects("health"), connects("health ping"), connects("health version"), connects("info"),
		connects("replication info"), connects("replication primary"), connects("replication role"),
		connects("replication lag"), connects("replication check"),
	}
}

func keeping() []Need {
	return []Need{
		connects("backup rdb", when("with --method bgsave", lock(), exec("copy the file"))),
		connects("backup aof", lock(), exec("copy the files"), notes("note which settings are changed while the files are copied")),
		connects("backup config", helmHistory("the values are not kept")),
		looks("backup resources", kept()),
		connects("backup full", lock(), exec("copy the files"), notes("note which settings are changed while the files are copied"),
			helmHistory("the values are not kept"), kept()),
		connects("backup volume", lock(), []Rule{
			{Resource: "persistentvolumeclaims", Verbs: []string{"get"}, On: Claims, Why: "find the storage of the claim"},
			{Resource: "persistentvolumes", Verbs: []string{"get"}, Cluster: true, Why: "find the driver of the volume", Without: "the class is chosen by the claim's storage class"},
			{Group: storage, Resource: "storageclasses", Verbs: []string{"get"}, Cluster: true, Why: "find the driver of the volume", When: "where the volume does not tell"},
			{Group: snapshots, Resource: "volumesnapshotclasses", Verbs: []string{"list"}, Cluster: true, Why: "choose the class", Without: "--snapshot-class must name it"},
			{Group: snapshots, Resource: "volumesnapshots", Verbs: []string{"create", "get", "list", "watch", "delete"}, Why: "make the snapshot, wait for it, and remove it when it fails"},
		}),
		{Command: "backup list", Rules: when("with --volumes", []Rule{{Group: snapshots, Resource: "volumesnapshots", Verbs: []string{"list"}, Why: "list the snapshots"}})},
		{Command: "backup show"}, {Command: "backup verify"}, {Command: "backup diff"}, {Command: "backup analyze"},
		{Command: "backup copy"}, {Command: "backup prune"},
	}
}

func restoring() []Need {
	const record = "record the restore; stop and start the servers"
	volume := slices.Concat(lock(), notes(record), exec("place the files", PodsAndHelper), helper(), claims())
	return []Need{
		connects("restore rdb", when(OnVolume, volume)),
		connects("restore aof", volume),
		connects("restore config", lock(), helmHistory("the file for the rest has lines of redis.conf")),
		{Command: "restore full", Rules: rebuild()},
		connects("restore volume", volume, []Rule{
			{Group: snapshots, Resource: "volumesnapshots", Verbs: []string{"get"}, Why: "find the snapshot"},
			{Resource: "persistentvolumeclaims", Verbs: []string{"create"}, Why: "make a claim from the snapshot"},
			{Resource: "persistentvolumeclaims", Verbs: []string{"get", "delete"}, On: Helper, Why: "remove that claim again"},
		}),
		looks("restore test", when("where the server runs in a pod", connectAny(), readNotes(), throwAway("the throw-away server"),
			[]Rule{{Resource: "pods/exec", Verbs: []string{"get", "create"}, Why: "place the backup in the pod"}})),
		looks("restore status", readNotes()),
		looks("restore resume", readNotes(), when(Begun, connect(), volume)),
		looks("restore abort", readNotes(), when(Begun, connect(), volume)),
		looks("restore cleanup", readNotes(), when("where something is left", lock(), exec("remove the files"), notes("forget the restore"))),
	}
}

func switching() []Need {
	service := mayLack(exec("prove a write through the Services"), "the endpoints must do as a proof")
	handOver := slices.Concat(lock(), notes("record the switch and where the primary is meant to be"), route(), service, budgets())
	end := []Rule{{Resource: "pods", Verbs: []string{"delete"}, On: Pods, Why: "end a primary that hangs", When: "unless --keep-pod"}}
	needs := []Need{
		connects("replication resync", readNotes()),
		connects("replication heal", lock(), notes("record the repair and where the primary is meant to be"), when("where Services lead elsewhere", route(), service)),
	}
	for _, command := range []string{"failover promote", "promote", "failover failback"} {
		needs = append(needs, connects(command, handOver))
	}
	return append(needs,
		connects("failover force", handOver, end),
		connects("failover status", readNotes()),
		connects("failover resume", readNotes(), when(Begun, handOver, end)),
		connects("failover abort", readNotes(), when(Begun, handOver)),
	)
}

func guarding() []Need {
	pieces := func(why string, verbs ...string) []Rule {
		return []Rule{
			{Resource: "serviceaccounts", Verbs: verbs, On: Guard, Why: why},
			{Group: rbac, Resource: "roles", Verbs: verbs, On: Guard, Why: why},
			{Group: rbac, Resource: "rolebindings", Verbs: verbs, On: Guard, Why: why},
			{Group: apps, Resource: "deployments", Verbs: verbs, On: Guard, Why: why},
		}
	}
	create := pieces("make the guard", "create")
	for i := range create {
		create[i].On = Anybody
	}
	lease := func(verbs ...string) []Rule {
		return []Rule{{Group: coordination, Resource: "leases", Verbs: verbs, On: Guard, Why: "see which pod of the guard leads"}}
	}
	own := guardItself("give it to the guard: nobody can give what they do not have")
	return []Need{
		{Command: "failover guard install", Rules: slices.Concat(find(), readNotes(), pieces("make the guard", "get", "patch"), create, lease("get"), own)},
		looks("failover guard status", when("where there is a guard", readNotes()), pieces("see the guard", "get"), lease("get")),
		{Command: "failover guard remove", Rules: slices.Concat(find(), notes("forget what the guard observed"), pieces("remove the guard", "get", "delete"), lease("get", "delete"))},
		{Command: "failover guard run", Rules: slices.Concat(find(), guardItself("be the guard"))},
	}
}

// guardItself is what the Role of the guard holds (internal/kube/guard_objects.go).
func guardItself(why string) []Rule {
	return []Rule{
		{Group: apps, Resource: "statefulsets", Verbs: []string{"get", "patch"}, On: Workload, Why: why},
		{Resource: "pods", Verbs: []string{"list"}, Why: why},
		{Resource: "services", Verbs: []string{"list"}, Why: why},
		{Resource: "services", Verbs: []string{"get", "patch"}, On: Services, Why: why},
		{Group: discovery, Resource: "endpointslices", Verbs: []string{"list"}, Why: why},
		{Resource: "configmaps", Verbs: []string{"get"}, On: Configuration, Why: why},
		{Group: coordination, Resource: "leases", Verbs: []string{"get", "update"}, On: Lock, Why: why},
		{Group: coordination, Resource: "leases", Verbs: []string{"get", "update"}, On: Guard, Why: why},
		{Group: coordination, Resource: "leases", Verbs: []string{"create"}, Why: why},
		{Group: events, Resource: "events", Verbs: []string{"create"}, Why: why},
		{Resource: "pods", Verbs: []string{"delete"}, On: Pods, Why: why, When: "with --promote"},
	}
}

func upgrading() []Need {
	history := helmHistory("")
	trial := mayLack(slices.Concat(connectAny(), throwAway("the trial of the new image")), "the trial is not made, which is a warning")
	space := mayLack(exec("see the free space and the tools"), "it is not checked")
	logs := mayLack([]Rule{{Resource: "pods/log", Verbs: []string{"get"}, On: Pods, Why: "look for errors in the servers' logs"}}, "they are not looked at")
	back := []Rule{{Group: apps, Resource: "statefulsets", Verbs: []string{"create", "delete"}, Why: "make the workload anew around its pods", When: "with --recreate-workload"}}
	roll := slices.Concat(lock(), notes("hold the pods and record the upgrade"), route(), budgets(), history, trial, space, logs,
		mayLack(exec("prove a write through the Services"), "the endpoints must do as a proof"),
		[]Rule{{Resource: "pods", Verbs: []string{"delete"}, On: Pods, Why: "replace the pods, one by one"}}, kept(), helmObjects(), back)
	either := route() // once clients are sent to the second release, the Services count as its own
	for i := range either {
		either[i].On = Anybody
	}
	green := slices.Concat(lock(), notes("record the switch"), either, budgets(), history,
		[]Rule{{Resource: "pods", Verbs: []string{"get"}, Why: "follow the other release"}},
		[]Rule{{Group: apps, Resource: "statefulsets", Verbs: []string{"get", "patch"}, Why: "record it with the second release, too"}},
		[]Rule{{Resource: "secrets", Verbs: []string{"get"}, Why: "the password of the second release"}},
		[]Rule{{Group: coordination, Resource: "leases", Verbs: []string{"get", "update"}, Why: "lock the second release, too"}},
		connectAny(), mayLack(exec("prove a write through the Services"), "the endpoints must do as a proof"))
	second := slices.Concat(helmObjects(), chartRole(), when("when it fails", helmRemoval()))
	return []Need{
		connects("upgrade check", mayLack(readNotes(), "what was begun before and the memory limits are not checked, and it says so"), mayLack(history, "Helm's record is not checked"), budgets(), trial, space,
			mayLack([]Rule{{Group: coordination, Resource: "leases", Verbs: []string{"get"}, On: Lock, Why: "see whether somebody holds the lock"}}, "it is not checked")),
		connects("upgrade apply", when(InPods, roll), when(Beside, green, second)),
		looks("upgrade status", readNotes(), mayLack(history, "Helm's record is not shown")),
		connects("upgrade validate", readNotes(), logs),
		connects("upgrade rollback", roll),
		looks("upgrade resume", readNotes(), when(Begun, connect(), roll), when(Second, connect(), green, second)),
		looks("upgrade abort", readNotes(), when(Begun, connect(), roll), when(Second, connect(), green, helmRemoval())),
		connects("upgrade cutover", green), connects("upgrade failback", green), connects("upgrade finish", green),
	}
}

// alone lists what never asks Kubernetes.
func alone() []Need {
	return []Need{{Command: "rbac", Rules: when("with --release", find())}, {Command: "completion"}, {Command: "version"},
		{Command: "config view"}, {Command: "config path"}, {Command: "config check"}}
}

// --- what commands have in common -------------------------------------------------

func find() []Rule {
	return []Rule{
		{Group: apps, Resource: "statefulsets", Verbs: []string{"list"}, Why: "find the release"},
		{Resource: "pods", Verbs: []string{"list"}, Why: "find its pods"},
		{Resource: "services", Verbs: []string{"list"}, Why: "see where clients are sent", Without: "the Services are not checked, and health says so"},
		{Group: discovery, Resource: "endpointslices", Verbs: []string{"list"}, Why: "see where clients arrive", Without: "the endpoints are not checked, and health says so"},
		{Resource: "configmaps", Verbs: []string{"get"}, On: Configuration, Why: "know how redis.conf names the commands", Without: "renamed commands are not known, and health says so"},
	}
}

// overSPDY is what becomes of streams that may not be opened with GET.
const overSPDY = "SPDY is used"

func connect() []Rule { return slices.Concat(password(), forward()) }

func password() []Rule {
	return []Rule{{Resource: "secrets", Verbs: []string{"get"}, On: Password, Why: "the password"}}
}

func forward() []Rule {
	return []Rule{
		{Resource: "pods/portforward", Verbs: []string{"create"}, On: Pods, Why: "talk to the servers"},
		{Resource: "pods/portforward", Verbs: []string{"get"}, On: Pods, Why: "talk to the servers over WebSocket", Without: overSPDY},
	}
}

// connectAny is for pods whose names are not known beforehand.
func connectAny() []Rule {
	return []Rule{{Resource: "pods/portforward", Verbs: []string{"get", "create"}, Why: "talk to servers in pods that are made"}}
}

func lock() []Rule {
	return []Rule{
		{Group: coordination, Resource: "leases", Verbs: []string{"get", "update"}, On: Lock, Why: "lock the release"},
		{Group: coordination, Resource: "leases", Verbs: []string{"create"}, Why: "lock the release", When: "for the first time"},
	}
}

func exec(why string, on ...Owner) []Rule {
	owner := Pods
	if len(on) > 0 {
		owner = on[0]
	}
	return []Rule{
		{Resource: "pods/exec", Verbs: []string{"create"}, On: owner, Why: why},
		{Resource: "pods/exec", Verbs: []string{"get"}, On: owner, Why: why + ", over WebSocket", Without: overSPDY},
	}
}

func readNotes() []Rule { return template("read what was begun before") }

// template is the workload itself.
func template(why string) []Rule {
	return []Rule{{Group: apps, Resource: "statefulsets", Verbs: []string{"get"}, On: Workload, Why: why}}
}

func notes(why string) []Rule {
	return []Rule{{Group: apps, Resource: "statefulsets", Verbs: []string{"get", "patch"}, On: Workload, Why: why}}
}

func route() []Rule {
	return []Rule{
		{Resource: "services", Verbs: []string{"get", "patch"}, On: Services, Why: "send the clients elsewhere"},
		{Resource: "services", Verbs: []string{"list"}, Why: "see where clients are sent"},
		{Group: discovery, Resource: "endpointslices", Verbs: []string{"list"}, Why: "see where clients arrive"},
	}
}

func budgets() []Rule {
	return []Rule{{Group: policy, Resource: "poddisruptionbudgets", Verbs: []string{"list"}, Why: "say what a drained node may do", Without: "it is not said"}}
}

// helmHistory is Helm's own record. Its Secrets cannot be told apart by RBAC from others.
func helmHistory(without string) []Rule {
	return []Rule{{Resource: "secrets", Verbs: []string{"list"}, Why: "Helm's record of the release", Without: without}}
}

func helper() []Rule {
	const why = "a helper pod that mounts the data volume while the servers are stopped"
	return []Rule{
		{Resource: "pods", Verbs: []string{"create"}, Why: why},
		{Resource: "pods", Verbs: []string{"get", "delete"}, On: Helper, Why: why},
	}
}

func claims() []Rule {
	return []Rule{{Resource: "persistentvolumeclaims", Verbs: []string{"get"}, On: Claims, Why: "see the size of the volume"}}
}

// throwAway is a pod with a name of its own.
func throwAway(why string) []Rule {
	return []Rule{
		{Resource: "pods", Verbs: []string{"create", "get", "delete"}, Why: why},
		{Resource: "pods/log", Verbs: []string{"get"}, Why: why, When: "when it fails"},
	}
}

// kept are the kinds of which `backup resources` keeps the release's objects.
func kept() []Rule {
	const why, without = "keep the release's objects", "they are left out, and named (exit code 3)"
	rule := func(group, resource string) Rule {
		return Rule{Group: group, Resource: resource, Verbs: []string{"list"}, Why: why, Without: without}
	}
	secrets := rule("", "secrets")
	secrets.When, secrets.Without = "with --include-secrets", ""
	return append(readNotes(), rule("", "serviceaccounts"), rule("", "configmaps"), rule("", "persistentvolumeclaims"),
		rule(rbac, "roles"), rule(rbac, "rolebindings"), rule("", "services"), rule(networking, "networkpolicies"),
		rule(policy, "poddisruptionbudgets"), secrets)
}

// helmObjects is what Helm does with the objects of the chart. Other charts may have
// objects of other kinds.
func helmObjects() []Rule {
	const why = "Helm's next revision"
	verbs := []string{"get", "create", "patch"}
	rules := []Rule{{Group: apps, Resource: "statefulsets", Verbs: []string{"get", "patch"}, Why: why}}
	for _, k := range [][2]string{
		{"", "serviceaccounts"}, {"", "secrets"}, {"", "configmaps"}, {"", "services"}, {rbac, "roles"},
		{rbac, "rolebindings"}, {policy, "poddisruptionbudgets"}, {networking, "networkpolicies"},
	} {
		rules = append(rules, Rule{Group: k[0], Resource: k[1], Verbs: verbs, Why: why, When: "where the chart has some"})
	}
	return append(rules,
		Rule{Resource: "secrets", Verbs: []string{"get", "create", "update"}, Why: "Helm's record of the release"},
		Rule{Resource: "secrets", Verbs: []string{"delete"}, Why: "Helm's record of the release", When: "when its history is full"},
	)
}

// helmRemoval is what removing a release that was made takes.
func helmRemoval() []Rule {
	const why = "remove the second release again"
	rules := []Rule{{Resource: "persistentvolumeclaims", Verbs: []string{"list", "delete"}, Why: why}}
	for _, k := range [][2]string{{"", "secrets"}, {"", "configmaps"}, {"", "services"}, {apps, "statefulsets"}} {
		rules = append(rules, Rule{Group: k[0], Resource: k[1], Verbs: []string{"get", "delete"}, Why: why})
	}
	for _, k := range [][2]string{
		{"", "serviceaccounts"}, {rbac, "roles"}, {rbac, "rolebindings"}, {policy, "poddisruptionbudgets"}, {networking, "networkpolicies"},
	} {
		rules = append(rules, Rule{Group: k[0], Resource: k[1], Verbs: []string{"get", "delete"}, Why: why, When: "where the chart has some"})
	}
	return rules
}

// chartRole is what the chart's own Role holds.
func chartRole() []Rule {
	var rules []Rule
	for _, resource := range []string{"configmaps", "secrets", "pods", "endpoints", "persistentvolumeclaims"} {
		rules = append(rules, Rule{
			Resource: resource, Verbs: []string{"get", "list", "watch"}, When: "where the chart makes one",
			Why: "give it to the Role of the release: nobody can give what they do not have",
		})
	}
	return rules
}

// rebuild is what `restore full` needs in the namespace that it restores into.
func rebuild() []Rule {
	const why = "make the release anew"
	verbs := []string{"get", "create", "patch"}
	rules := []Rule{
		{Resource: "namespaces", Verbs: []string{"get"}, Cluster: true, Why: "see whether the namespace is there"},
		{Resource: "namespaces", Verbs: []string{"create"}, Cluster: true, Why: "make the namespace", When: "with --create-namespace"},
		{Group: storage, Resource: "storageclasses", Verbs: []string{"list"}, Cluster: true, Why: "see whether the volumes can be had"},
	}
	for _, k := range [][2]string{
		{"", "serviceaccounts"}, {"", "secrets"}, {"", "configmaps"}, {"", "persistentvolumeclaims"}, {rbac, "roles"},
		{rbac, "rolebindings"}, {"", "services"}, {networking, "networkpolicies"}, {policy, "poddisruptionbudgets"},
	} {
		rules = append(rules, Rule{Group: k[0], Resource: k[1], Verbs: verbs, Why: why, When: "where the backup has some"})
	}
	rules = append(rules,
		Rule{Group: apps, Resource: "statefulsets", Verbs: verbs, Why: why},
		Rule{Resource: "secrets", Verbs: []string{"list"}, Why: "see whether Helm has a release of that name"})
	return slices.Concat(rules, chartRole(), find(), connect(), lock(), exec("place the files", PodsAndHelper), helper())
}

// when makes rules depend on a case.
func when(condition string, rules ...[]Rule) []Rule {
	all := slices.Concat(rules...)
	for i := range all {
		if all[i].When != "" {
			all[i].When += ", "
		}
		all[i].When += condition
	}
	return all
}

// mayLack makes rules ones that a command can do without.
func mayLack(rules []Rule, without string) []Rule {
	all := slices.Clone(rules)
	for i := range all {
		all[i].Without = without
	}
	return all
}

// maintaining is the group of that name, and those of its commands that are at the top
// level, too.
func maintaining() []Need {
	sees := []Rule{{Resource: "events", Verbs: []string{"list"}, Why: "show what Kubernetes has to say", Without: "it is left out"}}
	told := []Rule{
		{Resource: "events", Verbs: []string{"list"}, Why: "show what Kubernetes has to say"},
		{Resource: "events", Verbs: []string{"watch"}, Why: "show what comes", When: "with --watch"},
	}
	logs := []Rule{{Resource: "pods/log", Verbs: []string{"get"}, On: Pods, Why: "read the logs"}}
	usage := []Rule{{Group: "metrics.k8s.io", Resource: "pods", Verbs: []string{"get", "list"}, Why: "CPU and memory", Without: "INFO must do"}}
	var needs []Need
	for _, c := range []string{
		"dbsize", "keys", "bigkeys", "slowlog", "latency", "latency doctor", "latency history", "latency histogram",
		"save", "bgsave", "lastsave", "aof-rewrite", "monitor", "exec",
	} {
		needs = append(needs, connects("maintenance "+c))
	}
	needs = append(needs, connects("keys"), connects("maintenance memory", template("see the memory limit")))
	for _, c := range []string{"flushdb", "flushall"} {
		needs = append(needs, connects("maintenance "+c, lock(), readNotes()))
	}
	for _, group := range []string{"maintenance ", ""} {
		needs = append(needs,
			connects(group+"shell", exec("a terminal in the pod")), looks(group+"logs", logs, mayLack(password(), "it is masked only where a line says that it is one")),
			connects(group+"describe", sees, mayLack(template("see its limits and probes"), "they are not shown, which is said"), budgets(), []Rule{{Resource: "persistentvolumeclaims", Verbs: []string{"list"}, Why: "see the claims", Without: "they are not shown"}},
				mayLack(exec("see the free space"), "it is not shown")),
			looks(group+"events", told), looks(group+"top", mayLack(connect(), "the frame names what could not be asked, and why"), sees, usage),
			connects(group+"port-forward"))
	}
	for _, c := range []string{"stats", "clients", "config", "memory"} {
		needs = append(needs, connects("info "+c))
	}
	const named = "it is left out, and named"
	return append(needs, looks("info metrics", forward()),
		looks("support-bundle", mayLack(slices.Concat(connect(), told[:1], logs, kept()), named), mayLack(helmHistory(""), "the values are left out")))
}

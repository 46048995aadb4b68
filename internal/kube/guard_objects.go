package kube

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	appsconfig "k8s.io/client-go/applyconfigurations/apps/v1"
	coreconfig "k8s.io/client-go/applyconfigurations/core/v1"
	metaconfig "k8s.io/client-go/applyconfigurations/meta/v1"
	rbacconfig "k8s.io/client-go/applyconfigurations/rbac/v1"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/guard"
)

const (
	// guardApp is the guard's app.kubernetes.io/name.
	guardApp = "redisctl-guard"
	// workloadLabel tells the guards of two StatefulSets of one release apart.
	workloadLabel = "redisctl.dev/workload"
	versionLabel  = "app.kubernetes.io/version"

	guardContainer = "guard"
	// guardUser is the "nonroot" of distroless images; no file of the image needs it.
	guardUser = 65532
	// passwordFolder is where the kubelet keeps the password up to date.
	passwordFolder = "/run/redisctl"
	passwordFile   = "password"
	// scratchLimit bounds what comparing data sets may put on the node's disk.
	scratchLimit = "2Gi"
	// guardGrace lets a switch that has begun be completed: as long as
	// failover.DefaultLimits lets the servers settle, and some more.
	guardGrace = 75 * time.Second
	// passwordMode lets the guard's group read the password, and nobody else.
	passwordMode = 0o440
)

// guardName is the name of everything that belongs to the guard of a deployment.
func guardName(d *operation.Deployment) string { return guardApp + "-" + d.Workload.Name }

func guardSelector(d *operation.Deployment) map[string]string {
	return map[string]string{nameLabel: guardApp, instanceLabel: d.Release, workloadLabel: d.Workload.Name}
}

func guardLabels(d *operation.Deployment) map[string]string {
	labels := guardSelector(d)
	labels[managerLabel] = fieldManager
	return labels
}

// guardConfigs are the objects of a guard as they are applied. They hold only what
// redisctl has an opinion on.
type guardConfigs struct {
	account    *coreconfig.ServiceAccountApplyConfiguration
	role       *rbacconfig.RoleApplyConfiguration
	binding    *rbacconfig.RoleBindingApplyConfiguration
	deployment *appsconfig.DeploymentApplyConfiguration
}

func newGuardConfigs(d *operation.Deployment, configMaps []string, s guard.Spec) guardConfigs {
	name, labels := guardName(d), guardLabels(d)
	return guardConfigs{
		account: coreconfig.ServiceAccount(name, d.Namespace).WithLabels(labels).WithAutomountServiceAccountToken(false),
		role:    rbacconfig.Role(name, d.Namespace).WithLabels(labels).WithRules(guardRules(d, configMaps, s)...),
		binding: rbacconfig.RoleBinding(name, d.Namespace).WithLabels(labels).
			WithRoleRef(rbacconfig.RoleRef().WithAPIGroup("rbac.authorization.k8s.io").WithKind("Role").WithName(name)).
			WithSubjects(rbacconfig.Subject().WithKind("ServiceAccount").WithName(name).WithNamespace(d.Namespace)),
		deployment: guardDeployment(d, s),
	}
}

// rule returns one permission; without names it holds for all of the namespace.
func rule(group, resource string, names []string, verbs ...string) *rbacconfig.PolicyRuleApplyConfiguration {
	return rbacconfig.PolicyRule().WithAPIGroups(group).WithResources(resource).WithResourceNames(names...).WithVerbs(verbs...)
}

// guardRules are the guard's permissions, each with what it is for. docs/guard.md
// repeats them. No Secret, no exec, no port-forward.
//
// RBAC cannot restrict a list by labels nor a create by names, so that those rules
// hold for the namespace; of these, only Leases and Events can be made.
func guardRules(d *operation.Deployment, configMaps []string, s guard.Spec) []*rbacconfig.PolicyRuleApplyConfiguration {
	var services []string
	for _, service := range d.Services {
		if !service.Headless {
			services = append(services, service.Name)
		}
	}
	rules := []*rbacconfig.PolicyRuleApplyConfiguration{
		// Find the release; keep the intended primary, an unfinished failover and the
		// last observation in annotations.
		rule("apps", "statefulsets", []string{d.Workload.Name}, "get", "patch"),
		// See which pods there are, their addresses, and what the kubelet says of them.
		rule("", "pods", nil, "list"),
		// See where the Services of the release send clients.
		rule("", "services", nil, "list"),
		rule("discovery.k8s.io", "endpointslices", nil, "list"),
		// Be the one that acts (redisctl-guard-...), and lock the release while it is
		// changed (redisctl-...).
		rule("coordination.k8s.io", "leases", []string{guardName(d), leasePrefix + d.Name}, "get", "update"),
		rule("coordination.k8s.io", "leases", nil, "create"),
		// Tell what was seen and done.
		rule("events.k8s.io", "events", nil, "create"),
	}
	if len(services) > 0 { // without a name a rule would hold for all
		// Send clients to the primary.
		rules = append(rules, rule("", "services", services, "get", "patch"))
	}
	if len(configMaps) > 0 {
		// Learn by which names the servers know their commands (rename-command).
		rules = append(rules, rule("", "configmaps", configMaps, "get"))
	}
	if s.Promote {
		var pods []string
		for _, i := range d.Instances {
			pods = append(pods, i.Name)
		}
		// End the process of a primary that hangs, before a replica is promoted.
		rules = append(rules, rule("", "pods", pods, "delete"))
	}
	return rules
}

func guardArguments(d *operation.Deployment, s guard.Spec) []string {
	arguments := []string{
		"failover", "guard", "run", "--namespace=" + d.Namespace, "--release=" + d.Release, "--workload=" + d.Workload.Name,
		"--interval=" + s.Interval.String(), "--timeout=" + s.Timeout.String(), "--promote-after=" + s.PromoteAfter.String(),
	}
	if s.Promote {
		arguments = append(arguments, "--promote")
	}
	if d.Credentials.Kind == credentialSecret {
		arguments = append(arguments, "--password-file="+passwordFolder+"/"+passwordFile)
	}
	return arguments
}

func guardDeployment(d *operation.Deployment, s guard.Spec) *appsconfig.DeploymentApplyConfiguration {
	labels := guardLabels(d)
	labels[versionLabel] = labelValue(s.Version)
	return appsconfig.Deployment(guardName(d), d.Namespace).WithLabels(labels).WithSpec(appsconfig.DeploymentSpec().
		WithReplicas(int32(s.Replicas)).
		WithSelector(metaconfig.LabelSelector().WithMatchLabels(guardSelector(d))).
		WithTemplate(coreconfig.PodTemplateSpec().WithLabels(labels).WithSpec(guardPod(d, s))))
}

// guardPod complies with the Pod Security Standard "restricted".
//
// It has no probes: a leader that hangs loses its Lease to the other pod, and one
// that cannot go on ends.
func guardPod(d *operation.Deployment, s guard.Spec) *coreconfig.PodSpecApplyConfiguration {
	container := coreconfig.Container().WithName(guardContainer).WithImage(s.Image).WithArgs(guardArguments(d, s)...).
		WithEnv(
			coreconfig.EnvVar().WithName("POD_NAME").WithValueFrom(coreconfig.EnvVarSource().
				WithFieldRef(coreconfig.ObjectFieldSelector().WithAPIVersion("v1").WithFieldPath("metadata.name"))),
			// Whose name the lock and the records carry.
			coreconfig.EnvVar().WithName("USER").WithValue(guardApp),
			coreconfig.EnvVar().WithName("HOME").WithValue("/tmp"),
			coreconfig.EnvVar().WithName("GOMEMLIMIT").WithValue("230MiB"),
		).
		WithResources(coreconfig.ResourceRequirements().
			WithRequests(corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("20m"), corev1.ResourceMemory: resource.MustParse("48Mi")}).
			WithLimits(corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("256Mi")})).
		WithSecurityContext(coreconfig.SecurityContext().
			WithAllowPrivilegeEscalation(false).WithReadOnlyRootFilesystem(true).WithRunAsNonRoot(true).
			WithCapabilities(coreconfig.Capabilities().WithDrop("ALL"))).
		WithVolumeMounts(coreconfig.VolumeMount().WithName("tmp").WithMountPath("/tmp"))
	pod := coreconfig.PodSpec().
		WithServiceAccountName(guardName(d)).
		WithAutomountServiceAccountToken(true).
		WithTerminationGracePeriodSeconds(int64(guardGrace / time.Second)).
		WithSecurityContext(coreconfig.PodSecurityContext().
			WithRunAsNonRoot(true).WithRunAsUser(guardUser).WithRunAsGroup(guardUser).WithFSGroup(guardUser).
			WithSeccompProfile(coreconfig.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))).
		WithTopologySpreadConstraints(coreconfig.TopologySpreadConstraint().
			WithMaxSkew(1).WithTopologyKey(corev1.LabelHostname).WithWhenUnsatisfiable(corev1.ScheduleAnyway).
			WithLabelSelector(metaconfig.LabelSelector().WithMatchLabels(guardSelector(d)))).
		WithVolumes(coreconfig.Volume().WithName("tmp").
			WithEmptyDir(coreconfig.EmptyDirVolumeSource().WithSizeLimit(resource.MustParse(scratchLimit))))
	if d.Credentials.Kind == credentialSecret {
		// A file, and no variable: it follows a rotated password without a restart.
		container.WithVolumeMounts(coreconfig.VolumeMount().WithName("password").WithMountPath(passwordFolder).WithReadOnly(true))
		pod.WithVolumes(coreconfig.Volume().WithName("password").WithSecret(coreconfig.SecretVolumeSource().
			WithSecretName(d.Credentials.Secret).WithDefaultMode(passwordMode).
			WithItems(coreconfig.KeyToPath().WithKey(d.Credentials.Key).WithPath(passwordFile))))
	}
	return pod.WithContainers(container)
}

// labelValue makes a version fit for a label.
func labelValue(version string) string {
	const longest = 63
	value := []byte(version)
	for i, b := range value {
		if b == '+' {
			value[i] = '_'
		}
	}
	return string(value[:min(len(value), longest)])
}

package kube

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redisctl/redisctl/internal/operation"
)

// The labels that Helm charts put on everything they create.
// https://helm.sh/docs/chart_best_practices/labels/
const (
	nameLabel     = "app.kubernetes.io/name"
	instanceLabel = "app.kubernetes.io/instance"
	managerLabel  = "app.kubernetes.io/managed-by"
	chartLabel    = "helm.sh/chart"
)

// releaseSelector matches the StatefulSets of all Helm releases.
const releaseSelector = instanceLabel + "," + managerLabel + "=Helm"

// defaultPort is where Redis listens when the container declares no port.
const defaultPort = 6379

// parallelReads bounds how many deployments List reads at a time. Each needs
// up to four requests.
const parallelReads = 8

// found is a StatefulSet that runs Redis.
type found struct {
	appsv1.StatefulSet
	// container runs redis-server. It points into the pod template.
	container *corev1.Container
}

func (f found) release() string { return f.Labels[instanceLabel] }

// ordinal returns the number of the StatefulSet's pod of that name. It is
// decided by the name alone, so that it works for a pod that is gone.
func (f found) ordinal(pod string) (int, bool) {
	digits, ok := strings.CutPrefix(pod, f.Name+"-")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || strconv.Itoa(n) != digits {
		return 0, false
	}
	return n, true
}

// desired returns how many pods there should be.
func (f found) desired() int {
	if f.Spec.Replicas == nil {
		return 1 // the API's default
	}
	return int(*f.Spec.Replicas)
}

// ordinals yields the numbers of the pods that should exist.
func (f found) ordinals() iter.Seq[int] {
	first := 0
	if f.Spec.Ordinals != nil {
		first = int(f.Spec.Ordinals.Start)
	}
	return func(yield func(int) bool) {
		for n := first; n < first+f.desired(); n++ {
			if !yield(n) {
				return
			}
		}
	}
}

var _ operation.Resolver = (*Client)(nil)

// Resolve implements operation.Resolver. Beyond what the port promises, the
// error is of kind Denied when the StatefulSets or pods may not be listed.
func (c *Client) Resolve(ctx context.Context, t operation.Target) (*operation.Deployment, error) {
	t = c.completed(t)
	all, err := c.releases(ctx, t.Namespace)
	if err != nil {
		return nil, err
	}
	matches := admitted(all, t)
	switch len(matches) {
	case 0:
		return nil, c.noMatch(ctx, t, all)
	case 1:
	default:
		return nil, tooMany(t, matches)
	}
	d, err := c.deployment(ctx, matches[0])
	if err != nil {
		return nil, err
	}
	if t.Pod != "" && !slices.ContainsFunc(d.Instances, func(i operation.Instance) bool { return i.Name == t.Pod }) {
		return nil, noPod(t, d)
	}
	return d, nil
}

// List implements operation.Resolver. The deployments are read in parallel.
func (c *Client) List(ctx context.Context, t operation.Target) ([]operation.Deployment, error) {
	t = c.completed(t)
	all, err := c.releases(ctx, t.Namespace)
	if err != nil {
		return nil, err
	}
	matches := admitted(all, t)
	deployments := make([]operation.Deployment, len(matches))
	errs := make([]error, len(matches))
	slots := make(chan struct{}, parallelReads)
	var group sync.WaitGroup
	for i, match := range matches {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			d, err := c.deployment(ctx, match)
			if err != nil {
				errs[i] = err
				return
			}
			deployments[i] = *d
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return deployments, nil
}

// completed settles the namespace: empty means all of them.
func (c *Client) completed(t operation.Target) operation.Target {
	switch {
	case t.AllNamespaces:
		t.Namespace = metav1.NamespaceAll
	case t.Namespace == "":
		t.Namespace = c.namespace
	}
	return t
}

// releases returns every StatefulSet in the namespace that a Helm release
// created and that runs Redis, sorted by namespace, release and name.
func (c *Client) releases(parent context.Context, namespace string) ([]found, error) {
	sets, err := c.statefulSets(parent, namespace)
	if err != nil {
		return nil, err
	}
	var releases []found
	for _, set := range sets {
		if container := redisContainer(&set); container != nil {
			releases = append(releases, found{set, container})
		}
	}
	slices.SortFunc(releases, func(a, b found) int {
		return cmp.Or(
			cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.release(), b.release()),
			cmp.Compare(a.Name, b.Name),
		)
	})
	return releases, nil
}

// statefulSets returns those of Helm releases, or the only one that this client may
// look at.
func (c *Client) statefulSets(parent context.Context, namespace string) ([]appsv1.StatefulSet, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	if c.only != "" {
		set, err := c.clientset.AppsV1().StatefulSets(namespace).Get(ctx, c.only, metav1.GetOptions{})
		if err != nil {
			return nil, c.failure(parent, request{verb: "get", resource: "statefulsets", namespace: namespace, name: c.only}, err)
		}
		return []appsv1.StatefulSet{*set}, nil
	}
	list, err := c.clientset.AppsV1().StatefulSets(namespace).List(ctx, metav1.ListOptions{LabelSelector: releaseSelector})
	if err != nil {
		return nil, c.failure(parent, request{verb: "list", resource: "statefulsets", namespace: namespace}, err)
	}
	return list.Items, nil
}

// redisContainer returns the container of the pod template that runs
// redis-server, or nil when there is none. The name alone does not tell: the
// chart names the container after itself (nameOverride changes the label), and
// sidecars may be called anything. The port does.
func redisContainer(set *appsv1.StatefulSet) *corev1.Container {
	containers := set.Spec.Template.Spec.Containers
	matching := func(test func(corev1.Container) bool) []*corev1.Container {
		var matches []*corev1.Container
		for i := range containers {
			if test(containers[i]) {
				matches = append(matches, &containers[i])
			}
		}
		return matches
	}
	candidates := matching(func(container corev1.Container) bool {
		return slices.ContainsFunc(container.Ports, isRedisPort)
	})
	if len(candidates) == 0 {
		candidates = matching(runsRedis)
	}
	for _, name := range []string{set.Labels[nameLabel], "redis"} {
		for _, candidate := range candidates {
			if candidate.Name == name {
				return candidate
			}
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	return candidates[0]
}

func isRedisPort(port corev1.ContainerPort) bool {
	return port.Name == "redis" || port.ContainerPort == defaultPort
}

func runsRedis(container corev1.Container) bool {
	if len(container.Command) == 0 {
		return false
	}
	program := path.Base(container.Command[0])
	return program == "redis-server" || program == "valkey-server"
}

// redisPort returns where the container says that Redis listens.
func redisPort(container *corev1.Container) int {
	for _, port := range container.Ports {
		if port.Name == "redis" {
			return int(port.ContainerPort)
		}
	}
	return defaultPort
}

// admitted returns the releases that the target may mean.
func admitted(all []found, t operation.Target) []found {
	var matches []found
	for _, candidate := range all {
		if t.Release != "" && candidate.release() != t.Release {
			continue
		}
		if t.Pod != "" {
			if _, ok := candidate.ordinal(t.Pod); !ok {
				continue
			}
		}
		matches = append(matches, candidate)
	}
	return matches
}

// noMatch explains that nothing was found: what was looked for and what there
// is instead. all are the releases in the target's namespace.
func (c *Client) noMatch(ctx context.Context, t operation.Target, all []found) error {
	failure := &operation.Error{Kind: operation.Usage, Err: fmt.Errorf("there is no %s%s", wanted(t), scope(t))}
	if len(all) > 0 {
		failure.Err = fmt.Errorf("%w; there are: %s", failure.Err, strings.Join(releaseNames(all), ", "))
		failure.Next = "pass --release with one of these"
		if t.Pod != "" {
			failure.Next += ", or --pod with one of its pods"
		}
		return failure
	}
	failure.Err = fmt.Errorf("%w (looked for StatefulSets of Helm releases, label %s, with a container port named redis or %d)",
		failure.Err, instanceLabel, defaultPort)
	failure.Next = "pass --namespace, or --all-namespaces to list every release"
	if t.Namespace == metav1.NamespaceAll {
		failure.Next = "check that --context is the right one"
		return failure
	}
	if c.namespaceMissing(ctx, t.Namespace) {
		failure.Err = fmt.Errorf("namespace %q does not exist", t.Namespace)
	}
	// Whoever may not look into other namespaces gets the message without them.
	elsewhere, err := c.releases(ctx, metav1.NamespaceAll)
	if err != nil || len(elsewhere) == 0 {
		return failure
	}
	what := "Redis releases are"
	if same := admitted(elsewhere, t); len(same) > 0 && t.Release != "" {
		what, elsewhere = fmt.Sprintf("release %s is", t.Release), same
	}
	failure.Err = fmt.Errorf("%w; %s in: %s", failure.Err, what, strings.Join(namespaceNames(elsewhere), ", "))
	failure.Next = "pass --namespace with one of these"
	return failure
}

func (c *Client) namespaceMissing(ctx context.Context, namespace string) bool {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.clientset.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	return apierrors.IsNotFound(err)
}

// tooMany lists the candidates as the flags that choose each of them.
func tooMany(t operation.Target, matches []found) error {
	perRelease := map[[2]string]int{}
	for _, match := range matches {
		perRelease[[2]string{match.Namespace, match.release()}]++
	}
	choices := make([]string, 0, len(matches))
	for _, match := range matches {
		var flags []string
		if t.Namespace == metav1.NamespaceAll {
			flags = append(flags, "--namespace "+match.Namespace)
		}
		// One release may hold several StatefulSets that run Redis (a chart with
		// two Redis subcharts): only a pod tells them apart.
		if perRelease[[2]string{match.Namespace, match.release()}] > 1 {
			flags = append(flags, fmt.Sprintf("--pod %s-0", match.Name))
		} else if t.Release == "" {
			flags = append(flags, "--release "+match.release())
		}
		choices = append(choices, strings.Join(flags, " "))
	}
	return &operation.Error{
		Kind: operation.Usage,
		Err:  fmt.Errorf("%d deployments match %s%s: %s", len(matches), wanted(t), scope(t), strings.Join(choices, ", ")),
		Next: "say which one: " + choices[0],
	}
}

func noPod(t operation.Target, d *operation.Deployment) error {
	names := make([]string, 0, len(d.Instances))
	for _, instance := range d.Instances {
		names = append(names, instance.Name)
	}
	failure := &operation.Error{
		Kind: operation.Usage,
		Err: fmt.Errorf("release %s in namespace %s has no pod %s; it has: %s",
			d.Release, d.Namespace, t.Pod, strings.Join(names, ", ")),
		Next: "pass --pod with one of these",
	}
	if len(names) == 0 {
		failure.Err = fmt.Errorf("release %s in namespace %s is scaled to zero and has no pod %s", d.Release, d.Namespace, t.Pod)
		failure.Next = ""
	}
	return failure
}

// wanted says what the target asks for.
func wanted(t operation.Target) string {
	switch {
	case t.Release != "" && t.Pod != "":
		return fmt.Sprintf("Redis release %q with a pod %q", t.Release, t.Pod)
	case t.Release != "":
		return fmt.Sprintf("Redis release %q", t.Release)
	case t.Pod != "":
		return fmt.Sprintf("Redis release with a pod %q", t.Pod)
	default:
		return "Redis release"
	}
}

// scope says where the target was looked for.
func scope(t operation.Target) string {
	if t.Namespace == metav1.NamespaceAll {
		return " in any namespace"
	}
	return " in namespace " + t.Namespace
}

func releaseNames(releases []found) []string {
	names := make([]string, 0, len(releases))
	for _, release := range releases {
		names = append(names, release.release())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func namespaceNames(releases []found) []string {
	names := make([]string, 0, len(releases))
	for _, release := range releases {
		names = append(names, release.Namespace)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore/drill"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/sandbox"
)

type restoreTestOptions struct {
	source  sourceOptions
	proof   proofOptions
	where   string
	server  string
	pod     drillPodOptions
	start   time.Duration
	maxTime time.Duration
}

// drillPodOptions say what a pod with a throw-away server is made of.
type drillPodOptions struct {
	image  string
	memory string
}

// The values of --in.
const (
	inAuto  = "auto"
	inLocal = "local"
	inPod   = "pod"
)

func (a *app) newRestoreTestCommand() *cobra.Command {
	o := restoreTestOptions{}
	cmd := &cobra.Command{
		Use:   "test ID|latest|FILE",
		Short: "Prove that a backup can be restored, in a throw-away server",
		Long: `Verifies a backup, loads it into a throw-away server, compares what the server then holds
with the backup (numbers of keys, values and expiry times of all keys, functions), and says
how long each part took. No release is touched. The server, its data and its pod are
removed at the end, after Ctrl-C, and when redisctl is killed: at once on this machine, a
pod after --max-time.

The server is the redis-server or valkey-server on this machine's PATH if it reads the
backup, otherwise a pod with the image of the release. Of append-only files nobody knows
beforehand what their commands leave: they are loaded, and what they leave is shown.

Nothing is recorded. Exit code 4 when the backup fails verification, when the server refuses
it or when the two are not equal, 7 after --max-time, 9 when no server was found that reads
the backup.`,
		Example: `  redisctl restore test latest -n redis-prod
  redisctl restore test ./dump.rdb --server /opt/redis-8/bin/redis-server
  redisctl restore test latest -n redis-prod --from s3://backups/prod --in pod -o json
  redisctl restore test rdb-20261123T090501Z-k7mq -n drills --in pod --image redis:8.0`,
		Args: oneArg,
	}
	o.source.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.proof.verify, "verify", verifyFull, "which keys are compared with the backup: sample or full")
	f.StringVar(&o.where, "in", inAuto, "where the server runs: local, pod, or auto: a pod when no local one reads the backup")
	f.StringVar(&o.server, "server", "", "local server to use: a path, or a name on the PATH")
	f.StringVar(&o.pod.image, "image", "", "image of the pod, instead of the release's")
	f.StringVar(&o.pod.memory, "memory", "", "memory of the pod, such as 4Gi, instead of what the backup tells")
	f.DurationVar(&o.start, "start-timeout", volume.DefaultLimits().Start, "how long a starting server may make no progress")
	f.DurationVar(&o.maxTime, "max-time", time.Hour, "how long all of it may take; a pod lives no longer")
	mustComplete(cmd, "verify", cobra.FixedCompletions([]string{verifySample, verifyFull}, cobra.ShellCompDirectiveNoFileComp))
	mustComplete(cmd, "in", cobra.FixedCompletions([]string{inAuto, inLocal, inPod}, cobra.ShellCompDirectiveNoFileComp))
	cmd.ValidArgsFunction = a.completeBackups(&o.source.store)
	cmd.RunE = runWith(a, &o, a.runRestoreTest)
	return cmd
}

func (a *app) runRestoreTest(ctx context.Context, o restoreTestOptions, args []string) error {
	sample, err := o.proof.sample()
	if err != nil {
		return err
	}
	if o.start <= 0 || o.maxTime <= 0 {
		return operation.Errorf(operation.Usage, "--start-timeout and --max-time must be positive")
	}
	cluster := &clusterHost{app: a, options: o.pod}
	defer cluster.close()
	hosts, err := a.drillHosts(o, cluster)
	if err != nil {
		return err
	}
	found, err := a.findSource(ctx, o.source, args[0])
	if err != nil {
		return err
	}
	reporter, done := a.narrator()
	defer done()
	d := drill.Drill{Hosts: hosts, Link: a.drillLink, Reporter: reporter, Now: a.system.Now}
	result, err := d.Run(ctx, found, drill.Options{Sample: sample, Stall: o.start, Life: o.maxTime})
	done()
	if err != nil {
		return err
	}
	if err := a.print(drillDocument(result)); err != nil {
		return err
	}
	if !result.Passed {
		return outcome(operation.Corrupt, "%s", result.Problem)
	}
	return nil
}

// drillHosts returns where a throw-away server may run, the best first.
func (a *app) drillHosts(o restoreTestOptions, cluster *clusterHost) ([]drill.Host, error) {
	var hosts []drill.Host
	switch {
	case o.where != inAuto && o.where != inLocal && o.where != inPod:
		return nil, operation.Errorf(operation.Usage, "--in %q: choose %s, %s or %s", o.where, inAuto, inLocal, inPod)
	case o.where == inPod && o.server != "":
		return nil, operation.Errorf(operation.Usage, "--server names a server on this machine; it cannot be combined with --in pod")
	case o.where == inLocal && o.pod != drillPodOptions{}:
		return nil, operation.Errorf(operation.Usage, "--image and --memory are about a pod; they cannot be combined with --in local")
	case o.server != "":
		program, err := sandbox.At(o.server)
		return []drill.Host{program}, err
	}
	if o.where != inPod && o.pod == (drillPodOptions{}) {
		for _, program := range sandbox.Find() {
			hosts = append(hosts, program)
		}
	}
	if o.where != inLocal && len(a.globals.target.Addresses) == 0 {
		hosts = append(hosts, cluster)
	}
	return hosts, nil
}

// drillLink reaches a throw-away server.
func (a *app) drillLink(s drill.Server) drill.Link {
	return redisconn.Connector{
		Dial: func(ctx context.Context, _ *operation.Deployment, _ operation.Instance) (net.Conn, error) {
			return s.Dial(ctx)
		},
		Credentials: func(context.Context, *operation.Deployment) (username, password string, err error) {
			return "", s.Password(), nil
		},
		DialTimeout: a.globals.timeout, Timeout: a.globals.timeout,
	}
}

// clusterHost is the cluster, which is not asked before a pod is wanted. It implements
// drill.Host.
type clusterHost struct {
	app     *app
	options drillPodOptions
	backend *backend
}

// Name implements drill.Host.
func (c *clusterHost) Name() string { return "a pod" }

// Open implements drill.Host. With --image the namespace may be without a release.
func (c *clusterHost) Open(ctx context.Context, n drill.Needs) (drill.Server, error) {
	b, err := c.app.backend(c.app)
	if err != nil {
		return nil, err
	}
	c.backend = b
	if b.DrillPods == nil {
		return nil, errors.New("a pod needs a cluster")
	}
	d, err := c.app.resolve(ctx, b)
	if err != nil && c.options.image == "" {
		return nil, withNext(err, "choose the namespace and the image of the pod with -n and --image")
	}
	if err != nil {
		d = nil
	}
	return b.DrillPods(d, c.options).Open(ctx, n)
}

func (c *clusterHost) close() {
	if c.backend != nil {
		c.backend.Close()
	}
}

func drillDocument(r drill.Result) render.Document {
	fields := render.Fields{
		{Label: "backup", Value: render.Cell{Text: r.Backup, Style: render.Strong}},
		{Label: "made", Value: render.T(r.CreatedAt.UTC().Format(time.RFC3339))},
	}
	if r.Source != nil {
		fields = append(fields, render.Field{Label: "source", Value: render.T(fmt.Sprintf("%s, %s %s", r.Source.Instance, r.Source.Product, r.Source.Version))})
	}
	if r.Server != nil {
		fields = append(fields,
			render.Field{Label: "server", Value: render.T(fmt.Sprintf("%s, %s", r.Server.Name, r.Server.Version))},
			render.Field{Label: "size", Value: render.T(drillSize(r))})
	}
	switch {
	case r.Comparison != nil:
		fields = append(fields, comparisonFields(*r.Comparison)...)
	case r.Passed:
		fields = append(fields,
			render.Field{Label: "keys", Value: render.T(drillKeys(r))},
			render.Field{Label: "loaded", Value: render.T(fmt.Sprintf("%d commands, none refused; there is nothing to compare with", r.Commands))})
	}
	fields = append(fields, render.Field{Label: "took", Value: render.T(drillTimes(r.Seconds))})
	verdict := render.Text{Text: "the backup can be restored", Style: render.Good}
	if !r.Passed {
		verdict = render.Text{Text: "FAILED: " + r.Problem, Style: render.Bad}
	}
	return render.Document{Value: r, Names: []string{r.Backup}, Blocks: []render.Block{fields, verdict}}
}

func drillSize(r drill.Result) string {
	text := operation.Bytes(r.SizeBytes).String()
	if r.UsedMemoryBytes > 0 {
		text += fmt.Sprintf(", %s in memory", operation.Bytes(r.UsedMemoryBytes))
	}
	return text
}

func drillKeys(r drill.Result) string {
	dbs := make([]string, len(r.DBs))
	for i, db := range r.DBs {
		dbs[i] = fmt.Sprintf("db%d %d", db.DB, db.Keys)
	}
	if len(dbs) == 0 {
		return "none"
	}
	return strings.Join(dbs, ", ")
}

func drillTimes(s drill.Seconds) string {
	parts := []string{}
	for _, part := range []struct {
		name    string
		seconds float64
	}{{"verify", s.Verify}, {"open", s.Open}, {"copy", s.Place}, {"load", s.Load}, {"compare", s.Compare}} {
		if part.seconds > 0 {
			parts = append(parts, part.name+" "+inSeconds(part.seconds))
		}
	}
	return fmt.Sprintf("%s (%s)", inSeconds(s.Total), strings.Join(parts, ", "))
}

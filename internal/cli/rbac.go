package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/access"
	"github.com/redisctl/redisctl/internal/render"
)

type rbacOptions struct {
	all        bool
	everywhere bool
	name       string
	bind       []string
}

func (a *app) newRBACCommand() *cobra.Command {
	var o rbacOptions
	cmd := &cobra.Command{
		Use:   "rbac COMMAND...|--all",
		Short: "Print the Role that commands need",
		Long: `Prints, for kubectl apply, the Role that the named commands need and no more, with a
comment on each rule: what it is for, and what becomes of a command without it. A group
stands for its commands; several commands are separated by commas. What is about objects
outside of namespaces becomes a ClusterRole.

With --release the cluster is asked for the names of the release's objects, and the rules
hold for these only: its Secret, pods, Services, Lease. Print it anew when the release is
scaled. Without, nothing is asked, and they hold for the whole namespace. RBAC can
restrict neither list nor create by names.

Unless -o chooses a format, the output is YAML with comments. With -o json and -o yaml
it is a List.`,
		Example: `  redisctl rbac health -n redis-prod -r cache --bind group:sre | kubectl apply -f -
  redisctl rbac backup rdb, backup list -n redis-prod --bind serviceaccount:ops/backup
  redisctl rbac failover upgrade -n redis-prod -r cache -o table
  redisctl rbac health --all-namespaces --name redis-watch --bind user:anna`,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return nextWords(access.Commands(), args), cobra.ShellCompDirectiveNoFileComp
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "what all commands need")
	f.BoolVarP(&o.everywhere, "all-namespaces", "A", false, "a ClusterRole, for the commands' own --all-namespaces")
	f.StringVar(&o.name, "name", "", "name of the Role (default redisctl-COMMAND, or redisctl)")
	f.StringArrayVar(&o.bind, "bind", nil, "who gets it: user:NAME, group:NAME or serviceaccount:NAMESPACE/NAME (repeatable)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runWith(a, &o, func(ctx context.Context, o rbacOptions, args []string) error {
			return a.runRBAC(ctx, o, args, cmd.Flags().Changed("output"))
		})(cmd, args)
	}
	return cmd
}

func (a *app) runRBAC(ctx context.Context, o rbacOptions, args []string, chosen bool) error {
	needs, name, err := wantedNeeds(o, args)
	if err != nil {
		return err
	}
	var subjects []access.Subject
	for _, text := range o.bind {
		subject, err := access.ParseSubject(text)
		if err != nil {
			return operation.Errorf(operation.Usage, "--bind: %w", err)
		}
		subjects = append(subjects, subject)
	}
	names, err := a.accessNames(ctx, o)
	if err != nil {
		return err
	}
	grants := access.Merge(needs, names, o.everywhere)
	objects := access.Objects(name, grants, names.Namespace, o.everywhere, subjects)
	if !chosen {
		if _, err := io.WriteString(a.system.Out, access.YAML(objects, len(needs))); err != nil {
			return operation.Errorf(operation.Failed, "writing the result: %w", err)
		}
		return nil
	}
	return a.print(rbacDocument(objects, grants))
}

// wantedNeeds reads "backup rdb, health": commands or groups, separated by commas where
// one does not end by itself.
func wantedNeeds(o rbacOptions, args []string) (needs []access.Need, name string, err error) {
	if o.all == (len(args) > 0) {
		return nil, "", operation.Errorf(operation.Usage, "name the commands, or pass --all")
	}
	if o.all {
		needs, name = access.Table(), "redisctl"
	}
	for len(args) > 0 {
		found, taken, ok := longestCommand(args)
		if !ok {
			return nil, "", &operation.Error{
				Kind: operation.Usage, Err: fmt.Errorf("there is no command %q", strings.Join(args, " ")), Next: "redisctl --help",
			}
		}
		needs, name = appendNeeds(needs, found), joined(name, args[:taken])
		args = args[taken:]
	}
	if o.name != "" {
		name = o.name
	}
	return needs, name, nil
}

// longestCommand finds the longest command or group at the beginning of args, no further
// than to the first comma.
func longestCommand(args []string) (found []access.Need, taken int, ok bool) {
	var words []string
	for i, arg := range args {
		word, ends := strings.CutSuffix(arg, ",")
		words = append(words, word)
		if needs, is := access.Below(strings.Join(words, " ")); is {
			found, taken, ok = needs, i+1, true
		}
		if ends {
			break
		}
	}
	return found, taken, ok
}

func appendNeeds(needs, more []access.Need) []access.Need {
	for _, n := range more {
		known := false
		for _, m := range needs {
			known = known || m.Command == n.Command
		}
		if !known {
			needs = append(needs, n)
		}
	}
	return needs
}

// joined is the Role's name: that of the only command, else the program's.
func joined(name string, words []string) string {
	if name != "" {
		return "redisctl"
	}
	return "redisctl-" + strings.TrimSuffix(strings.Join(words, "-"), ",")
}

// nextWords completes the words of commands.
func nextWords(commands, typed []string) []string {
	var words []string
	seen := map[string]bool{}
	prefix := strings.Join(typed, " ")
	if prefix != "" {
		prefix += " "
	}
	for _, c := range commands {
		rest, ok := strings.CutPrefix(c, prefix)
		word, _, _ := strings.Cut(rest, " ")
		if ok && word != "" && !seen[word] {
			seen[word] = true
			words = append(words, word)
		}
	}
	return words
}

// accessNames asks for the names of a release's objects, when one was named.
func (a *app) accessNames(ctx context.Context, o rbacOptions) (access.Names, error) {
	names := access.Names{Namespace: a.globals.target.Namespace}
	if a.globals.target.Release == "" || o.everywhere {
		return names, nil
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return names, err
	}
	defer b.Close()
	if b.Access == nil {
		return names, operation.Errorf(operation.Usage, "--address names servers without Kubernetes, which need no Role")
	}
	names = namesOf(d)
	names.ConfigMaps, err = b.Access.ConfigMaps(ctx, d)
	return names, err
}

// namesOf returns the names of a deployment's objects, but for its ConfigMaps.
func namesOf(d *operation.Deployment) access.Names {
	n := access.Names{Namespace: d.Namespace, Release: d.Release, Workload: d.Workload.Name, Secret: d.Credentials.Secret}
	for _, i := range d.Instances {
		n.Pods = append(n.Pods, i.Name)
		if d.Workload.Volume.Kind == operation.VolumeClaimTemplate {
			n.Claims = append(n.Claims, d.Workload.Volume.Claim+"-"+i.Name)
		}
	}
	if d.Workload.Volume.Kind == operation.VolumeExistingClaim {
		n.Claims = []string{d.Workload.Volume.Claim}
	}
	for _, s := range d.Services {
		if !s.Headless {
			n.Services = append(n.Services, s.Name)
		}
	}
	return n
}

func rbacDocument(objects []access.Object, grants []access.Grant) render.Document {
	table := render.Table{Columns: []render.Column{
		{Title: "RESOURCE"}, {Title: "VERBS"}, {Title: "NAMES"}, {Title: "WHY"}, {Title: "COMMANDS", Wide: true},
	}}
	for _, g := range grants {
		resource := g.Resource
		if g.Group != "" {
			resource += "." + g.Group
		}
		for _, r := range g.Reasons {
			why := r.Why
			if r.When != "" {
				why += ", " + r.When
			}
			table.Rows = append(table.Rows, []render.Cell{
				render.T(resource), render.T(strings.Join(r.Verbs, ",")), render.T(strings.Join(g.Names, " ")), render.T(why),
				render.T(strings.Join(r.Commands, ", ")),
			})
		}
	}
	names := make([]string, len(objects))
	for i, o := range objects {
		names[i] = strings.ToLower(o.Kind) + "/" + o.Metadata.Name
	}
	return render.Document{Value: rbacList{APIVersion: "v1", Kind: "List", Items: objects}, Names: names, Blocks: []render.Block{table}}
}

// rbacList is a List of the Kubernetes API.
type rbacList struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Items      []access.Object `json:"items"`
}

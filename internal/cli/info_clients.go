package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/render"
)

func (a *app) newInfoClientsCommand() *cobra.Command {
	o := inspect.ClientOptions{Sort: "count", Limit: 20}
	cmd := &cobra.Command{
		Use:   "clients [SECTION...]",
		Short: "Show who is connected, grouped by address",
		Long: `Lists the clients of every instance by the address they come from: how many, the oldest
connection, how long they are idle, the biggest buffers of one of them, their names,
databases and last commands. redisctl's own connection comes from 127.0.0.1, as all do
that go through a port-forward.

Needs CLIENT LIST: exit code 8 when the ACL user may not, 3 when some instances do not
answer.`,
		Example: `  redisctl info clients -n redis-prod
  redisctl info clients --pod cache-redis-0 --sort output --limit 5
  redisctl info clients -o jsonpath='{.instances[*].value.total}'`,
		ValidArgs: infoSections(),
		RunE: runWith(a, &o, func(ctx context.Context, o inspect.ClientOptions, more []string) error {
			if len(more) > 0 {
				return a.runInfo(ctx, append([]string{"clients"}, more...))
			}
			o.Timeout = a.globals.timeout
			return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
				answers, err := inspect.ListClients(ctx, b.Connector, d, o)
				if err != nil {
					return err
				}
				if err := a.print(clientsDocument(d, answers)); err != nil {
					return err
				}
				return inspect.Failure(answers)
			})
		}),
	}
	cmd.Flags().StringVar(&o.Sort, "sort", o.Sort, "the greatest first: "+strings.Join(inspect.ClientOrders(), "|"))
	cmd.Flags().IntVar(&o.Limit, "limit", o.Limit, "how many addresses of each instance; 0 shows all")
	mustComplete(cmd, "sort", cobra.FixedCompletions(inspect.ClientOrders(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func clientsDocument(d *operation.Deployment, answers []inspect.Answer[inspect.Clients]) render.Document {
	doc := render.Document{Value: newAnswersResult(d, answers)}
	t := render.Table{Columns: []render.Column{
		{Title: "INSTANCE"}, {Title: "ADDRESS"}, {Title: "CLIENTS", Right: true}, {Title: "OLDEST", Right: true},
		{Title: "IDLE", Right: true}, {Title: "OUTPUT", Right: true}, {Title: "QUERY", Right: true}, {Title: "MEMORY", Right: true},
		{Title: "DB"}, {Title: "FLAGS"}, {Title: "NAMES"},
		{Title: "USERS", Wide: true}, {Title: "LIBRARIES", Wide: true}, {Title: "COMMANDS", Wide: true},
	}, Empty: "No clients."}
	var omitted []string
	for _, a := range answers {
		if a.Err != nil {
			doc.Blocks = append(doc.Blocks, noAnswer(a.Instance, a.Error))
			continue
		}
		for _, g := range a.Value.Groups {
			doc.Names = append(doc.Names, a.Instance+" "+g.Address)
			t.Rows = append(t.Rows, clientRow(a.Instance, g))
		}
		if a.Value.Omitted > 0 {
			omitted = append(omitted, fmt.Sprintf("%d of %s", a.Value.Omitted, a.Instance))
		}
	}
	doc.Blocks = append(doc.Blocks, t)
	if len(omitted) > 0 {
		doc.Blocks = append(doc.Blocks, render.Text{Text: "Addresses left out: " + strings.Join(omitted, ", ") + "; --limit 0 shows all.", Style: render.Dim})
	}
	return doc
}

func clientRow(instance string, g inspect.ClientGroup) []render.Cell {
	dbs := make([]string, len(g.DBs))
	for i, db := range g.DBs {
		dbs[i] = strconv.Itoa(db)
	}
	seconds := func(n int64) render.Cell { return render.T((time.Duration(n) * time.Second).String()) }
	size := func(n int64) render.Cell { return render.T(operation.Bytes(n).String()) }
	return []render.Cell{
		render.T(instance), {Text: g.Address, Style: render.Strong}, number(int64(g.Count)), seconds(g.OldestSeconds),
		seconds(g.LongestIdleSeconds), size(g.BiggestOutput), size(g.BiggestQuery), size(g.Memory), render.T(strings.Join(dbs, ",")),
		render.T(g.Flags), render.T(strings.Join(g.Names, ", ")), render.T(strings.Join(g.Users, ", ")),
		render.T(strings.Join(g.Libraries, ", ")), render.T(strings.Join(g.Commands, ", ")),
	}
}

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/render"
)

func (a *app) newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show redisctl's own version",
		Long:    "Prints this executable's version, commit and Go version. The servers' versions are\nshown by redisctl health version.",
		Example: "  redisctl version -o json",
		Args:    noArgs,
		RunE: a.run(func(context.Context, []string) error {
			b := ThisBuild()
			fields := render.Fields{{Label: "version", Value: render.T(b.Version)}}
			if b.Commit != "" {
				fields = append(fields, render.Field{Label: "commit", Value: render.T(b.Commit)})
			}
			if b.Date != "" {
				fields = append(fields, render.Field{Label: "built", Value: render.T(b.Date)})
			}
			fields = append(fields, render.Field{Label: "go", Value: render.T(b.Go)})
			return a.print(render.Document{Value: b, Names: []string{b.Version}, Blocks: []render.Block{fields}})
		}),
	}
}

package cli

import (
	"context"

	"github.com/redisctl/redisctl/internal/render"
)

// RunWatched is Run, which also says what is wrong with the looks of what is printed: see
// widthProblems.
func RunWatched(ctx context.Context, system System, args []string, complain func(string)) int {
	a := newApp(system)
	a.shown = func(d render.Document) {
		for _, problem := range widthProblems(d) {
			complain(problem)
		}
	}
	return a.execute(ctx, args)
}

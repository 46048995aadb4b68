package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrNotHealthy is returned by Status when the cluster is not up or not usable.
var ErrNotHealthy = errors.New("the cluster is not healthy")

// Status writes one line per component and per thing that makes the cluster
// usable. It returns ErrNotHealthy unless all of them are well, and needs no
// more than a few seconds.
func (c *Cluster) Status(ctx context.Context, w io.Writer) error {
	healthy := true
	line := func(name, state string, ok bool) {
		healthy = healthy && ok
		fmt.Fprintf(w, "%-28s %s\n", name, state) // output for a person
	}
	for _, name := range daemonNames() {
		if c.daemon.Running(name) {
			line(name, "running", true)
		} else {
			line(name, "not running", false)
		}
	}
	client, err := c.client()
	if err != nil {
		line("certificates", err.Error(), false)
		return ErrNotHealthy
	}
	for _, item := range c.checks(client, time.Time{}) {
		limited, cancel := context.WithTimeout(ctx, 3*time.Second)
		if err := item.condition(limited); err != nil {
			line(item.what, err.Error(), false)
		} else {
			line(item.what, "ready", true)
		}
		cancel()
	}
	if !healthy {
		return ErrNotHealthy
	}
	return nil
}

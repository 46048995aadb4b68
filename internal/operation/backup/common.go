package backup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
)

// What all kinds of backups do alike.

// checkSpace looks at the free space where a backup will be stored. estimate is in
// bytes.
func checkSpace(ctx context.Context, store storage.Store, estimate int64, ignore bool) []operation.Finding {
	free, known := store.Free(ctx)
	if !known || free >= estimate {
		return nil
	}
	return []operation.Finding{{
		Code: "low-space", Severity: operation.Critical, Subject: store.Location(""),
		Message:  fmt.Sprintf("%s free, the snapshot may need up to %s", operation.Bytes(free), operation.Bytes(estimate)),
		Override: "--ignore-space", Overridden: ignore,
	}}
}

// configOf asks an instance for settings; none when CONFIG is disabled.
func configOf(
	ctx context.Context, connector operation.Connector, d *operation.Deployment, i operation.Instance, pattern string,
) map[string]string {
	server, err := connector.Connect(ctx, d, i)
	if err != nil {
		return nil
	}
	defer func() { _ = server.Close() }() // the answer is here; closing can only fail to say goodbye
	values, err := server.ConfigGet(ctx, pattern)
	if err != nil {
		return nil
	}
	return values
}

// sameServer makes sure that the source is still the server that a plan is about.
func sameServer(ctx context.Context, connector operation.Connector, d *operation.Deployment, source topology.Member) error {
	server, err := connector.Connect(ctx, d, source.Instance)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }() // the answer is here; closing can only fail to say goodbye
	info, err := server.Info(ctx, "server")
	if err != nil {
		return err
	}
	if before, now := source.Info.Get("run_id"), info.Get("run_id"); before != now {
		return &operation.Error{
			Kind: operation.Refused, Object: d.String(), Phase: "re-checking the plan",
			Err:       fmt.Errorf("%s restarted since the plan was made", source.Name),
			Unchanged: "nothing was changed", Next: "run the command again",
		}
	}
	return nil
}

// sweep removes what backups that were killed have left in a folder. The backup
// itself has succeeded, so that a failure is only told.
func sweep(ctx context.Context, store storage.Store, dir string, reporter operation.Reporter) {
	swept, err := store.Sweep(ctx, dir, storage.SweepAge)
	for _, name := range swept {
		reporter.Note("removed what an interrupted backup left of %s", store.Location(name))
	}
	if err != nil {
		reporter.Warn("cleaning up after interrupted backups: %v", err)
	}
}

// describe says what is known of a source.
func describe(d *operation.Deployment, source *topology.Member, method, transfer string) snapshot.Source {
	return snapshot.Source{
		Namespace: d.Namespace,
		Release:   d.Release,
		Instance:  source.Name,
		Address:   net.JoinHostPort(source.Host, strconv.Itoa(source.Port)),
		Role:      string(source.Replication.Role),
		Product:   source.Version.Product,
		Version:   source.Version.Number(),
		RunID:     source.Info.Get("run_id"),
		Method:    method,
		Transfer:  transfer,
	}
}

// failed adds to an error what an operator needs to know next, and why ctx ended if
// that is the reason.
func failed(ctx context.Context, object, phase string, err error) error {
	const unchanged = "no backup was stored; older ones are untouched"
	var e *operation.Error
	if errors.As(err, &e) {
		kept := *e
		kept.Unchanged = unchanged
		return &kept
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return &operation.Error{Kind: operation.KindOf(err), Object: object, Phase: phase, Err: err, Unchanged: unchanged}
}

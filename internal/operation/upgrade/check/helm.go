package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/redis"
)

// checkHelm looks at the release's record, and at what Helm would change.
func (k *checking) checkHelm(ctx context.Context) {
	k.report.Change = k.o.Change
	if k.Releases == nil {
		k.unknown(k.d.Release, errors.New("this redisctl cannot ask Helm"))
		return
	}
	if !k.checkHistory(ctx) {
		return
	}
	if target := k.report.Target; target != nil {
		changed, err := k.Releases.WithImage(ctx, k.d, k.o.Change, target.Image)
		if err != nil {
			k.refused("image-not-settable", err)
			return
		}
		k.report.Change = changed
	} else if k.o.Change.Chart == "" && k.o.Change.Back == 0 && len(k.o.Change.Values) == 0 && !k.o.Change.ResetValues {
		return // nothing is to change
	}
	k.Reporter.Step("rendering the chart")
	preview, err := k.Releases.Preview(ctx, k.d, k.report.Change)
	if err != nil {
		k.refused("chart-fails", err)
		return
	}
	k.preview, k.report.Preview = &preview, &preview
	if config, err := redis.ParseConfig(preview.Config); err != nil {
		k.unknown(k.d.Release, err)
	} else if preview.Config != "" {
		k.facts.Config = config
	}
	if k.report.Target == nil {
		k.report.Target = &Target{Image: preview.Image, Version: imageVersion(preview.Image)}
	}
	k.checkPreview(preview)
}

// refused adds that Helm cannot do what is wanted. An error that is about access or the
// connection says only that it is not known.
func (k *checking) refused(code string, err error) {
	switch operation.KindOf(err) {
	case operation.Denied, operation.TimedOut, operation.Interrupted:
		k.unknownHelm(err)
		return
	default:
	}
	f := operation.Finding{Code: code, Severity: operation.Critical, Subject: k.d.Release, Message: usable(err).Error()}
	var e *operation.Error
	if errors.As(err, &e) {
		f.Hint = e.Next
	}
	k.add(f)
}

// unknownHelm is worse than a notice: the upgrade itself needs Helm.
func (k *checking) unknownHelm(err error) {
	k.add(operation.Finding{
		Code: "not-checked", Severity: operation.Warning, Subject: k.d.Release, Message: "the Helm release could not be read: " + err.Error(),
	})
}

// checkHistory reports whether Helm has a record of the release.
func (k *checking) checkHistory(ctx context.Context) bool {
	history, err := k.Releases.History(ctx, k.d)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.add(operation.Finding{
			Code: "no-helm-release", Severity: operation.Critical, Subject: k.d.Release, Message: "Helm has no record of it: " + usable(err).Error(),
			Hint: "helm upgrade --install with the chart and the values makes Helm know it",
		})
		return false
	case err != nil:
		k.unknownHelm(err)
		return false
	}
	last := history[len(history)-1]
	k.report.From.Revision = &last
	switch {
	case strings.HasPrefix(last.Status, "pending"):
		k.add(operation.Finding{
			Code: "release-pending", Severity: operation.Critical, Subject: k.d.Release,
			Message:  fmt.Sprintf("revision %d is %s since %s: somebody is changing it, or was interrupted", last.Number, last.Status, last.Updated.UTC().Format(time.RFC3339)),
			Hint:     "make sure that nobody is; the upgrade then marks it as failed",
			Override: "--allow-pending", Overridden: k.o.Overrides.Pending,
		})
	case last.Status == "failed":
		k.add(operation.Finding{
			Code: "release-failed", Severity: operation.Warning, Subject: k.d.Release,
			Message: strings.TrimSuffix(fmt.Sprintf("revision %d has failed: %s", last.Number, last.Description), ": "),
			Hint:    "the upgrade begins with what was deployed before; helm history " + k.d.Release + " -n " + k.d.Namespace,
		})
	}
	return true
}

// checkPreview judges what Helm would change.
func (k *checking) checkPreview(p upgrade.Preview) {
	if target := k.report.Target; p.Image != target.Image {
		k.add(operation.Finding{
			Code: "image-not-set", Severity: operation.Critical, Subject: k.d.Workload.Name,
			Message: fmt.Sprintf("the chart would run %s, not %s", cmp.Or(p.Image, "no image"), target.Image),
		})
	}
	if len(p.Immutable) > 0 {
		k.add(operation.Finding{
			Code: "workload-immutable", Severity: operation.Critical, Subject: k.d.Workload.Name,
			Message:  "fields of it change that Kubernetes never changes: " + strings.Join(p.Immutable, ", "),
			Hint:     "the upgrade then makes the workload anew around its pods; claims and pods stay",
			Override: "--recreate-workload", Overridden: k.o.Overrides.Recreate,
		})
	}
	if !p.Replaced {
		k.add(operation.Finding{
			Code: "nothing-to-replace", Severity: operation.Notice, Subject: k.d.Workload.Name, Message: "no pod needs to be replaced",
		})
	}
	if len(p.Hooks) > 0 {
		k.add(operation.Finding{
			Code: "hooks", Severity: operation.Notice, Subject: k.d.Release,
			Message: "hooks of the chart run with the upgrade: " + strings.Join(p.Hooks, ", "),
		})
	}
}

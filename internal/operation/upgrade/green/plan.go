package green

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

// Plan is how a second release is going to be made.
type Plan struct {
	operation.Plan
	// Green is its name.
	Green string `json:"green"`
	// From and To are images.
	From string `json:"from"`
	To   string `json:"to"`
	// Primary is the server that it will follow.
	Primary string `json:"primary"`

	deployment *operation.Deployment
	options    Options
	change     upgrade.Change
}

const operationApply = "upgrade apply"

// Plan observes d and renders the change. It only reads.
func (g Green) Plan(ctx context.Context, d *operation.Deployment, o Options) (*Plan, error) {
	if d.Workload == nil {
		return nil, operation.Errorf(operation.Usage, "%s is no Helm release: plain addresses have nothing to upgrade", d)
	}
	if o.Name == "" {
		o.Name = d.Release + "-green"
	}
	if o.Name == d.Release {
		return nil, operation.Errorf(operation.Usage, "the second release must have another name than %s", d.Release)
	}
	p := &Plan{
		Plan:  operation.Plan{Operation: operationApply, Object: d.String(), Steps: []operation.Step{}, Findings: []operation.Finding{}},
		Green: o.Name, From: d.Workload.Image, deployment: d, options: o,
	}
	t := topology.Observe(ctx, g.Connector, d, o.Limits.Timeout)
	if err := t.Denied(); err != nil {
		return nil, err
	}
	primary, err := t.Primary()
	if err != nil {
		return nil, refused(p.Object, operationApply, "redisctl replication check", "finding the primary: %w", err)
	}
	p.Primary = primary.Name
	if !o.Copy && primary.Version.Compare(firstToPause()) < 0 {
		p.Findings = append(p.Findings, operation.Finding{
			Code: "no-way-back", Severity: operation.Warning, Subject: primary.Name,
			Message: fmt.Sprintf("%s cannot load what a newer server sends: after the cutover there may be no failback", primary.Version),
		})
	}
	if err := g.checkRecords(ctx, p); err != nil {
		return nil, err
	}
	p.Findings = append(p.Findings, restore.Locked(ctx, g.Locker, d)...)
	if err := g.checkNames(ctx, p); err != nil {
		return nil, err
	}
	if err := g.render(ctx, p); err != nil {
		return nil, err
	}
	p.planSteps()
	return p, nil
}

func (p *Plan) block(code, subject, hint, format string, args ...any) {
	p.Findings = append(p.Findings, operation.Finding{
		Code: code, Severity: operation.Critical, Subject: subject, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// checkRecords finds what is not finished, and who is at work.
func (g Green) checkRecords(ctx context.Context, p *Plan) error {
	record, err := g.Record(ctx, p.deployment)
	if err != nil {
		return err
	}
	if record != nil {
		p.block("unfinished-upgrade", p.Object, "redisctl upgrade status",
			"there is a second release already: %s, %s", record.Green, record.Phase)
	}
	if p.deployment.Workload.Annotations[operation.NoteUpgrade] != "" {
		p.block("unfinished-upgrade", p.Object, "redisctl upgrade resume or abort", "another upgrade is not finished")
	}
	for _, check := range []func(context.Context, operation.Notes, *operation.Deployment) ([]operation.Finding, error){
		restore.UnfinishedRestore, restore.UnfinishedFailover,
	} {
		found, err := check(ctx, g.Notes, p.deployment)
		if err != nil {
			return err
		}
		p.Findings = append(p.Findings, found...)
	}
	return nil
}

// checkNames finds what has the second release's name already: its claims would bring old
// data with them, and be deleted by an abort.
func (g Green) checkNames(ctx context.Context, p *Plan) error {
	found, err := g.find(ctx, p.deployment, p.Green)
	if err != nil {
		return err
	}
	if found != nil {
		p.block("release-exists", p.Green, "choose another name with --green", "there is a release of that name")
		return nil
	}
	claims, err := g.Cluster.Claims(ctx, p.deployment.Namespace, p.Green)
	if err != nil {
		return err
	}
	if len(claims) > 0 {
		p.block("claims-exist", p.Green, "delete them, or choose another name with --green",
			"a release of that name has left claims behind: %s", strings.Join(claims, ", "))
	}
	return nil
}

// render finds out what the second release would be, by rendering the first one so.
func (g Green) render(ctx context.Context, p *Plan) error {
	d := p.deployment
	p.change = p.options.Change
	own := map[string]any{"fullnameOverride": ""}
	if d.Workload.Volume.Kind == operation.VolumeExistingClaim {
		own["persistence"] = map[string]any{"existingClaim": ""}
	}
	p.change.Values = over(p.options.Change.Values, own)
	p.change.Description = "second release beside " + d.Release
	preview, err := g.Releases.Preview(ctx, d, p.change)
	if err != nil {
		return err
	}
	p.To = preview.Image
	claims, err := sharedClaims(preview.Workload)
	if err != nil {
		return err
	}
	for _, claim := range claims {
		p.block("shared-claim", claim, "let the second release have another one: --set KEY=VALUE",
			"both releases would have their data on this claim")
	}
	if d.Credentials.Kind != "secret" {
		return nil
	}
	same, err := g.Releases.Preview(ctx, d, upgrade.Change{})
	if err != nil {
		return err
	}
	for _, o := range same.Objects {
		if o.Kind == "Secret" && o.Name == d.Credentials.Secret {
			p.block("password-generated", o.Name, "name a Secret: --set redis.existingSecret="+o.Name,
				"the chart makes another password at each rendering: the second release could not log in to the first")
		}
	}
	return nil
}

// sharedClaims names the claims that a workload's pods do not get from its own templates.
func sharedClaims(manifest []byte) ([]string, error) {
	var w struct {
		Spec struct {
			Template struct {
				Spec struct {
					Volumes []struct {
						PersistentVolumeClaim struct {
							ClaimName string `json:"claimName"`
						} `json:"persistentVolumeClaim"`
					} `json:"volumes"`
				} `json:"spec"`
			} `json:"template"`
		} `json:"spec"`
	}
	if len(manifest) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(manifest, &w); err != nil {
		return nil, fmt.Errorf("reading the rendered workload: %w", err)
	}
	var claims []string
	for _, v := range w.Spec.Template.Spec.Volumes {
		if name := v.PersistentVolumeClaim.ClaimName; name != "" {
			claims = append(claims, name)
		}
	}
	return claims, nil
}

// over lays values over others, key by key.
func over(values, others map[string]any) map[string]any {
	merged := maps.Clone(others)
	for key, value := range values {
		above, isMap := value.(map[string]any)
		if below, ok := merged[key].(map[string]any); ok && isMap {
			value = over(above, below)
		}
		merged[key] = value
	}
	return merged
}

func (p *Plan) planSteps() {
	p.Steps = []operation.Step{
		{Action: "record that there is a second release", Subject: p.Object, Mutates: true},
		{Action: "install it with " + p.To, Subject: p.Green, Mutates: true},
		{Action: "wait until its pods are Ready", Subject: p.Green},
	}
	if p.options.Copy {
		p.Steps = append(p.Steps,
			operation.Step{Action: "back up the data", Subject: p.Primary},
			operation.Step{Action: "restore the backup, and compare every key", Subject: p.Green, Mutates: true},
		)
		return
	}
	p.Steps = append(p.Steps,
		operation.Step{Action: "let its first server follow " + p.Primary, Subject: p.Green, Mutates: true},
		operation.Step{Action: "wait until it is in sync", Subject: p.Green},
	)
}

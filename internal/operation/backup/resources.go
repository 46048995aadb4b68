package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/redact"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// Resource is one object of a release, without what the cluster added to it.
type Resource struct {
	Kind, Name string
	YAML       []byte
}

// Resources are the objects of a release.
type Resources struct {
	// Items in the order in which they can be applied.
	Items []Resource
	// Missing are the kinds that could not be read.
	Missing []operation.Gap
	// Secrets are the names of those that the objects refer to and that are not among
	// Items: they have to exist before the release works.
	Secrets []string
}

// ResourcesBackup backs up the objects of a release. All fields are required.
type ResourcesBackup struct {
	Objects  Objects
	Store    storage.Store
	Encoding codec.Encoding
	Reporter operation.Reporter
	Now      func() time.Time
	// Version of redisctl, for the manifest.
	Version string
}

// Run backs up the objects of d and returns the manifest and the folder that it is in.
func (b ResourcesBackup) Run(ctx context.Context, d *operation.Deployment, o SetOptions) (*snapshot.Manifest, string, error) {
	if err := checkSecrets(o, b.Encoding); err != nil {
		return nil, "", err
	}
	if d.Workload == nil {
		return nil, "", &operation.Error{
			Kind: operation.Usage, Object: d.String(), Phase: "backup resources",
			Err:  errors.New("a plain address has no objects in Kubernetes"),
			Next: "name a release with -n and -r",
		}
	}
	dir, err := Folder(d, "")
	if err != nil {
		return nil, "", &operation.Error{Kind: operation.Usage, Object: d.String(), Phase: "naming the backup's folder", Err: err}
	}
	set, err := snapshot.CreateSet(b.Store, dir, snapshot.KindResources, snapshot.CreateOptions{
		Version: b.Version, Begun: b.Now(), Now: b.Now, Encoding: b.Encoding,
		Source: snapshot.Source{Namespace: d.Namespace, Release: d.Release, Method: "resources"},
	})
	if err != nil {
		return nil, "", failed(ctx, d.String(), "beginning the backup", err)
	}
	defer set.Abort()
	if err := b.add(ctx, d, o, set); err != nil {
		return nil, "", failed(ctx, d.String(), "storing the objects", err)
	}
	m, err := set.Commit(ctx)
	if err != nil {
		return nil, "", failed(ctx, d.String(), "storing the backup", err)
	}
	sweep(ctx, b.Store, dir, b.Reporter)
	return m, dir, nil
}

// add reads the objects and adds them to set as one stream of YAML documents.
func (b ResourcesBackup) add(ctx context.Context, d *operation.Deployment, o SetOptions, set *snapshot.Set) error {
	b.Reporter.Step("reading the objects of %s", d)
	found, err := b.Objects.Resources(ctx, d, o.Secrets)
	if err != nil {
		return err
	}
	for _, gap := range found.Missing {
		b.Reporter.Warn("%s are not included: %s", gap.Part, gap.Reason)
	}
	if len(found.Secrets) > 0 {
		b.Reporter.Note("not included: Secret %s; --include-secrets does, encrypted", strings.Join(found.Secrets, ", "))
	}
	m := redact.Mask{Off: o.Secrets}
	for i := range found.Items {
		if found.Items[i].Kind != "Secret" {
			found.Items[i].YAML = []byte(m.Prose(string(found.Items[i].YAML)))
		}
	}
	text := resourcesText(d, found, b.Now().UTC())
	_, err = set.Add(ctx, snapshot.SetFile{Name: "resources.yaml", Kind: snapshot.FileResources}, strings.NewReader(text))
	return err
}

// resourcesText is the stream that kubectl apply -f takes.
func resourcesText(d *operation.Deployment, found Resources, at time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The objects of release %s in namespace %s, read by redisctl at %s.\n", d.Release, d.Namespace, at.Format(time.RFC3339))
	fmt.Fprintf(&b, "# Once namespace %s exists and is empty: kubectl apply --server-side --field-manager=helm -f FILE\n", d.Namespace)
	for _, secret := range found.Secrets {
		fmt.Fprintf(&b, "# Not included, and needed before: Secret %s.\n", secret)
	}
	for _, gap := range found.Missing {
		fmt.Fprintf(&b, "# Not included: %s (%s).\n", gap.Part, strings.ReplaceAll(gap.Reason, "\n", " "))
	}
	for _, item := range found.Items {
		if bytes.Contains(item.YAML, []byte(Placeholder)) {
			fmt.Fprintf(&b, "# Not included, and to be filled in: passwords in %s %s, which say %q.\n", item.Kind, item.Name, Placeholder)
		}
	}
	for _, item := range found.Items {
		b.WriteString("---\n")
		b.Write(item.YAML)
	}
	return b.String()
}

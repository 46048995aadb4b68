package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/folder"
	"github.com/redisctl/redisctl/internal/storage/s3"
	"github.com/redisctl/redisctl/internal/storage/tee"
)

// storeOptions say where backups live.
type storeOptions struct {
	dir string
	// urls are those of --to or --from; they take the place of dir.
	urls []string
	s3   s3Options
}

// s3Options are the defaults of s3:// URLs that say nothing else.
type s3Options struct {
	endpoint, region, profile, ca, addressing string
}

// addFlags adds --backup-dir alone, for commands that make a backup on the way.
func (o *storeOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.dir, "backup-dir", filepath.FromSlash("./"+snapshot.DefaultRoot), "folder that holds the backups")
}

// addSource adds the flags that say where a command reads backups.
func (o *storeOptions) addSource(cmd *cobra.Command) {
	o.addFlags(cmd)
	cmd.Flags().StringSliceVar(&o.urls, "from", nil, "where the backups are, instead of --backup-dir: s3://bucket/prefix or a folder")
	o.addS3Flags(cmd)
}

// addTargets adds the flags that say where a command stores backups.
func (o *storeOptions) addTargets(cmd *cobra.Command) { o.addTargetsAs(cmd, "to") }

// addTargetsAs is addTargets for a command whose --to is something else.
func (o *storeOptions) addTargetsAs(cmd *cobra.Command, name string) {
	o.addFlags(cmd)
	cmd.Flags().StringSliceVar(&o.urls, name, nil, "where to store it, instead of --backup-dir: s3://bucket/prefix or a folder (repeatable, or comma-separated)")
	o.addS3Flags(cmd)
}

func (o *storeOptions) addS3Flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.s3.endpoint, "s3-endpoint", "", "URL of the S3 server (default AWS_ENDPOINT_URL_S3, or Amazon S3)")
	f.StringVar(&o.s3.region, "s3-region", "", "region of the bucket (default AWS_REGION, or what the server says)")
	f.StringVar(&o.s3.profile, "s3-profile", "", "profile of the shared credentials file (default AWS_ACCESS_KEY_ID and the usual chain)")
	f.StringVar(&o.s3.ca, "s3-ca", "", "file with the certificate authorities to trust for S3 (PEM)")
	f.StringVar(&o.s3.addressing, "s3-addressing", "", "how a bucket is named in requests: auto, path or virtual (default auto)")
	mustComplete(cmd, "s3-addressing", cobra.FixedCompletions(s3.Addressings(), cobra.ShellCompDirectiveNoFileComp))
}

// openStores returns the stores that o names, at least one. It does not use the
// network.
func (a *app) openStores(o storeOptions) ([]storage.Store, error) {
	if len(o.urls) == 0 {
		return []storage.Store{folder.New(o.dir)}, nil
	}
	stores := make([]storage.Store, len(o.urls))
	seen := make(map[string]bool)
	for i, location := range o.urls {
		store, err := a.openStore(location, o.s3)
		if err != nil {
			return nil, operation.Errorf(operation.Usage, "%w", err)
		}
		if seen[location] {
			return nil, operation.Errorf(operation.Usage, "%s is named twice", store.Location(""))
		}
		stores[i], seen[location] = store, true
	}
	return stores, nil
}

// openSource returns the one store that a command reads.
func (a *app) openSource(o storeOptions) (storage.Store, error) {
	stores, err := a.openStores(o)
	if err == nil && len(stores) > 1 {
		err = operation.Errorf(operation.Usage, "give one --from: a backup is read from one place")
	}
	if err != nil {
		return nil, err
	}
	return stores[0], nil
}

// openTargets returns a store that writes to everything that o names. With several
// it is a *tee.Store, whose outcomes storedAt tells.
func (a *app) openTargets(o storeOptions) (storage.Store, error) {
	stores, err := a.openStores(o)
	switch {
	case err != nil:
		return nil, err
	case len(stores) == 1:
		return stores[0], nil
	default:
		return tee.New(tee.DefaultPatience, stores...), nil
	}
}

// openWritable is openTargets for a backup of d. It fails when the store cannot be
// written to: before the server is asked for anything, not when its data arrives.
func (a *app) openWritable(ctx context.Context, o storeOptions, d *operation.Deployment) (storage.Store, error) {
	store, err := a.openTargets(o)
	if err != nil {
		return nil, err
	}
	checker, ok := store.(storage.Checker)
	if !ok {
		return store, nil
	}
	prefix, instance := "", ""
	if len(d.Instances) == 1 {
		instance = d.Instances[0].Name
	}
	if d.Namespace != "" || instance != "" {
		// A name that cannot be is found, and explained, by the plan.
		prefix, _ = backup.Folder(d, instance)
	}
	if err := checker.Check(ctx, prefix); err != nil {
		return nil, &operation.Error{
			Kind: operation.KindOf(err), Object: store.Location(""), Phase: "making sure that it takes backups", Err: err,
			Unchanged: "no backup was stored; older ones are untouched",
		}
	}
	return store, nil
}

// openStore opens the store at a URL or a path.
func (a *app) openStore(location string, defaults s3Options) (storage.Store, error) {
	switch scheme, _, isURL := strings.Cut(location, "://"); {
	case location == "":
		return nil, errors.New("an empty location: write s3://bucket/prefix or a folder")
	case !isURL:
		return folder.New(location), nil
	case scheme == "file":
		return openFileURL(location)
	case scheme == "s3":
		o, err := s3.Parse(location, s3.Options{
			Endpoint: defaults.endpoint, Region: defaults.region, Profile: defaults.profile, CAFile: defaults.ca,
			Addressing: s3.Addressing(defaults.addressing), UserAgent: "redisctl/" + ThisBuild().Version,
			LookupEnv: a.system.LookupEnv,
		})
		if err != nil {
			return nil, err
		}
		return s3.New(o)
	default:
		// Not the whole location: it may hold a password.
		return nil, fmt.Errorf("backups cannot be stored at %s://...: write s3://bucket/prefix, file:///folder or a folder", scheme)
	}
}

func openFileURL(location string) (storage.Store, error) {
	u, err := url.Parse(location)
	if err != nil || u.Host != "" && u.Host != "localhost" || u.Path == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is not a local folder: write file:///folder", location)
	}
	return folder.New(filepath.FromSlash(u.Path)), nil
}

// storedAt is one place of a backup that was written to several.
type storedAt struct {
	// Location is that of the store, File that of the data.
	Location string `json:"location"`
	File     string `json:"file,omitempty"`
	// Problem is why it is not there; empty when it is.
	Problem string `json:"problem,omitempty"`
}

// storedAtAll returns what became of each target of store for the object name. It
// has one entry when there is one target.
func storedAtAll(store storage.Store, name string) []storedAt {
	several, ok := store.(*tee.Store)
	if !ok {
		return []storedAt{{Location: store.Location(""), File: store.Location(name)}}
	}
	var all []storedAt
	for _, o := range several.Outcomes() {
		at := storedAt{Location: o.Store.Location(""), File: o.Store.Location(name)}
		if o.Err != nil {
			at.File, at.Problem = "", o.Err.Error()
		}
		all = append(all, at)
	}
	return all
}

// partial returns the outcome of a command that reached only some of its targets;
// nil when it reached all.
func partial(all []storedAt) error {
	missing := 0
	for _, at := range all {
		if at.Problem != "" {
			missing++
		}
	}
	if missing == 0 {
		return nil
	}
	return outcome(operation.Partial, "stored in %d of %d places", len(all)-missing, len(all))
}

// firstFile returns the first place that has the data.
func firstFile(all []storedAt) string {
	for _, at := range all {
		if at.Problem == "" {
			return at.File
		}
	}
	return ""
}

// storedFields shows where the data is, and where it is not.
func storedFields(all []storedAt) []render.Field {
	var fields []render.Field
	for _, at := range all {
		if at.Problem == "" {
			fields = append(fields, render.Field{Label: "file", Value: render.T(at.File)})
		} else {
			fields = append(fields, render.Field{
				Label: "NOT STORED", Value: render.Cell{Text: "in " + at.Location + ": " + at.Problem, Style: render.Bad},
			})
		}
	}
	return fields
}

// locations names stores.
func locations(stores []storage.Store) string {
	all := make([]string, len(stores))
	for i, s := range stores {
		all[i] = s.Location("")
	}
	return strings.Join(all, ", ")
}

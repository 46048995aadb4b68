package helm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

// WithImage implements upgrade.Releases. It tries the values that charts commonly have for
// an image, those that change least first, and renders the chart with each.
func (r *Releases) WithImage(
	ctx context.Context, d *operation.Deployment, c upgrade.Change, image string,
) (upgrade.Change, error) {
	wanted, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return c, &operation.Error{Kind: operation.Usage, Object: "image " + image, Err: err}
	}
	s, err := r.open(ctx, d)
	if err != nil {
		return c, err
	}
	running, err := s.rendersImage(ctx, c)
	if err != nil {
		return c, err
	}
	if sameImage(running, image) {
		return c, nil
	}
	source, values, err := s.source(ctx, c)
	if err != nil {
		return c, err
	}
	all, err := util.CoalesceValues(source, values)
	if err != nil {
		return c, s.failure(ctx, "reading the chart's values", conceal(err, values))
	}
	tried := []string{}
	for _, candidate := range candidates(all, image, wanted) {
		changed := c
		changed.Values = merge(candidate.values, c.Values)
		got, err := s.rendersImage(ctx, changed)
		if ctx.Err() != nil {
			return c, err
		}
		// A chart may refuse values by its schema: then these are not the ones.
		if err == nil && sameImage(got, image) {
			return changed, nil
		}
		tried = append(tried, candidate.names)
	}
	return c, &operation.Error{
		Kind: operation.Refused, Object: s.object(), Phase: "choosing the image",
		Err: fmt.Errorf("container %s runs %s, and none of the values that charts commonly have makes it run %s (tried: %s)",
			d.Workload.Container, running, image, strings.Join(slices.Compact(tried), ", ")),
		Unchanged: "nothing was changed",
		Next:      "name the value of the chart that does: --set KEY=VALUE",
	}
}

// rendersImage returns the image of the server's container after c.
func (s *session) rendersImage(ctx context.Context, c upgrade.Change) (string, error) {
	revisions, err := s.revisions(ctx)
	if err != nil {
		return "", err
	}
	next, err := s.render(ctx, revisions, c)
	if err != nil {
		return "", err
	}
	rendered, err := parse(next.Manifest, s.namespace)
	if err != nil {
		return "", s.failure(ctx, "reading manifests", err)
	}
	return rendered.image(s.deployment), nil
}

// sameImage reports whether two references are the same one: "redis:7" is short for
// "docker.io/library/redis:7".
func sameImage(a, b string) bool {
	first, err := reference.ParseNormalizedNamed(a)
	if err != nil {
		return false
	}
	second, err := reference.ParseNormalizedNamed(b)
	if err != nil {
		return false
	}
	return reference.TagNameOnly(first).String() == reference.TagNameOnly(second).String()
}

// candidate is a change of values that may choose an image.
type candidate struct {
	names  string // of the values, for messages
	values map[string]any
}

// candidates lists the ways in which charts take an image, as far as all, the values that
// the chart has now, show them.
func candidates(all map[string]any, image string, wanted reference.Named) []candidate {
	var found []candidate
	for _, path := range [][]string{{"image"}, {"redis", "image"}, {"valkey", "image"}} {
		present, ok, err := unstructured.NestedFieldNoCopy(all, path...)
		if err != nil || !ok {
			continue
		}
		prefix := strings.Join(path, ".")
		switch present := present.(type) {
		case string:
			found = append(found, candidate{prefix, nested(path, image)})
		case map[string]any:
			for _, fields := range imageFields(present, image, wanted) {
				names := make([]string, 0, len(fields))
				for name := range fields {
					names = append(names, prefix+"."+name)
				}
				slices.Sort(names)
				found = append(found, candidate{strings.Join(names, " "), nested(path, fields)})
			}
		}
	}
	return found
}

// imageFields lists values for a map that describes an image.
func imageFields(present map[string]any, image string, wanted reference.Named) []map[string]any {
	version := versionFields(present, wanted)
	typed := strings.TrimSuffix(image, strings.TrimPrefix(reference.TagNameOnly(wanted).String(), wanted.Name()))
	path, domain := reference.Path(wanted), reference.Domain(wanted)
	choices := []map[string]any{
		version,
		union(version, map[string]any{"repository": typed}),
		union(version, map[string]any{"repository": path}),
		union(version, map[string]any{"repository": wanted.Name()}),
		union(version, map[string]any{"registry": domain, "repository": path}),
	}
	return slices.DeleteFunc(choices, func(fields map[string]any) bool {
		for field := range fields {
			if _, ok := present[field]; !ok && field != "digest" {
				return true // the chart would not read it
			}
		}
		return false
	})
}

// versionFields are the values for tag and digest.
func versionFields(present map[string]any, wanted reference.Named) map[string]any {
	fields := map[string]any{}
	digested, hasDigest := wanted.(reference.Digested)
	tagged, hasTag := reference.TagNameOnly(wanted).(reference.Tagged)
	if hasTag {
		fields["tag"] = tagged.Tag()
	}
	_, takesDigest := present["digest"]
	switch {
	case hasDigest && takesDigest:
		fields["digest"] = digested.Digest().String()
	case hasDigest && hasTag:
		fields["tag"] = tagged.Tag() + "@" + digested.Digest().String()
	case takesDigest && present["digest"] != "":
		fields["digest"] = "" // it would win over the tag
	}
	return fields
}

// nested returns a map with value at path.
func nested(path []string, value any) map[string]any {
	for _, key := range slices.Backward(path) {
		value = map[string]any{key: value}
	}
	m, _ := value.(map[string]any)
	return m
}

package check

import (
	"regexp"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// versionTag splits a tag into the version and what stands behind it: "7.0.15-alpine".
var versionTag = regexp.MustCompile(`^(v?)([0-9]+(?:\.[0-9]+){0,2}(?:-rc[0-9]+)?)([-_.+][^:@/]*)?$`)

// wantedVersion is what --to takes: "8", "7.2", "7.2.5", "8.0-rc1".
var wantedVersion = regexp.MustCompile(`^[0-9]+(\.[0-9]+){0,2}(-rc[0-9]+)?$`)

// Retag returns the image with another version, which must be of the form "7.2.5", "7.2"
// or "8". The repository and what stands behind the version in the tag stay:
// "redis:7.0.15-alpine" becomes "redis:7.2.5-alpine". A digest goes, because it would name
// the former image. The error is of kind Usage when the tag holds no version.
func Retag(image, version string) (string, error) {
	if !wantedVersion.MatchString(version) {
		return "", operation.Errorf(operation.Usage, "%q is not a version such as 7.2.5; an image is named whole with --image", version)
	}
	repository, tag := splitImage(image)
	parts := versionTag.FindStringSubmatch(tag)
	if parts == nil {
		return "", operation.Errorf(operation.Usage, "the image %s has no version in its tag that --to could replace; name the image with --image", image)
	}
	return repository + ":" + parts[1] + version + parts[3], nil
}

// splitImage returns the parts of a reference, but for its digest:
// [registry[:port]/]repository[:tag][@digest].
func splitImage(image string) (repository, tag string) {
	named, _, _ := strings.Cut(image, "@")
	if colon := strings.LastIndexByte(named, ':'); colon > strings.LastIndexByte(named, '/') {
		return named[:colon], named[colon+1:]
	}
	return named, ""
}

// imageVersion reads the version from an image's tag, nil when there is none. The product
// is told by the repository's last name.
func imageVersion(image string) *redis.Version {
	repository, tag := splitImage(image)
	parts := versionTag.FindStringSubmatch(tag)
	if parts == nil {
		return nil
	}
	product := "redis"
	if strings.Contains(repository[strings.LastIndexByte(repository, '/')+1:], "valkey") {
		product = "valkey"
	}
	v, err := redis.ParseVersion(product, parts[2])
	if err != nil {
		return nil
	}
	return &v
}

// sameVersion reports whether v is what the user has named, as far as they have: 7.2.5 is
// "7.2".
func sameVersion(v redis.Version, wanted string) bool {
	number, _, _ := strings.Cut(wanted, "-")
	return v.Number() == number || strings.HasPrefix(v.Number(), number+".")
}

// targetImage returns what the release is to run, nil when nothing was named.
func targetImage(current string, o Options) (*Target, error) {
	switch {
	case o.To != "" && o.Image != "":
		return nil, operation.Errorf(operation.Usage, "choose --to or --image")
	case o.To != "":
		image, err := Retag(current, o.To)
		if err != nil {
			return nil, err
		}
		return &Target{Image: image, Version: imageVersion(image), wanted: o.To}, nil
	case strings.ContainsAny(o.Image, " \t\r\n"):
		return nil, operation.Errorf(operation.Usage, "--image %q is not an image", o.Image)
	case o.Image != "":
		return &Target{Image: o.Image, Version: imageVersion(o.Image)}, nil
	default:
		return nil, nil
	}
}

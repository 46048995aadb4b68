package check_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade/check"
)

func TestRetag(t *testing.T) {
	for _, c := range []struct{ image, version, want string }{
		{"redis:7.0.15", "7.2.5", "redis:7.2.5"},
		{"redis:7.0.15-alpine", "7.2.5", "redis:7.2.5-alpine"},
		{"redis:7-alpine3.19", "8", "redis:8-alpine3.19"},
		{"redis:v7.0", "7.2", "redis:v7.2"},
		{"redis:8.0-rc1", "8.0.2", "redis:8.0.2"},
		{"redis:7.4.1", "8.0-rc1", "redis:8.0-rc1"},
		{"registry.local:5000/team/redis:7.0.15", "8.0.2", "registry.local:5000/team/redis:8.0.2"},
		{"docker.io/bitnami/redis:7.0.15-debian-11-r12", "7.2.5", "docker.io/bitnami/redis:7.2.5-debian-11-r12"},
		{"redis:7.0.15@sha256:abc", "7.2.5", "redis:7.2.5"},
	} {
		got, err := check.Retag(c.image, c.version)
		require.NoError(t, err, "%s to %s", c.image, c.version)
		assert.Equal(t, c.want, got)
	}
	for _, c := range []struct{ image, version, says string }{
		{"redis", "7.2.5", "--image"},
		{"redis:latest", "7.2.5", "--image"},
		{"redis:alpine", "7.2.5", "--image"},
		{"redis@sha256:abc", "7.2.5", "--image"},
		{"registry.local:5000/redis", "7.2.5", "--image"},
		{"redis:7.0.15", "7.2.5-alpine", "is not a version"},
		{"redis:7.0.15", "seven", "is not a version"},
		{"redis:7.0.15", "", "is not a version"},
	} {
		_, err := check.Retag(c.image, c.version)
		require.ErrorContains(t, err, c.says, "%s to %s", c.image, c.version)
		assert.Equal(t, operation.Usage, operation.KindOf(err))
	}
}

package redact_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/redisctl/redisctl/internal/operation/redact"
)

func TestMaskDirectives(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want []string
	}{
		{"requirepass", []string{"hunter2hunter2"}, []string{redact.Placeholder}},
		{"masterauth", []string{"hunter2hunter2"}, []string{redact.Placeholder}},
		{"tls-key-file-pass", []string{"x"}, []string{redact.Placeholder}},
		{"masteruser", []string{"replicator"}, []string{"replicator"}},
		{"requirepass", []string{""}, []string{""}},
		{"save", []string{"900", "1"}, []string{"900", "1"}},
		{"user", []string{"app", "on", ">hunter3", "#abc", "~*", "+@all"}, []string{"app", "on", ">" + redact.Placeholder, "#" + redact.Placeholder, "~*", "+@all"}},
	} {
		assert.Equal(t, test.want, (&redact.Mask{}).Directive(test.name, test.args))
		assert.Equal(t, test.args, (&redact.Mask{Off: true}).Directive(test.name, test.args), "with secrets")
	}
}

func TestMaskValues(t *testing.T) {
	m := &redact.Mask{}
	m.Learn("hunter2hunter2")
	got := m.Values(map[string]any{
		"mode": "replica",
		"redis": map[string]any{
			"password": "other", "existingSecret": "redis-auth", "secretKeyName": "token", "secretName": "s", "passwordKey": "k",
			"extraConfig": "maxmemory 1gb\nrequirepass \"pass word\"\n  user app on >pw ~*\n", "adminToken": "t", "replicas": 2.0,
		},
		"extraEnv": []any{
			map[string]any{"name": "SENTINEL_PASSWORD", "value": "pw"}, map[string]any{"name": "TZ", "value": "UTC"},
		},
		"command": []any{"sh", "-c", "redis-cli -a hunter2hunter2 ping"},
		"empty":   map[string]any{"password": ""},
	})
	assert.Equal(t, map[string]any{
		"mode": "replica",
		"redis": map[string]any{
			"password": redact.Placeholder, "existingSecret": "redis-auth", "secretKeyName": "token", "secretName": "s", "passwordKey": "k",
			"extraConfig": "maxmemory 1gb\nrequirepass " + redact.Placeholder + "\n  user app on >" + redact.Placeholder + " ~*\n",
			"adminToken":  redact.Placeholder, "replicas": 2.0,
		},
		"extraEnv": []any{
			map[string]any{"name": "SENTINEL_PASSWORD", "value": redact.Placeholder}, map[string]any{"name": "TZ", "value": "UTC"},
		},
		"command": []any{"sh", "-c", "redis-cli -a " + redact.Placeholder + " ping"},
		"empty":   map[string]any{"password": ""},
	}, got)
}

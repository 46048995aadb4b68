package backup

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/redisctl/redisctl/internal/redis"
)

func TestMaskDirectives(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want []string
	}{
		{"requirepass", []string{"hunter2hunter2"}, []string{Placeholder}},
		{"masterauth", []string{"hunter2hunter2"}, []string{Placeholder}},
		{"tls-key-file-pass", []string{"x"}, []string{Placeholder}},
		{"masteruser", []string{"replicator"}, []string{"replicator"}},
		{"requirepass", []string{""}, []string{""}},
		{"save", []string{"900", "1"}, []string{"900", "1"}},
		{"user", []string{"app", "on", ">hunter3", "#abc", "~*", "+@all"}, []string{"app", "on", ">" + Placeholder, "#" + Placeholder, "~*", "+@all"}},
	} {
		assert.Equal(t, test.want, (&mask{}).directive(test.name, test.args))
		assert.Equal(t, test.args, (&mask{off: true}).directive(test.name, test.args), "with secrets")
	}
}

func TestMaskValues(t *testing.T) {
	m := &mask{}
	m.learn("hunter2hunter2")
	got := m.values(map[string]any{
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
			"password": Placeholder, "existingSecret": "redis-auth", "secretKeyName": "token", "secretName": "s", "passwordKey": "k",
			"extraConfig": "maxmemory 1gb\nrequirepass " + Placeholder + "\n  user app on >" + Placeholder + " ~*\n",
			"adminToken":  Placeholder, "replicas": 2.0,
		},
		"extraEnv": []any{
			map[string]any{"name": "SENTINEL_PASSWORD", "value": Placeholder}, map[string]any{"name": "TZ", "value": "UTC"},
		},
		"command": []any{"sh", "-c", "redis-cli -a " + Placeholder + " ping"},
		"empty":   map[string]any{"password": ""},
	}, got)
}

func TestDifferences(t *testing.T) {
	wanted, err := redis.ParseConfig("maxmemory 256mb\nsave 900 1\nsave 300 10\ndir /data/\nappendonly yes\nrequirepass one\n" +
		"maxmemory-policy allkeys-lru\nclient-output-buffer-limit pubsub 32mb 8mb 60\ntimeout 0\nrename-command FLUSHALL \"\"\n")
	assert.NoError(t, err)
	running := map[string]string{
		"maxmemory": "268435456", "save": "900 1 300 10", "dir": "/data", "appendonly": "no", "requirepass": "two",
		"maxmemory-policy": "noeviction", "client-output-buffer-limit": "normal 0 0 0 pubsub 33554432 8388608 60", "timeout": "0",
	}
	assert.Equal(t, []Difference{
		{Setting: "appendonly", Running: "no", Wanted: "yes"},
		{Setting: "maxmemory-policy", Running: "noeviction", Wanted: "allkeys-lru"},
		{Setting: "requirepass", Running: Placeholder, Wanted: Placeholder},
	}, differences(running, wanted, &mask{}))
}

func TestQuoteIsReadBack(t *testing.T) {
	for _, arg := range []string{"", "plain", "two words", `a"b\c`, "#hash", "tab\tand\nline", "ü"} {
		parsed, err := redis.ParseConfig("name " + quote(arg))
		assert.NoError(t, err)
		got, _ := parsed.Get("name")
		assert.Equal(t, arg, got)
	}
}

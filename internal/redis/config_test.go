package redis_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/redis"
)

func TestConfigSplitsLinesAsTheServerDoes(t *testing.T) {
	c, err := redis.ParseConfig(`
# a comment
maxmemory 256mb
SAVE 900 1
requirepass "two words \x41\n"
masterauth 'it\'s "quoted"'
rename-command CONFIG cfg_7f3
rename-command flushall ""
maxmemory 512mb
`)
	require.NoError(t, err)
	get := func(name string) string {
		v, ok := c.Get(name)
		require.True(t, ok, name)
		return v
	}
	assert.Equal(t, "512mb", get("maxmemory"), "the last one counts")
	assert.Equal(t, "two words A\n", get("requirepass"))
	assert.Equal(t, `it's "quoted"`, get("masterauth"))
	assert.Equal(t, redis.Renames{"CONFIG": "cfg_7f3", "FLUSHALL": ""}, c.Renames())
	_, ok := c.Get("appendonly")
	assert.False(t, ok)
}

func TestConfigErrorsNameTheLineAndNotTheSecret(t *testing.T) {
	for _, line := range []string{`requirepass "hunter2`, `requirepass "hunter2"x`, `requirepass 'hunter2`} {
		_, err := redis.ParseConfig("port 6379\n" + line + "\n")
		require.Error(t, err, line)
		assert.Contains(t, err.Error(), "line 2 (requirepass)")
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

func TestRenames(t *testing.T) {
	r := redis.Renames{"CONFIG": "cfg", "KEYS": ""}
	name, disabled := r.Lookup("config")
	assert.Equal(t, "cfg", name)
	assert.False(t, disabled)
	_, disabled = r.Lookup("KEYS")
	assert.True(t, disabled)
	name, disabled = redis.Renames(nil).Lookup("GET")
	assert.Equal(t, "GET", name)
	assert.False(t, disabled)
}

func TestSavePoints(t *testing.T) {
	for _, c := range []struct {
		text string
		want bool
	}{
		{"", true}, // the server's defaults
		{"save 900 1", true},
		{`save ""`, false},
		{"save 900 1\nsave \"\"", false},
		{"save \"\"\nsave 60 1", true},
	} {
		config, err := redis.ParseConfig(c.text)
		require.NoError(t, err)
		assert.Equal(t, c.want, config.HasSavePoints(), "%q", c.text)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add("save 900 1\nrequirepass \"a\\x41\"\n'b' c")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := redis.ParseConfig(text)
		if err != nil {
			return
		}
		for _, d := range c.Directives() {
			if d.Args == nil {
				t.Fatal("a directive's arguments are never nil")
			}
		}
	})
}

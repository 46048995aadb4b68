package settings_test

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/redact"
	"github.com/redisctl/redisctl/internal/operation/settings"
	"github.com/redisctl/redisctl/internal/redis"
)

const file = "/etc/redis/redis.conf"

// files are the pods' own files by "pod path".
type files map[string]string

func (f files) ReadText(_ context.Context, _ *operation.Deployment, i operation.Instance, path string, _ int64) (string, error) {
	text, ok := f[i.Name+" "+path]
	if !ok {
		return "", fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return text, nil
}

func scene(t *testing.T, chart string) (*operation.Deployment, operationtest.Fleet) {
	t.Helper()
	d := operationtest.Deployment(2)
	var err error
	d.Config, err = redis.ParseConfig(chart)
	require.NoError(t, err)
	fleet := operationtest.Fleet{"cache-redis-0": operationtest.Primary("10.0.0.11"), "cache-redis-1": operationtest.Replica("10.0.0.10")}
	for _, s := range fleet {
		s.Set(map[string]string{"config_file": file})
		s.Config = map[string]string{
			"maxmemory": "268435456", "save": "900 1 300 10", "hz": "10", "requirepass": "hunter2hunter2", "masterauth": "hunter2hunter2", "replicaof": "",
		}
	}
	fleet["cache-redis-1"].Config["replicaof"] = "cache-redis-0 6379"
	return d, fleet
}

func TestReadMarksWhatDiffersAndHidesSecrets(t *testing.T) {
	d, fleet := scene(t, "")
	fleet["cache-redis-1"].Config["hz"] = "20"
	fleet["cache-redis-1"].Config["requirepass"] = "another secret"
	fleet["cache-redis-1"].Config["aclfile"] = "/data/hunter2hunter2"
	r := settings.Read(t.Context(), fleet, d, "*", time.Second)
	assert.Equal(t, []string{"aclfile", "hz", "requirepass"}, r.Differing, "who follows whom differs by design")
	for _, i := range r.Instances {
		assert.Equal(t, redact.Placeholder, i.Value["requirepass"])
		assert.Equal(t, redact.Placeholder, i.Value["masterauth"])
	}
	assert.Equal(t, "/data/"+redact.Placeholder, r.Instances[1].Value["aclfile"])
}

func TestReadWithoutConfig(t *testing.T) {
	d, fleet := scene(t, "")
	fleet["cache-redis-0"].Config = nil
	r := settings.Read(t.Context(), fleet, d, "*", time.Second)
	assert.Equal(t, operation.Unsupported, operation.KindOf(r.Instances[0].Err))
	assert.Empty(t, r.Differing)
	_, err := settings.Compare(t.Context(), fleet, files{}, &operation.Deployment{Name: "a:1"}, "*", time.Second)
	assert.Equal(t, operation.Usage, operation.KindOf(err))
}

func text(s string) *string { return &s }

func TestCompareTellsWhereADifferenceComesFrom(t *testing.T) {
	const chart = "maxmemory 256mb\nsave 900 1\nsave 300 10\nhz 10\nclient-output-buffer-limit normal 0 0 0\n"
	own := "requirepass hunter2hunter2\nreplicaof cache-redis-0 6379\n"
	for _, c := range []struct {
		name, chart, file, set string
		value                  string
		want                   []settings.Drift
	}{
		{name: "units do not differ", chart: chart, file: chart + own},
		{
			name: "CONFIG SET", chart: chart, file: chart + own, set: "hz", value: "50",
			want: []settings.Drift{{Setting: "hz", Chart: text("10"), File: text("10"), Running: "50", Cause: settings.CauseSet}},
		},
		{
			name: "the chart has changed since", chart: "maxmemory 1gb\n", file: "maxmemory 256mb\n",
			want: []settings.Drift{{Setting: "maxmemory", Chart: text("1gb"), File: text("256mb"), Running: "268435456", Cause: settings.CauseRestart}},
		},
		{
			name: "both", chart: "hz 100\n", file: "hz 10\n", set: "hz", value: "50",
			want: []settings.Drift{{Setting: "hz", Chart: text("100"), File: text("10"), Running: "50", Cause: settings.CauseBoth}},
		},
		{
			name: "a promotion", chart: chart, file: chart + own, set: "replicaof", value: "",
			want: []settings.Drift{{Setting: "replicaof", File: text("cache-redis-0 6379"), Running: "", Cause: settings.CauseSet}},
		},
		{
			name: "a password that was changed", chart: chart, file: chart + own, set: "requirepass", value: "another secret",
			want: []settings.Drift{{Setting: "requirepass", File: text(redact.Placeholder), Running: redact.Placeholder, Cause: settings.CauseSet}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, fleet := scene(t, c.chart)
			if c.set != "" {
				fleet["cache-redis-1"].Config[c.set] = c.value
			}
			r, err := settings.Compare(t.Context(), fleet, files{"cache-redis-1 " + file: c.file}, d, "*", time.Second)
			require.NoError(t, err)
			if c.want == nil {
				c.want = []settings.Drift{}
			}
			assert.Equal(t, c.want, r.Instances[1].Value.Drifts)
			assert.Contains(t, r.Instances[0].Value.Problem, "reading "+file, "without the file, the chart is what there is")
		})
	}
}

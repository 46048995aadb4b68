package helm

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
)

func TestParseValues(t *testing.T) {
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	first := file("first.yaml", "{mode: replica, image: {tag: '7.0', pullPolicy: Never}}")
	second := file("second.yaml", "image: {tag: '7.2'}")
	conf := file("redis.conf", "appendonly yes\n")

	got, err := ParseValues([]string{first, second},
		[]string{"replication.replicas=1,a.b[0]=x"}, []string{"version=7"}, []string{"redis.config=" + conf})
	require.NoError(t, err)
	assert.Equal(t, map[string]any{
		"mode": "replica", "image": map[string]any{"tag": "7.2", "pullPolicy": "Never"},
		"replication": map[string]any{"replicas": int64(1)}, "a": map[string]any{"b": []any{"x"}},
		"version": "7", "redis": map[string]any{"config": "appendonly yes\n"},
	}, got)

	got, err = ParseValues(nil, nil, nil, nil)
	require.NoError(t, err)
	assert.Empty(t, got)

	broken := file("broken.yaml", "mode: replica\npassword: [hunter2")
	scalar := file("scalar.yaml", "hunter2")
	for name, test := range map[string]struct {
		files, set, setFile []string
		want                string
	}{
		"no file":       {files: []string{"/nowhere.yaml"}, want: "values file /nowhere.yaml: no such file or directory"},
		"broken file":   {files: []string{broken}, want: "values file " + broken + ": it is not a YAML map of values: see line 2"},
		"no map":        {files: []string{scalar}, want: "values file " + scalar + ": it is not a YAML map of values"},
		"stdin":         {files: []string{"-"}, want: "values file -: standard input is for answers: give the values a file"},
		"no value":      {set: []string{"hunter2"}, want: "--set: it must be KEY=VALUE"},
		"comma":         {set: []string{"redis.password=a,hunter2"}, want: `--set redis.password: it cannot be read; write "\," for a comma in a value, and the index of a list as KEY[0]`},
		"no value file": {setFile: []string{"redis.config=/nowhere"}, want: "--set-file redis.config: no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseValues(test.files, test.set, nil, test.setFile)
			assert.Equal(t, operation.Usage, operation.KindOf(err))
			assert.EqualError(t, err, test.want)
		})
	}
}

func TestMerge(t *testing.T) {
	under := map[string]any{"a": map[string]any{"x": 1, "y": 2}, "b": 1, "c": map[string]any{"x": 1}}
	over := map[string]any{"a": map[string]any{"y": nil}, "c": "flat", "d": 4}
	assert.Equal(t, map[string]any{
		"a": map[string]any{"x": 1, "y": nil}, "b": 1, "c": "flat", "d": 4,
	}, merge(over, under))
	assert.Equal(t, map[string]any{"a": map[string]any{"y": nil}, "c": "flat", "d": 4}, over)
	assert.Equal(t, map[string]any{"a": map[string]any{"x": 1, "y": 2}, "b": 1, "c": map[string]any{"x": 1}}, under)
}

func TestConceal(t *testing.T) {
	values := map[string]any{
		"mode": "replica", "passwords": []any{"hunter2", "abc"},
		"auth": map[string]any{"token": map[string]any{"value": "s3cret"}},
	}
	cause := errors.New(`mode replica: "hunter2" does not match "abc", nor s3cret`)
	err := conceal(cause, values)
	assert.EqualError(t, err, `mode replica: "(secret)" does not match "abc", nor (secret)`)
	assert.ErrorIs(t, err, cause)
	assert.NoError(t, conceal(nil, values))
}

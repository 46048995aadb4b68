package aof_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/aof"
)

func TestParseManifest(t *testing.T) {
	text := "# comment\n" +
		"file appendonly.aof.2.base.rdb seq 2 type b\n" +
		"file appendonly.aof.1.incr.aof seq 1 type h\n" +
		"file appendonly.aof.2.incr.aof seq 2 type i\n" +
		"file \"name with space.aof\" seq 3 type i startoffset 0 future field\n"
	m, err := aof.ParseManifest(text)
	require.NoError(t, err)
	var names []string
	for _, e := range m.Live() {
		names = append(names, e.Name)
	}
	assert.Equal(t, []string{"appendonly.aof.2.base.rdb", "appendonly.aof.2.incr.aof", "name with space.aof"}, names)
	want := strings.Split(text, "\n")
	assert.Equal(t, strings.Join([]string{want[1], want[3], want[4], ""}, "\n"), m.Text(), "what is copied, word for word")
}

func TestParseManifestRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":             "",
		"comments only":       "# a\n",
		"a cut line":          "file a seq 1 type b\nfile b se",
		"an odd word":         "file a seq 1 type\n",
		"no name":             "seq 1 type b\n",
		"no number":           "file a type b\n",
		"a negative number":   "file a seq -1 type b\n",
		"an unknown type":     "file a seq 1 type x\n",
		"two bases":           "file a seq 1 type b\nfile b seq 2 type b\n",
		"a wrong order":       "file a seq 2 type i\nfile b seq 1 type i\n",
		"another folder":      "file ../a seq 1 type b\n",
		"an absolute path":    "file /etc/passwd seq 1 type b\n",
		"the parent folder":   "file .. seq 1 type b\n",
		"a Windows path":      "file ..\\a seq 1 type b\n",
		"unbalanced quotes":   "file \"a seq 1 type b\n",
		"an empty line":       "\n",
		"a line without end":  "file " + strings.Repeat("a", 1<<10) + " seq 1 type b\n",
		"a manifest with all": strings.Repeat("# comment\n", 1<<17),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := aof.ParseManifest(text)
			assert.ErrorIs(t, err, aof.ErrManifest)
		})
	}
}

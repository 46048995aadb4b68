package render

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// draw prints blocks as -o format does on a terminal of the given width.
func draw(t *testing.T, format string, look Look, blocks ...Block) string {
	t.Helper()
	var out bytes.Buffer
	f, err := ParseFormat(format)
	require.NoError(t, err)
	require.NoError(t, Printer{Out: &out, Format: f, Look: look}.Print(Document{Blocks: blocks}))
	return out.String()
}

// golden strips the newline that makes a raw string readable.
func golden(text string) string { return strings.TrimPrefix(text, "\n") }

func instances() Table {
	return Table{
		Columns: []Column{{Title: "NAME"}, {Title: "STATUS"}, {Title: "KEYS", Right: true}, {Title: "NODE", Wide: true}},
		Rows: [][]Cell{
			{{Text: "cache-redis-0", Style: Strong}, {Text: "ok", Style: Good}, T("1000"), T("node-a")},
			{{Text: "cache-redis-1", Style: Strong}, {Text: "hanging", Style: Bad}, T(""), T("node-b")},
		},
	}
}

func TestTable(t *testing.T) {
	for name, c := range map[string]struct {
		format string
		width  int
		want   string
	}{
		"no terminal": {"table", 0, `
NAME            STATUS    KEYS
cache-redis-0   ok        1000
cache-redis-1   hanging
`},
		"wide": {"wide", 0, `
NAME            STATUS    KEYS   NODE
cache-redis-0   ok        1000   node-a
cache-redis-1   hanging          node-b
`},
		"80 columns": {"wide", 80, `
NAME            STATUS    KEYS   NODE
cache-redis-0   ok        1000   node-a
cache-redis-1   hanging          node-b
`},
		"exactly as wide": {"table", 30, `
NAME            STATUS    KEYS
cache-redis-0   ok        1000
cache-redis-1   hanging
`},
		"one column too narrow": {"table", 29, `
NAME    cache-redis-0
STATUS  ok
KEYS    1000

NAME    cache-redis-1
STATUS  hanging
`},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, golden(c.want), draw(t, c.format, Look{Width: c.width}, instances()))
		})
	}
}

// TestTableMeasuresWhatIsSeen: colours and wide characters must not shift columns.
func TestTableMeasuresWhatIsSeen(t *testing.T) {
	table := Table{
		Columns: []Column{{Title: "A"}, {Title: "B"}},
		Rows:    [][]Cell{{{Text: "配置", Style: Bad}, T("x")}, {T("é"), T("y")}},
	}
	assert.Equal(t, golden(`
A      B
配置   x
é      y
`), draw(t, "table", Look{}, table))
	assert.Equal(t, golden("\n\x1b[2mA\x1b[0m      \x1b[2mB\x1b[0m\n\x1b[1;31m配置\x1b[0m   x\né      y\n"), draw(t, "table", Look{Color: true}, table))
}

func TestTableWithoutRows(t *testing.T) {
	table := Table{Columns: []Column{{Title: "A"}}, Empty: "Nothing here."}
	assert.Equal(t, "Nothing here.\n", draw(t, "table", Look{}, table))
	table.Empty = ""
	assert.Empty(t, draw(t, "table", Look{}, table))
}

// TestNarrow wraps what is too long at 40 columns and leaves it alone at 80.
func TestNarrow(t *testing.T) {
	fields := Fields{
		{Label: "file", Value: T("tmp/redis-backups/redis-prod/cache/x.rdb")},
		{Label: "verified", Value: Cell{Text: "structure and checksum, while streaming", Style: Good}},
	}
	list := List{{
		Mark: Cell{Text: "!", Style: Warn}, Line: []Cell{T("cache-redis-1"), T("nothing heard or acknowledged for 11s (limit 10s)")},
		Details: []string{"the primary may have been stopped, or the network is down"},
	}}
	assert.Equal(t, golden(`
file      tmp/redis-backups/redis-prod/cache/x.rdb
verified  structure and checksum, while streaming

! cache-redis-1 nothing heard or acknowledged for 11s (limit 10s)
  the primary may have been stopped, or the network is down
`), draw(t, "table", Look{Width: 80}, fields, list))
	assert.Equal(t, golden(`
file      tmp/redis-backups/redis-prod/cache/x.rdb
verified  structure and checksum, while
          streaming

! cache-redis-1 nothing heard or
  acknowledged for 11s (limit 10s)
  the primary may have been stopped, or
  the network is down
`), draw(t, "table", Look{Width: 40}, fields, list))
}

func TestTree(t *testing.T) {
	leaf := func(text string) Tree { return Tree{Label: []Cell{T(text)}} }
	tree := Tree{
		Label: []Cell{{Text: "prod/cache", Style: Strong}, T(""), {Text: "replica", Style: Dim}},
		Children: []Tree{
			{Label: []Cell{T("redis-0"), {Text: "primary", Style: Strong}}, Children: []Tree{leaf("redis-1"), leaf("redis-2")}},
			leaf("redis-3"),
		},
	}
	assert.Equal(t, golden(`
prod/cache replica
├── redis-0 primary
│   ├── redis-1
│   └── redis-2
└── redis-3
`), draw(t, "table", Look{}, tree))
	colored := draw(t, "table", Look{Color: true}, tree)
	assert.Contains(t, colored, "\x1b[1mprod/cache\x1b[0m \x1b[2mreplica\x1b[0m\n")
}

// TestStyles: every style has its look, and none without colours.
func TestStyles(t *testing.T) {
	for style, want := range map[Style]string{
		Plain: "x", Strong: "\x1b[1mx\x1b[0m", Dim: "\x1b[2mx\x1b[0m",
		Good: "\x1b[32mx\x1b[0m", Warn: "\x1b[33mx\x1b[0m", Bad: "\x1b[1;31mx\x1b[0m",
	} {
		assert.Equal(t, want+"\n", draw(t, "table", Look{Color: true}, Text{Text: "x", Style: style}))
		assert.Equal(t, "x\n", draw(t, "table", Look{}, Text{Text: "x", Style: style}))
	}
}

// TestBlocksAreSeparated: empty blocks leave no gap.
func TestBlocksAreSeparated(t *testing.T) {
	assert.Equal(t, "a\n\nb\n", draw(t, "table", Look{}, Text{Text: "a"}, Text{}, List{}, Text{Text: "b"}))
	assert.Empty(t, draw(t, "table", Look{}, Text{}))
}

type value struct {
	Name  string   `json:"name"`
	Size  int64    `json:"sizeBytes"`
	Items []string `json:"items"`
	HTML  string   `json:"html"`
}

func TestFormats(t *testing.T) {
	d := Document{
		Value:  value{Name: "cache", Size: 1 << 40, Items: []string{"a", "b"}, HTML: "<&>"},
		Names:  []string{"a", "b"},
		Blocks: []Block{Text{Text: "for people"}},
	}
	for format, want := range map[string]string{
		"":      "for people\n",
		"table": "for people\n",
		"wide":  "for people\n",
		"name":  "a\nb\n",
		"json": golden(`
{
  "name": "cache",
  "sizeBytes": 1099511627776,
  "items": [
    "a",
    "b"
  ],
  "html": "<&>"
}
`),
		"yaml":                                      "html: <&>\nitems:\n- a\n- b\nname: cache\nsizeBytes: 1099511627776\n",
		"jsonpath={.name}":                          "cache\n",
		"jsonpath=.items[1]":                        "b\n",
		"jsonpath=items[*]":                         "a b\n",
		"jsonpath={.sizeBytes}":                     "1099511627776\n",
		"jsonpath={.nosuch}":                        "\n",
		"jsonpath={range .items[*]}{@}={end}":       "a=b=\n",
		"go-template={{.name}} {{.sizeBytes}}":      "cache 1099511627776\n",
		"go-template={{.nosuch}}":                   "<no value>\n",
		"go-template={{range .items}}{{.}};{{end}}": "a;b;\n",
	} {
		t.Run(format, func(t *testing.T) {
			f, err := ParseFormat(format)
			require.NoError(t, err)
			var out bytes.Buffer
			// Colours must never reach a script.
			require.NoError(t, Printer{Out: &out, Format: f, Look: Look{Color: true}}.Print(d))
			assert.Equal(t, want, out.String())
			assert.Equal(t, strings.TrimSpace(want) == "for people", f.ForPeople())
		})
	}
}

func TestBadFormats(t *testing.T) {
	for _, text := range []string{
		"xml", "JSON", "json=x", "jsonpath", "jsonpath=", "jsonpath={.a[}", "go-template=", "go-template={{.a", "go-template={{nosuch}}",
	} {
		_, err := ParseFormat(text)
		assert.Error(t, err, text)
	}
}

// TestTemplateFailure: an expression that fails on the value is an error, not half an
// output with exit code 0.
func TestTemplateFailure(t *testing.T) {
	f, err := ParseFormat(`go-template={{index .items 7}}`)
	require.NoError(t, err)
	assert.Error(t, Printer{Out: &bytes.Buffer{}, Format: f}.Print(Document{Value: value{}}))
}

// TestWriteErrors: a full disk or a closed pipe must not look like success.
func TestWriteErrors(t *testing.T) {
	for _, format := range []string{"table", "name", "json", "yaml", "jsonpath={.name}", "go-template={{.name}}"} {
		f, err := ParseFormat(format)
		require.NoError(t, err)
		err = Printer{Out: broken{}, Format: f}.Print(Document{
			Value: value{Name: "x"}, Names: []string{"x"}, Blocks: []Block{Text{Text: "x"}},
		})
		assert.ErrorIs(t, err, errBroken, format)
	}
}

var errBroken = errors.New("broken pipe")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

// TestTreeNarrow wraps labels below themselves, and keeps the branches.
func TestTreeNarrow(t *testing.T) {
	leaf := Tree{Label: []Cell{T("redis-1"), {Text: "replica, in sync, 4 bytes behind the primary", Style: Warn}}}
	tree := Tree{
		Label:    []Cell{T("redis-prod/cache of the chart redis-18.1.2")},
		Children: []Tree{{Label: []Cell{T("redis-0"), T("primary of two replicas")}, Children: []Tree{leaf, leaf}}, leaf},
	}
	want := golden(`
redis-prod/cache of the chart
redis-18.1.2
├── redis-0 primary of two
│   replicas
│   ├── redis-1 replica, in
│   │   sync, 4 bytes behind
│   │   the primary
│   └── redis-1 replica, in
│       sync, 4 bytes behind
│       the primary
└── redis-1 replica, in sync,
    4 bytes behind the primary
`)
	assert.Equal(t, want, draw(t, "table", Look{Width: 30}, tree))
	colored := draw(t, "table", Look{Width: 30, Color: true}, tree)
	assert.Equal(t, want, regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(colored, ""))
}

// TestTableCellsAreOneLine: a text of a server must not tear a row apart.
func TestTableCellsAreOneLine(t *testing.T) {
	table := Table{Columns: []Column{{Title: "A"}, {Title: "B"}}, Rows: [][]Cell{{T("one\ntwo\n"), T("x")}, {T("\x1b[2J"), T("y")}}}
	assert.Equal(t, golden(`
A         B
one two   x
\x1b[2J   y
`), draw(t, "table", Look{}, table))
}

package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/template"

	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"
)

type formatKind int

const (
	formatTable formatKind = iota
	formatWide
	formatName
	formatJSON
	formatYAML
	formatJSONPath
	formatTemplate
)

// Format is an output format. The zero value is the table.
type Format struct {
	kind formatKind
	path *jsonpath.JSONPath
	tmpl *template.Template
}

// Formats are the accepted values of -o, for help texts and completion.
func Formats() []string {
	return []string{"table", "wide", "json", "yaml", "name", "jsonpath=", "go-template="}
}

// ParseFormat reads the value of -o. The expression of jsonpath and go-template
// is parsed here, so that a mistake is found before anything is done.
func ParseFormat(text string) (Format, error) {
	name, expression, hasExpression := strings.Cut(text, "=")
	kinds := map[string]formatKind{
		"": formatTable, "table": formatTable, "wide": formatWide, "name": formatName,
		"json": formatJSON, "yaml": formatYAML,
	}
	if kind, ok := kinds[name]; ok && !hasExpression {
		return Format{kind: kind}, nil
	}
	switch {
	case name == "jsonpath" && expression != "":
		path := jsonpath.New("output").AllowMissingKeys(true)
		if err := path.Parse(braced(expression)); err != nil {
			return Format{}, fmt.Errorf("jsonpath %q: %w", expression, err)
		}
		return Format{kind: formatJSONPath, path: path}, nil
	case name == "go-template" && expression != "":
		tmpl, err := template.New("output").Option("missingkey=zero").Parse(expression)
		if err != nil {
			return Format{}, fmt.Errorf("go-template: %w", err)
		}
		return Format{kind: formatTemplate, tmpl: tmpl}, nil
	default:
		return Format{}, fmt.Errorf("unknown output format %q: choose one of %s", text, strings.Join(Formats(), ", "))
	}
}

// ForPeople reports whether the format is read by a person, so that narration
// beside it helps.
func (f Format) ForPeople() bool { return f.kind == formatTable || f.kind == formatWide }

// braced allows `.items[0].name` and `items[0].name` as kubectl does.
func braced(expression string) string {
	if strings.Contains(expression, "{") {
		return expression
	}
	return "{." + strings.TrimPrefix(expression, ".") + "}"
}

func (f Format) encode(out io.Writer, value any, series bool) error {
	value = listed(value)
	switch f.kind {
	case formatJSON:
		encoder := json.NewEncoder(out)
		if !series {
			encoder.SetIndent("", "  ")
		}
		encoder.SetEscapeHTML(false)
		return encoder.Encode(value)
	case formatYAML:
		text, err := yaml.Marshal(value)
		if err != nil {
			return err
		}
		if series {
			text = append([]byte("---\n"), text...)
		}
		_, err = out.Write(text)
		return err
	}
	// Expressions see the JSON form: its names are the documented ones.
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var plain any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // a float64 would print 1e+09 for a byte count
	if err := decoder.Decode(&plain); err != nil {
		return err
	}
	if f.kind == formatTemplate {
		err = f.tmpl.Execute(out, plain)
	} else {
		err = f.path.Execute(out, plain)
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, "\n")
	return err
}

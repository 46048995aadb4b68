package redis

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Info is a parsed INFO reply: its sections and fields in the server's order.
// The zero value is an empty reply. Info is immutable and safe for concurrent use.
type Info struct {
	sections []Section
	index    map[string]string
}

// Section is one part of an INFO reply.
type Section struct {
	// Name is the section's heading in lower case, for example "replication".
	Name   string
	Fields []Field
}

// Field is one line of an INFO reply.
type Field struct{ Name, Value string }

// ParseInfo parses the text of an INFO reply. It accepts \r\n and \n line ends.
// Lines before the first heading go to a section without a name; a line without
// a colon is an error, because it means that the reply is not INFO's at all.
// When a field occurs twice the last one wins, as it does for redis-cli.
func ParseInfo(text string) (Info, error) {
	info := Info{index: make(map[string]string)}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, "\r")
		if line == "" {
			continue
		}
		if heading, ok := strings.CutPrefix(line, "#"); ok {
			info.sections = append(info.sections, Section{Name: strings.ToLower(strings.TrimSpace(heading))})
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return Info{}, fmt.Errorf("INFO line %d has no colon: %.60q", n+1, line)
		}
		if len(info.sections) == 0 {
			info.sections = append(info.sections, Section{})
		}
		last := &info.sections[len(info.sections)-1]
		last.Fields = append(last.Fields, Field{Name: name, Value: value})
		info.index[name] = value
	}
	return info, nil
}

// Sections returns the sections in the server's order. The caller must not
// change them.
func (i Info) Sections() []Section { return i.sections }

// Get returns a field's value, or "" when the server did not send it.
func (i Info) Get(name string) string { return i.index[name] }

// Has reports whether the server sent the field.
func (i Info) Has(name string) bool {
	_, ok := i.index[name]
	return ok
}

// Int returns a field as an integer, 0 when it is absent or not an integer.
func (i Info) Int(name string) int64 {
	n, err := strconv.ParseInt(i.index[name], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Float returns a field as a floating-point number, 0 when it is absent or none.
func (i Info) Float(name string) float64 {
	f, err := strconv.ParseFloat(i.index[name], 64)
	if err != nil {
		return 0
	}
	return f
}

// Bool reports whether a field is "1" or "yes".
func (i Info) Bool(name string) bool {
	v := i.index[name]
	return v == "1" || v == "yes"
}

// MarshalJSON writes an object of sections, each an object of fields in the
// server's order, with numbers as numbers and composite values ("keys=1,expires=0")
// as objects.
func (i Info) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for n, section := range i.sections {
		if n > 0 {
			b.WriteByte(',')
		}
		writeKey(&b, section.Name)
		writeFields(&b, section.Fields)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func writeFields(b *bytes.Buffer, fields []Field) {
	b.WriteByte('{')
	for n, f := range fields {
		if n > 0 {
			b.WriteByte(',')
		}
		writeKey(b, f.Name)
		if parts, ok := composite(f.Value); ok {
			writeFields(b, parts)
		} else {
			b.Write(scalar(f.Value))
		}
	}
	b.WriteByte('}')
}

func writeKey(b *bytes.Buffer, key string) {
	b.Write(quote(key))
	b.WriteByte(':')
}

// composite splits values such as "keys=5,expires=0,avg_ttl=0".
func composite(value string) ([]Field, bool) {
	if !strings.Contains(value, "=") || strings.ContainsAny(value, " /") {
		return nil, false
	}
	var fields []Field
	for part := range strings.SplitSeq(value, ",") {
		name, v, ok := strings.Cut(part, "=")
		if !ok || name == "" {
			return nil, false
		}
		fields = append(fields, Field{Name: name, Value: v})
	}
	return fields, true
}

// scalar returns value as a JSON number when it is written exactly as JSON would
// write it, else as a string: "00000000" (a git hash) and "7.0.15" stay text.
func scalar(value string) []byte {
	const exact = 15 // decimal digits that a float64, JavaScript's number, holds exactly
	if digits := strings.TrimPrefix(value, "-"); len(digits) > 0 && len(digits) <= exact+1 &&
		strings.Trim(digits, "0123456789.") == "" && json.Valid([]byte(value)) {
		return []byte(value)
	}
	return quote(value)
}

func quote(s string) []byte {
	// Marshalling a string cannot fail; invalid UTF-8 becomes U+FFFD.
	b, _ := json.Marshal(s)
	return b
}

// Values returns the fields of a section as MarshalJSON writes them, nil when the server
// did not send it.
func (i Info) Values(section string) map[string]any {
	for _, s := range i.sections {
		if s.Name != section {
			continue
		}
		var b bytes.Buffer
		writeFields(&b, s.Fields)
		values := make(map[string]any)
		decoder := json.NewDecoder(&b)
		decoder.UseNumber()
		if err := decoder.Decode(&values); err != nil {
			return nil // writeFields writes valid JSON
		}
		return values
	}
	return nil
}

package aof

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
	"github.com/redisctl/redisctl/internal/redis"
)

// Part is what a file of a multi-part AOF is for.
type Part string

// The parts, as the manifest calls them (AOF_FILE_TYPE_* in server.h).
const (
	// Base is the data set at one moment. There is at most one.
	Base Part = "b"
	// History is a file that a rewrite has replaced and the server will remove.
	History Part = "h"
	// Incremental holds the commands since the base, in the order of the manifest.
	Incremental Part = "i"
)

// Entry is one line of a manifest.
type Entry struct {
	// Name of the file, in the same folder as the manifest.
	Name string
	Seq  int64
	Part Part
	// line is the text it was read from, if it was.
	line string
}

// text is the line of a manifest (aofInfoFormat in aof.c).
func (e Entry) text() string {
	if e.line != "" {
		return e.line
	}
	name := e.Name
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`\"'`, r) }) {
		name = `"` + rdbdiff.Escape([]byte(name)) + `"`
	}
	return fmt.Sprintf("file %s seq %d type %s", name, e.Seq, e.Part)
}

// Manifest lists the files of a multi-part AOF in the order of loading.
type Manifest struct{ Entries []Entry }

// MaxManifestSize is the longest manifest that is accepted, in bytes. A line has
// some 60; a server makes a new file per rewrite.
const MaxManifestSize = 1 << 20

// maxManifestLine is MANIFEST_MAX_LINE of aof.c.
const maxManifestLine = 1024

// ParseManifest reads a manifest. Unknown fields are ignored, as servers do. Errors
// match ErrManifest. No name leads out of the folder.
func ParseManifest(text string) (Manifest, error) {
	var m Manifest
	fault := func(n int, format string, args ...any) (Manifest, error) {
		return Manifest{}, fmt.Errorf("%w: line %d: %s", ErrManifest, n+1, fmt.Sprintf(format, args...))
	}
	if len(text) > MaxManifestSize {
		return Manifest{}, fmt.Errorf("%w: longer than %d bytes", ErrManifest, MaxManifestSize)
	}
	if text == "" || !strings.HasSuffix(text, "\n") {
		return Manifest{}, fmt.Errorf("%w: it does not end with a complete line", ErrManifest)
	}
	bases, last := 0, int64(0)
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if len(line) >= maxManifestLine {
			return fault(n, "longer than %d bytes", maxManifestLine)
		}
		e, err := parseEntry(line)
		if err != nil {
			return fault(n, "%v", err)
		}
		switch e.Part {
		case Base:
			if bases++; bases > 1 {
				return fault(n, "a second base file")
			}
		case Incremental:
			if e.Seq <= last {
				return fault(n, "sequence number %d after %d", e.Seq, last)
			}
			last = e.Seq
		}
		m.Entries = append(m.Entries, e)
	}
	if len(m.Entries) == 0 {
		return Manifest{}, fmt.Errorf("%w: it names no file", ErrManifest)
	}
	return m, nil
}

func parseEntry(line string) (Entry, error) {
	words, err := redis.SplitArgs(line)
	if err != nil {
		return Entry{}, err
	}
	if len(words)%2 != 0 {
		return Entry{}, fmt.Errorf("%d words", len(words))
	}
	e := Entry{line: line}
	for i := 0; i < len(words); i += 2 {
		switch value := words[i+1]; strings.ToLower(words[i]) {
		case "file":
			if !baseName(value) {
				return Entry{}, fmt.Errorf("a file named %.64q", value)
			}
			e.Name = value
		case "seq":
			if e.Seq, err = strconv.ParseInt(value, 10, 64); err != nil {
				return Entry{}, fmt.Errorf("sequence number %.64q", value)
			}
		case "type":
			e.Part = Part(value)
		}
	}
	switch {
	case e.Name == "" || e.Seq <= 0:
		return Entry{}, errors.New("it needs file, seq and type")
	case e.Part != Base && e.Part != History && e.Part != Incremental:
		return Entry{}, fmt.Errorf("type %.64q", string(e.Part))
	}
	return e, nil
}

// baseName reports whether name stays in its folder, on every system.
func baseName(name string) bool {
	return name != "" && name != "." && name != ".." && path.Base(name) == name && !strings.ContainsAny(name, "\\:\x00")
}

// Live returns the files that make up the data set: all but the history, in the
// order of loading.
func (m Manifest) Live() []Entry {
	var live []Entry
	for _, part := range []Part{Base, Incremental} {
		for _, e := range m.Entries {
			if e.Part == part {
				live = append(live, e)
			}
		}
	}
	return live
}

// Text is a manifest of the live files only: what a server needs to load them.
func (m Manifest) Text() string {
	var b strings.Builder
	for _, e := range m.Live() {
		b.WriteString(e.text())
		b.WriteByte('\n')
	}
	return b.String()
}

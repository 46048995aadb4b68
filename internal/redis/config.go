package redis

import (
	"errors"
	"fmt"
	"strings"
)

// Config is a parsed redis.conf: the directives in file order. The zero value
// is an empty file.
type Config struct {
	directives []Directive
}

// Directive is one line of a redis.conf: a lower-case name and its unquoted
// arguments.
type Directive struct {
	Name string
	Args []string
}

// ParseConfig parses a redis.conf. Lines are split as the server splits them:
// at spaces, with "double" quotes that know escapes and 'single' quotes that know
// only \'. An include is kept as a directive, not followed. The error names the
// line.
func ParseConfig(text string) (Config, error) {
	var c Config
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words, err := SplitArgs(line)
		if err != nil {
			// The line may hold a password: name the directive only.
			name, _, _ := strings.Cut(line, " ")
			return Config{}, fmt.Errorf("redis.conf line %d (%s): %w", n+1, name, err)
		}
		c.directives = append(c.directives, Directive{Name: strings.ToLower(words[0]), Args: words[1:]})
	}
	return c, nil
}

// Directives returns the directives in file order. The caller must not change them.
func (c Config) Directives() []Directive { return c.directives }

// Get returns the arguments of the last directive with this name, which is the
// one that counts, joined by spaces as CONFIG GET shows them.
func (c Config) Get(name string) (string, bool) {
	for i := len(c.directives) - 1; i >= 0; i-- {
		if c.directives[i].Name == name {
			return strings.Join(c.directives[i].Args, " "), true
		}
	}
	return "", false
}

// HasSavePoints reports whether the server saves an RDB by itself, also on
// SIGTERM. Without any save directive the server uses its defaults; `save ""`
// turns saving off and clears what was given before.
func (c Config) HasSavePoints() bool {
	on := true
	for _, d := range c.directives {
		if d.Name == "save" {
			on = len(d.Args) > 0 && d.Args[0] != ""
		}
	}
	return on
}

// Renames returns the commands that rename-command changed.
func (c Config) Renames() Renames {
	var r Renames
	for _, d := range c.directives {
		if d.Name == "rename-command" && len(d.Args) == 2 {
			if r == nil {
				r = make(Renames)
			}
			r[strings.ToUpper(d.Args[0])] = d.Args[1]
		}
	}
	return r
}

// Renames maps commands (upper case) to the names they were given; "" means that
// the command was disabled. The nil map renames nothing.
type Renames map[string]string

// Lookup returns the name under which the server knows command, and whether it
// is disabled. Commands that were not renamed are returned as given.
func (r Renames) Lookup(command string) (name string, disabled bool) {
	renamed, ok := r[strings.ToUpper(command)]
	if !ok {
		return command, false
	}
	return renamed, renamed == ""
}

// SplitArgs splits a line into words like sdssplitargs (sds.c), which reads
// redis.conf and the manifests of append-only files. The error does not quote the line.
func SplitArgs(line string) ([]string, error) {
	var args []string
	for i := 0; i < len(line); {
		if isSpace(line[i]) {
			i++
			continue
		}
		word, next, err := scanWord(line, i)
		if err != nil {
			return nil, err
		}
		args, i = append(args, word), next
	}
	return args, nil
}

// scanWord reads the word that starts at line[i] and returns it with the index
// behind it.
func scanWord(line string, i int) (string, int, error) {
	var word strings.Builder
	for i < len(line) && !isSpace(line[i]) {
		quoted := line[i]
		if quoted != '"' && quoted != '\'' {
			word.WriteByte(line[i])
			i++
			continue
		}
		end, err := scanQuoted(&word, line, i+1, quoted)
		if err != nil {
			return "", 0, err
		}
		if end < len(line) && !isSpace(line[end]) {
			return "", 0, errors.New("a closing quote must be followed by a space")
		}
		i = end
	}
	return word.String(), i, nil
}

// scanQuoted appends the text up to the closing quote to word and returns the
// index behind the quote.
func scanQuoted(word *strings.Builder, line string, i int, quote byte) (int, error) {
	for ; i < len(line); i++ {
		switch c := line[i]; {
		case c == quote:
			return i + 1, nil
		case c == '\\' && quote == '\'' && i+1 < len(line) && line[i+1] == '\'':
			i++
			word.WriteByte('\'')
		case c == '\\' && quote == '"' && i+3 < len(line) && line[i+1] == 'x' && isHex(line[i+2]) && isHex(line[i+3]):
			word.WriteByte(hexValue(line[i+2])<<4 | hexValue(line[i+3]))
			i += 3
		case c == '\\' && quote == '"' && i+1 < len(line):
			i++
			word.WriteByte(unescape(line[i]))
		default:
			word.WriteByte(c)
		}
	}
	return 0, errors.New("unbalanced quotes")
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	default:
		return c
	}
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func hexValue(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}

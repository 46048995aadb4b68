package rdbdiff

import "fmt"

// Escape returns a key as redis-cli prints it, without the quotes around it: what
// is not printable ASCII becomes an escape, and so do quotes and backslashes
// (sdscatrepr in Redis's sds.c). Different keys have different results.
func Escape(key []byte) string {
	out := make([]byte, 0, len(key))
	for _, c := range key {
		switch c {
		case '\\', '"':
			out = append(out, '\\', c)
		case '\n':
			out = append(out, `\n`...)
		case '\r':
			out = append(out, `\r`...)
		case '\t':
			out = append(out, `\t`...)
		case '\a':
			out = append(out, `\a`...)
		case '\b':
			out = append(out, `\b`...)
		default:
			if c >= ' ' && c <= '~' {
				out = append(out, c)
			} else {
				out = fmt.Appendf(out, `\x%02x`, c)
			}
		}
	}
	return string(out)
}

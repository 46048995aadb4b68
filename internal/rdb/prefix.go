package rdb

import "bytes"

// KeyPrefix returns the part of a key up to and including the delimiter of the given
// number, or the last one when there are fewer.
func KeyPrefix(key []byte, delimiter string, depth int) []byte {
	end := 0
	for range depth {
		i := bytes.Index(key[end:], []byte(delimiter))
		if i < 0 {
			break
		}
		end += i + len(delimiter)
	}
	return key[:end]
}

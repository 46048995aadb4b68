package redis

// MatchGlob reports whether a key matches a pattern, as KEYS and SCAN MATCH understand
// it (stringmatchlen in util.c): * and ? match any bytes, also "/", [a-z] and [^a] match
// one byte of a class, and \ takes the meaning from what follows.
func MatchGlob(pattern string, key []byte) bool {
	// Where the last * was, and the key then: to come back to when the rest does not match.
	star, from := -1, 0
	p, k := 0, 0
	for k < len(key) {
		if p < len(pattern) && pattern[p] == '*' {
			star, from = p, k
			p++
			continue
		}
		if next, ok := matchByte(pattern, p, key[k]); ok {
			p = next
			k++
			continue
		}
		if star < 0 {
			return false
		}
		from++
		p, k = star+1, from
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchByte matches one byte with what stands in the pattern at p, and returns what
// follows that.
func matchByte(pattern string, p int, c byte) (next int, ok bool) {
	if p == len(pattern) {
		return p, false
	}
	switch pattern[p] {
	case '?':
		return p + 1, true
	case '[':
		return matchClass(pattern, p+1, c)
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
	}
	return p + 1, pattern[p] == c
}

// matchClass matches one byte with a class, whose first byte is at p. A class that does
// not end ends with the pattern.
func matchClass(pattern string, p int, c byte) (next int, ok bool) {
	inverted := p < len(pattern) && pattern[p] == '^'
	if inverted {
		p++
	}
	for ; p < len(pattern) && pattern[p] != ']'; p++ {
		switch {
		case pattern[p] == '\\' && p+1 < len(pattern):
			p++
			ok = ok || pattern[p] == c
		case p+2 < len(pattern) && pattern[p+1] == '-':
			low, high := pattern[p], pattern[p+2]
			if low > high {
				low, high = high, low
			}
			p += 2
			ok = ok || low <= c && c <= high
		default:
			ok = ok || pattern[p] == c
		}
	}
	return min(p+1, len(pattern)), ok != inverted
}

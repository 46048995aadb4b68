package redis

import (
	"fmt"
	"strings"
)

// ParseProgramVersion reads what a server's program prints with --version:
// "Redis server v=7.0.15 sha=…", "Valkey server v=8.1.1 …", or "Server v=7.2.5 …" (Valkey
// before 8.0).
func ParseProgramVersion(text string) (Version, error) {
	before, after, found := strings.Cut(text, "erver v=")
	number, _, _ := strings.Cut(after, " ")
	if !found {
		return Version{}, fmt.Errorf("this is no Redis server: it says %.60q", text)
	}
	product := "valkey"
	if strings.HasPrefix(before, "Redis") {
		product = "redis"
	}
	return ParseVersion(product, number)
}

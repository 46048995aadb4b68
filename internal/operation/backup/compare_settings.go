package backup

import "github.com/redisctl/redisctl/internal/redis"

// SameSetting reports whether two values of a setting mean the same: "1gb" and
// "1073741824", "YES" and "yes".
func SameSetting(a, b string) bool { return normal(a) == normal(b) }

// WantedSetting returns what a redis.conf asks for, in the form of CONFIG GET. exact
// is false for the settings whose running form differs from what is written.
func WantedSetting(c redis.Config, name string) (value string, given, exact bool) {
	value, given = c.Get(name)
	if name == "save" {
		value = savePoints(c)
	}
	return value, given, isComparable(name)
}

// QuoteSetting writes an argument of redis.conf so that it is read back as it is.
func QuoteSetting(arg string) string { return quote(arg) }

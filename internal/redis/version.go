package redis

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Version is a server's product and version. It is for people and for data
// formats; whether a server has a command is asked of the server (COMMAND INFO),
// because Valkey also reports a Redis version.
type Version struct {
	Product             string // "redis" or "valkey"
	Major, Minor, Patch int
}

// ParseVersion parses "7.0.15"; missing parts are 0 and a suffix such as
// "-rc1" is ignored.
func ParseVersion(product, text string) (Version, error) {
	v := Version{Product: product}
	number, _, _ := strings.Cut(text, "-")
	parts := strings.Split(number, ".")
	targets := []*int{&v.Major, &v.Minor, &v.Patch}
	if number == "" || len(parts) > len(targets) {
		return Version{}, fmt.Errorf("cannot read the server's version %q", text)
	}
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil {
			return Version{}, fmt.Errorf("cannot read the server's version %q", text)
		}
		*targets[i] = n
	}
	return v, nil
}

// String returns "redis 7.0.15".
func (v Version) String() string { return v.Product + " " + v.Number() }

// Number returns "7.0.15".
func (v Version) Number() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// MarshalText makes a Version appear as "redis 7.0.15" in JSON.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *Version) UnmarshalText(text []byte) error {
	product, number, ok := strings.Cut(string(text), " ")
	if !ok {
		return fmt.Errorf("cannot read the version %q", text)
	}
	parsed, err := ParseVersion(product, number)
	if err != nil {
		return err
	}
	*v = parsed
	return nil
}

// Compare orders versions of one product by number; of different products it
// orders by the product's name, which means nothing but is stable.
func (v Version) Compare(o Version) int {
	return cmp.Or(
		cmp.Compare(v.Product, o.Product),
		cmp.Compare(v.Major, o.Major),
		cmp.Compare(v.Minor, o.Minor),
		cmp.Compare(v.Patch, o.Patch),
	)
}

// RDBVersion returns the newest version of the RDB format that servers of version v
// are known to read: they refuse files and RESTORE payloads of newer ones. Valkey
// counts like Redis 7.2 and begins a count of its own with 9.0 (RDB_VERSION in rdb.h
// of the releases). A product or version that is not known is taken for the oldest.
func (v Version) RDBVersion() int {
	type release struct{ major, minor, rdb int }
	known := []release{{7, 4, 12}, {7, 2, 11}, {7, 0, 10}, {5, 0, 9}, {4, 0, 8}, {3, 2, 7}}
	if v.Product == "valkey" {
		known = []release{{9, 0, 80}, {7, 2, 11}}
	}
	for _, r := range known {
		if v.Compare(Version{Product: v.Product, Major: r.major, Minor: r.minor}) >= 0 {
			return r.rdb
		}
	}
	return 6
}

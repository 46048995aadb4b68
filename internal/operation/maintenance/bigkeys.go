package maintenance

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
)

// BigKeysOptions say what is looked for.
type BigKeysOptions struct {
	// ScanOptions.DB is below 0 for all databases.
	ScanOptions
	// Top is how many keys are listed.
	Top int
	// Samples is how many elements of a value MEMORY USAGE looks at; 0 for all.
	Samples int
}

// BigKeys is what takes the space of a running server.
type BigKeys struct {
	Named
	// Complete is false when the walk was interrupted: what was seen until then counts.
	Complete bool `json:"complete"`
	// Sized is false when the server does not tell sizes (MEMORY is disabled or not
	// allowed): then Top is ordered by elements.
	Sized bool  `json:"sized"`
	Keys  int64 `json:"keys"`
	Bytes int64 `json:"bytes"`
	// Expected is how many keys the server said it had when the walk began.
	Expected int64     `json:"expected"`
	Types    []TypeUse `json:"types"`
	Top      []BigKey  `json:"top"`
}

// TypeUse is what the keys of one type take.
type TypeUse struct {
	Type  string `json:"type"`
	Keys  int64  `json:"keys"`
	Bytes int64  `json:"bytes"`
	// Elements of collections, or bytes of strings.
	Elements int64 `json:"elements"`
	// Biggest by size (by elements where there are no sizes), and Longest by elements.
	Biggest BigKey `json:"biggest"`
	Longest BigKey `json:"longest"`
}

// BigKey is one key and what it takes.
type BigKey struct {
	DB int `json:"db"`
	// Name is the key, escaped where it is not printable.
	Name string `json:"key"`
	Type string `json:"type"`
	// Bytes is what MEMORY USAGE answers: an estimate from samples for collections.
	Bytes int64 `json:"bytes"`
	// Elements of a collection, or bytes of a string; -1 for types that do not tell.
	Elements int64 `json:"elements"`

	raw string
}

// BigKeys walks through the keys and adds up what they take. When ctx ends, it returns
// what was seen so far together with the error.
func (m Maintenance) BigKeys(
	ctx context.Context, d *operation.Deployment, i operation.Instance, o BigKeysOptions,
) (BigKeys, error) {
	f := finder{m: m, options: o, types: make(map[string]*TypeUse), found: BigKeys{Named: named(d, i.Name), Sized: true}}
	dbs, err := f.databases(ctx, d, i)
	if err != nil {
		return f.found, err
	}
	for _, db := range dbs {
		if err = f.walk(ctx, d, i, db); err != nil {
			break
		}
	}
	f.found.Complete = err == nil
	return f.result(), err
}

// finder adds up what keys take.
type finder struct {
	m       Maintenance
	options BigKeysOptions
	types   map[string]*TypeUse
	found   BigKeys
	top     []BigKey
}

// databases returns those to walk through, and counts their keys.
func (f *finder) databases(ctx context.Context, d *operation.Deployment, i operation.Instance) ([]int, error) {
	server, err := f.m.Connector.Connect(ctx, d, i)
	if err != nil {
		return nil, err
	}
	defer func() { _ = server.Close() }() // the answer is here
	info, err := server.Info(ctx, "keyspace")
	if err != nil {
		return nil, err
	}
	var dbs []int
	for _, db := range info.Keyspace() {
		if f.options.DB < 0 || f.options.DB == db.DB {
			dbs = append(dbs, db.DB)
			f.found.Expected += db.Keys
		}
	}
	return dbs, nil
}

func (f *finder) walk(ctx context.Context, d *operation.Deployment, i operation.Instance, db int) error {
	s, err := f.m.Sessions.OpenSession(ctx, d, i, db)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // all replies are here
	w := walk{session: s, timeout: f.m.Timeout, options: f.options.ScanOptions}
	for !w.done {
		names, err := w.next(ctx)
		if err != nil {
			return err
		}
		if err := f.measure(ctx, &w, db, names); err != nil {
			return err
		}
		f.m.Reporter.Progress(operation.Progress{Done: f.found.Keys, Total: f.total(), Unit: "keys"})
		if err := w.rest(ctx); err != nil {
			return err
		}
	}
	return nil
}

// total is how many keys are to come, 0 when a choice among them is made.
func (f *finder) total() int64 {
	if f.options.Type != "" || f.options.Match != "" {
		return 0
	}
	return max(f.found.Expected, f.found.Keys)
}

// measure asks for the types, sizes and lengths of keys. The types come first: each has
// its own command for the length.
func (f *finder) measure(ctx context.Context, w *walk, db int, names []string) error {
	o := KeysOptions{WithType: true, Size: f.found.Sized, Samples: f.options.Samples}
	keys, err := w.describe(ctx, names, o)
	if f.found.Sized && hidesSizes(err) {
		f.m.Reporter.Warn("the server does not tell sizes (%v): keys are compared by their elements", err)
		f.found.Sized, o.Size = false, false
		keys, err = w.describe(ctx, names, o)
	}
	if err != nil {
		return err
	}
	var commands []Command
	var asked []int
	for n, k := range keys {
		if name := lengthCommand(k.Type); name != "" {
			commands, asked = append(commands, Command{name, k.Key}), append(asked, n)
		}
	}
	replies, err := w.ask(ctx, commands...)
	if err != nil {
		return err
	}
	for n, reply := range replies {
		if reply.Kind == Integer { // else the key has become another type meanwhile
			keys[asked[n]].Elements = reply.Int
		}
	}
	for _, k := range keys {
		f.add(BigKey{DB: db, Type: k.Type, Bytes: max(0, k.Size), Elements: k.Elements, raw: k.Key})
	}
	return nil
}

// lengthCommand answers how many elements a value of a type has, in constant time.
func lengthCommand(typ string) string {
	switch typ {
	case "string":
		return "STRLEN"
	case "list":
		return "LLEN"
	case "set":
		return "SCARD"
	case "zset":
		return "ZCARD"
	case "hash":
		return "HLEN"
	case "stream":
		return "XLEN"
	default:
		return ""
	}
}

func (f *finder) add(k BigKey) {
	f.found.Keys++
	f.found.Bytes += k.Bytes
	t := f.types[k.Type]
	if t == nil {
		t = &TypeUse{Type: k.Type, Biggest: k, Longest: k}
		f.types[k.Type] = t
	}
	t.Keys++
	t.Bytes += k.Bytes
	t.Elements += max(0, k.Elements)
	if bigger(k, t.Biggest) < 0 {
		t.Biggest = k
	}
	if k.Elements > t.Longest.Elements {
		t.Longest = k
	}
	if f.options.Top == 0 || len(f.top) == f.options.Top && bigger(k, f.top[len(f.top)-1]) >= 0 {
		return
	}
	at, _ := slices.BinarySearchFunc(f.top, k, bigger)
	f.top = slices.Insert(f.top, at, k)
	f.top = f.top[:min(len(f.top), f.options.Top)]
}

// bigger orders keys, the biggest first.
func bigger(a, b BigKey) int {
	return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Elements, a.Elements), cmp.Compare(a.DB, b.DB), cmp.Compare(a.raw, b.raw))
}

// result puts the findings in order.
func (f *finder) result() BigKeys {
	for _, t := range f.types {
		t.Biggest.Name, t.Longest.Name = rdbdiff.Escape([]byte(t.Biggest.raw)), rdbdiff.Escape([]byte(t.Longest.raw))
		f.found.Types = append(f.found.Types, *t)
	}
	slices.SortFunc(f.found.Types, func(a, b TypeUse) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Keys, a.Keys), cmp.Compare(a.Type, b.Type))
	})
	for _, k := range f.top {
		k.Name = rdbdiff.Escape([]byte(k.raw))
		f.found.Top = append(f.found.Top, k)
	}
	return f.found
}

// Title names a key for people: with its database unless that is 0.
func (k BigKey) Title() string {
	if k.DB == 0 {
		return k.Name
	}
	return "db" + strconv.Itoa(k.DB) + " " + k.Name
}

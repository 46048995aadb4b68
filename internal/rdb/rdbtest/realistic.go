package rdbtest

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// Realistic writes keys that look like those of a web application until the
// file has the given size in bytes: sessions and cached documents (JSON, mostly
// compressible), tokens (not compressible), counters, user profiles, queues,
// tag sets, leaderboards and an event stream, about a third of them with an
// expiry time. The same seed gives the same file. It begins a database.
//
// With a header older than Redis72, collections are written in the forms that
// every server since Redis 5 loads.
func Realistic(w *Writer, seed uint64, size int64) {
	g := generator{w: w, rng: rand.New(rand.NewPCG(seed, 1)), old: w.version < 11}
	w.Aux("redis-ver", "7.2.4").Aux("redis-bits", "64").Aux("ctime", "1760000000").SelectDB(0)
	end := w.Size() + size
	for n := 0; w.Size() < end; n++ {
		g.key(n)
	}
}

type generator struct {
	w   *Writer
	rng *rand.Rand
	old bool
}

func (g *generator) key(n int) {
	const farFuture = 4_000_000_000_000 // in 2096: servers that load the file drop nothing
	if g.rng.IntN(3) == 0 {
		g.w.ExpireAt(farFuture + g.rng.Int64N(30*24*3600*1000))
	}
	id := strconv.Itoa(1_000_000 + n)
	switch p := g.rng.IntN(100); {
	case p < 30:
		g.w.String("session:"+g.token(16), g.document(2+g.rng.IntN(6)))
	case p < 45:
		g.w.String("cache:api:v2:/products/"+id, g.document(5+g.rng.IntN(30)))
	case p < 55:
		g.w.String("token:"+id, g.token(64+g.rng.IntN(400)))
	case p < 65:
		g.w.String("counter:page:"+id, strconv.Itoa(g.rng.IntN(1_000_000)))
	case p < 85:
		g.profile("user:" + id)
	case p < 90:
		g.list("queue:mail:" + id)
	case p < 95:
		g.set("tags:product:" + id)
	case p < 98:
		g.leaderboard("leaderboard:" + id)
	default:
		g.stream("events:" + id)
	}
}

// token returns random text as of keys and signatures.
func (g *generator) token(bytes int) string {
	b := make([]byte, 0, bytes+8)
	for len(b) < bytes {
		b = binary.LittleEndian.AppendUint64(b, g.rng.Uint64())
	}
	return base64.RawURLEncoding.EncodeToString(b[:bytes])
}

// word returns two to four syllables.
func (g *generator) word() string {
	const consonants, vowels = "bdklmnrst", "aeio"
	var b [8]byte
	n := 0
	for range 2 + g.rng.IntN(3) {
		b[n], b[n+1] = consonants[g.rng.IntN(len(consonants))], vowels[g.rng.IntN(len(vowels))]
		n += 2
	}
	return string(b[:n])
}

// document returns JSON of about 100 bytes an item.
func (g *generator) document(items int) string {
	b := fmt.Appendf(make([]byte, 0, 64+128*items), `{"id":%d,"owner":%q,"items":[`, g.rng.Uint32(), g.word())
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"sku":"%08x","title":"%s %s %s","price":%d.%02d,"quantity":%d,"available":%t}`,
			g.rng.Uint32(), g.word(), g.word(), g.word(), g.rng.IntN(1000), g.rng.IntN(100), g.rng.IntN(20), g.rng.IntN(2) == 0)
	}
	return string(append(b, ']', '}'))
}

func (g *generator) profile(key string) {
	name := g.word()
	fields := []string{
		"name", name + " " + g.word(), "email", name + "@example.com", "created", strconv.Itoa(1_600_000_000 + g.rng.IntN(1e8)),
		"logins", strconv.Itoa(g.rng.IntN(5000)), "plan", "standard", "locale", "en_GB", "hash", g.token(24),
	}
	fields = fields[:2*(4+g.rng.IntN(4))]
	if g.old {
		g.w.Hash(key, fields...)
		return
	}
	g.w.Value(16, key, AppendString(nil, string(Listpack(fields...))))
}

func (g *generator) list(key string) {
	nodes := 1 + g.rng.IntN(5)
	b := AppendLength(nil, uint64(nodes))
	var all []string
	for range nodes {
		var elements []string
		for size := 0; size < 8000; {
			e := g.document(1)
			elements = append(elements, e)
			size += len(e)
		}
		if g.old {
			all = append(all, elements...)
		} else {
			b = AppendString(AppendLength(b, 2), string(Listpack(elements...)))
		}
	}
	if g.old {
		g.w.List(key, all...)
		return
	}
	g.w.Value(18, key, b)
}

func (g *generator) set(key string) {
	n := 3 + g.rng.IntN(300)
	members := make([]string, n)
	for i := range members {
		members[i] = g.word() + "-" + strconv.Itoa(i)
	}
	if n <= 128 && !g.old {
		g.w.Value(20, key, AppendString(nil, string(Listpack(members...))))
		return
	}
	g.w.Set(key, members...)
}

func (g *generator) leaderboard(key string) {
	members := make([]Member, 150+g.rng.IntN(1500))
	for i := range members {
		members[i] = Member{"player:" + strconv.Itoa(i*60_000+g.rng.IntN(60_000)), float64(g.rng.IntN(1e6)) / 10}
	}
	g.w.SortedSet(key, members...)
}

// stream writes nodes of 100 entries with the same three fields, without
// consumer groups.
func (g *generator) stream(key string) {
	const perNode = 100
	nodes := 1 + g.rng.IntN(4)
	ms := uint64(1_750_000_000_000)
	b := AppendLength(nil, uint64(nodes))
	for range nodes {
		id := binary.BigEndian.AppendUint64(nil, ms)
		b = AppendRawString(b, string(append(id, make([]byte, 8)...)))
		// The first entry is a template: count, deleted, fields and a zero; the
		// others have flags 2 (same fields), the distance in ID, the values and
		// how many elements to go back.
		elements := make([]string, 0, 7+7*perNode)
		elements = append(elements, strconv.Itoa(perNode), "0", "3", "kind", "user", "payload", "0")
		for i := range perNode {
			elements = append(elements, "2", strconv.Itoa(i*250), "0", "click", strconv.Itoa(g.rng.IntN(1e6)), g.word()+" "+g.word(), "6")
		}
		b = AppendString(b, string(Listpack(elements...)))
		ms += perNode * 250
	}
	b = AppendLength(b, uint64(nodes*perNode))
	kind, rest := byte(21), []uint64{ms - 250, 0, 1_750_000_000_000, 0, 0, 0, uint64(nodes * perNode), 0}
	if g.old { // the last ID and the number of groups
		kind, rest = 15, []uint64{ms - 250, 0, 0}
	}
	for _, n := range rest {
		b = AppendLength(b, n)
	}
	g.w.Value(kind, key, b)
}

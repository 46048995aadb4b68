package rdb

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
)

// CommandOptions say which value Commands is given, and for whom the commands are.
type CommandOptions struct {
	// Key is the name that the value is to have. No key of that name may be there.
	Key []byte
	// RDBType is Entry.RDBType, Origin Summary.Origin.
	RDBType byte
	Origin  Origin
	// Target is the newest RDB version of the server: before 10, streams lose the count of
	// entries ever added, which such servers do not keep.
	Target int
}

// Limits of one command of Commands. Elements are never divided, but for those of strings.
const (
	commandElements = 64 // as in Redis's AOF_REWRITE_ITEMS_PER_CMD
	commandBytes    = 256 << 10
)

// Commands reads a serialized value and turns it into the commands that make it, for
// values that are too large for RESTORE: APPEND, RPUSH, SADD, HSET, ZADD, XADD and what
// belongs to them, as a server writes them when it rewrites its append-only file. The
// words given to emit are valid during the call only. An error of emit is returned as it
// is; one matching ErrUnsupported says that no commands make the value, because its type
// is that of a module.
//
// Memory is needed for a few elements, for a packed collection as a whole, and for the
// pending entries of one consumer group at a time.
func Commands(ctx context.Context, r io.Reader, o CommandOptions, emit func(words ...[]byte) error) error {
	c := &commander{
		in:      input{ctx: ctx, src: r, buf: make([]byte, DefaultWindow), unsummed: true, section: "value"},
		options: o, emit: emit,
	}
	return c.value(o.RDBType)
}

// Rebuildable reports whether Commands knows a type byte of files of the given origin.
func Rebuildable(rdbType byte) bool { return rdbType != rdbModule1 && rdbType != rdbModule2 }

// Expressible reports whether a server that reads RDB up to version target takes the
// commands for values of a type byte, although it may not know that form of them. Expiry
// times of hash fields need RDB version 12 (HPEXPIREAT).
func Expressible(rdbType byte, target int) bool {
	switch rdbType {
	case rdbHashTTL, rdbHashTTLPreGA, rdbHashListpackEx, rdbHashLpExPreGA:
		const withFieldExpiry = 12
		return target >= withFieldExpiry
	default:
		return Rebuildable(rdbType)
	}
}

// commander collects the elements of a value into commands.
type commander struct {
	in      input
	options CommandOptions
	emit    func(words ...[]byte) error

	arena []byte // the words that were collected, and where each ends
	ends  []int
	words [][]byte
	// expiries are of fields whose HSET has not been sent yet.
	expiries []fieldExpiry
}

type fieldExpiry struct {
	field []byte
	ms    uint64
}

func (c *commander) value(op byte) error {
	switch op {
	case rdbString:
		return c.text()
	case rdbList:
		return c.collection("RPUSH", 1)
	case rdbSet:
		return c.collection("SADD", 1)
	case rdbHash:
		return c.collection("HSET", 2)
	case rdbZset, rdbZset2:
		return c.sortedSet(op)
	case rdbHashTTL, rdbHashTTLPreGA:
		return c.hashWithTTL(op)
	case rdbHashZipmap:
		return c.packedCollection("HSET", &zipmap, 2)
	case rdbListZiplist:
		return c.packedCollection("RPUSH", &ziplist, 1)
	case rdbHashZiplist:
		return c.packedCollection("HSET", &ziplist, 2)
	case rdbZsetZiplist:
		return c.packedCollection("ZADD", &ziplist, 2)
	case rdbSetIntset:
		return c.packedCollection("SADD", &intset, 1)
	case rdbSetListpack:
		return c.packedCollection("SADD", &listpack, 1)
	case rdbHashListpack:
		return c.packedCollection("HSET", &listpack, 2)
	case rdbZsetListpack:
		return c.packedCollection("ZADD", &listpack, 2)
	case rdbHashListpackEx:
		if err := c.in.skip(8); err != nil { // the earliest expiry of a field
			return err
		}
		return c.packedCollection("HSET", &listpack, 3)
	case rdbHashLpExPreGA:
		return c.packedCollection("HSET", &listpack, 3)
	case rdbQuicklist, rdbQuicklist2:
		return c.quicklist(op)
	case rdbStream, rdbStream2, rdbStream3:
		return c.stream(op)
	default:
		return c.in.fail(ErrUnsupported, "no commands make a value of type %d", op)
	}
}

// command sends a command about the key.
func (c *commander) command(name string, words ...[]byte) error {
	c.words = append(append(c.words[:0], []byte(name), c.options.Key), words...)
	return c.emit(c.words...)
}

// text sends a string piece by piece.
func (c *commander) text() error {
	head, err := c.in.stringHead()
	if err != nil {
		return err
	}
	if head.form == formInt {
		n, err := c.in.integer(head)
		if err != nil {
			return err
		}
		return c.command("APPEND", strconv.AppendInt(nil, n, 10))
	}
	piece := make([]byte, 0, commandBytes)
	var failed error
	flush := func() {
		if failed == nil && len(piece) > 0 {
			failed = c.command("APPEND", piece)
		}
		piece = piece[:0]
	}
	err = c.body(head, func(b []byte) {
		for len(b) > 0 && failed == nil {
			n := min(len(b), cap(piece)-len(piece))
			piece = append(piece, b[:n]...)
			b = b[n:]
			if len(piece) == cap(piece) {
				flush()
			}
		}
	})
	flush()
	if failed != nil {
		return failed
	}
	return err
}

// body passes the bytes of a string that is no integer to sink.
func (c *commander) body(head stringHead, sink func([]byte)) error {
	if head.form == formRaw {
		return c.in.chunks(head.stored, sink)
	}
	return c.in.lzfStream(head, sink)
}

// word collects a string.
func (c *commander) word() error {
	head, err := c.in.stringHead()
	if err != nil {
		return err
	}
	if head.form == formInt {
		n, err := c.in.integer(head)
		c.arena = strconv.AppendInt(c.arena, n, 10)
		c.ends = append(c.ends, len(c.arena))
		return err
	}
	err = c.body(head, func(b []byte) { c.arena = append(c.arena, b...) })
	c.ends = append(c.ends, len(c.arena))
	return err
}

func (c *commander) add(b []byte) {
	c.arena = append(c.arena, b...)
	c.ends = append(c.ends, len(c.arena))
}

// swap exchanges the last two words: sorted sets are stored the other way round than
// ZADD takes them.
func (c *commander) swap() {
	n := len(c.ends)
	from := 0
	if n > 2 {
		from = c.ends[n-3]
	}
	first, second := bytes.Clone(c.arena[from:c.ends[n-2]]), bytes.Clone(c.arena[c.ends[n-2]:])
	c.arena = append(append(c.arena[:from], second...), first...)
	c.ends[n-2] = from + len(second)
}

// collected sends the command if it is full.
func (c *commander) collected(name string, per int) error {
	if len(c.ends) < commandElements*per && len(c.arena) < commandBytes {
		return nil
	}
	return c.flush(name)
}

// flush sends what was collected.
func (c *commander) flush(name string) error {
	if len(c.ends) == 0 {
		return nil
	}
	c.words = append(c.words[:0], []byte(name), c.options.Key)
	from := 0
	for _, end := range c.ends {
		c.words = append(c.words, c.arena[from:end])
		from = end
	}
	err := c.emit(c.words...)
	c.arena, c.ends = c.arena[:0], c.ends[:0]
	for _, e := range c.expiries {
		if err == nil {
			err = c.command("HPEXPIREAT", strconv.AppendUint(nil, e.ms, 10), []byte("FIELDS"), []byte("1"), e.field)
		}
	}
	c.expiries = c.expiries[:0]
	return err
}

// times calls f as often as the count says that comes next.
func (c *commander) times(f func() error) error {
	n, err := c.in.length()
	for i := uint64(0); err == nil && i < n; i++ {
		err = f()
	}
	return err
}

// collection reads elements of as many strings each.
func (c *commander) collection(name string, per int) error {
	err := c.times(func() error {
		for range per {
			if err := c.word(); err != nil {
				return err
			}
		}
		return c.collected(name, per)
	})
	if err != nil {
		return err
	}
	return c.flush(name)
}

func (c *commander) sortedSet(op byte) error {
	err := c.times(func() error {
		if err := c.word(); err != nil {
			return err
		}
		score, err := c.score(op)
		if err != nil {
			return err
		}
		c.add(score)
		c.swap()
		return c.collected("ZADD", 2)
	})
	if err != nil {
		return err
	}
	return c.flush("ZADD")
}

// score returns a score as ZADD takes it.
func (c *commander) score(op byte) ([]byte, error) {
	if op == rdbZset2 {
		bits, err := c.in.uint64()
		return strconv.AppendFloat(nil, math.Float64frombits(bits), 'g', 17, 64), err
	}
	const plusInf, minusInf = 254, 255
	n, err := c.in.byte()
	switch {
	case err != nil:
		return nil, err
	case n == plusInf:
		return []byte("+inf"), nil
	case n == minusInf:
		return []byte("-inf"), nil
	default:
		digits, err := c.in.take(int(n))
		return bytes.Clone(digits), err
	}
}

// hashWithTTL reads what scanner.hashWithTTL describes.
func (c *commander) hashWithTTL(op byte) error {
	valkey := c.options.Origin == OriginValkey
	earliest := uint64(1)
	var err error
	if op == rdbHashTTL {
		if earliest, err = c.in.uint64(); err != nil {
			return err
		}
	}
	err = c.times(func() error {
		var expires uint64
		var err error
		if !valkey {
			if expires, err = c.in.length(); err != nil {
				return err
			}
			if expires != 0 {
				expires += earliest - 1
			}
		}
		at := len(c.arena)
		if err := c.word(); err != nil {
			return err
		}
		field := c.arena[at:]
		if err := c.word(); err != nil {
			return err
		}
		if valkey {
			if expires, err = c.in.uint64(); err != nil {
				return err
			}
			if int64(expires) == None {
				expires = 0
			}
		}
		c.expire(field, expires)
		return c.collected("HSET", 2)
	})
	if err != nil {
		return err
	}
	return c.flush("HSET")
}

func (c *commander) expire(field []byte, ms uint64) {
	if ms != 0 {
		c.expiries = append(c.expiries, fieldExpiry{bytes.Clone(field), ms})
	}
}

// unpack reads a packed collection whole.
func (c *commander) unpack(p *packing) (elements, error) {
	at := c.in.offset()
	head, err := c.in.stringHead()
	if err != nil {
		return elements{}, err
	}
	if head.form == formInt || head.size < uint64(p.head+p.end) {
		return elements{}, c.in.failAt(at, ErrCorrupt, "%s: the string is too short", p.name)
	}
	var b []byte
	if err := c.body(head, func(piece []byte) { b = append(b, piece...) }); err != nil {
		return elements{}, err
	}
	_, problem := p.header(b, head.size)
	if problem == "" {
		_, problem = p.entries(b)
	}
	if problem != "" {
		return elements{}, c.in.failAt(at, ErrCorrupt, "%s: %s", p.name, problem)
	}
	return newElements(p, b), nil
}

// packedCollection reads a packed collection whose elements have as many strings each.
// The third one is the time at which a field expires.
func (c *commander) packedCollection(name string, p *packing, per int) error {
	all, err := c.unpack(p)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		b, more := all.next()
		if !more {
			return c.flush(name)
		}
		if n%per == 2 {
			ms, err := strconv.ParseUint(string(b), 10, 64)
			if err != nil {
				return c.in.fail(ErrCorrupt, "expiry time %q of a field", b)
			}
			from := 0
			if len(c.ends) > 2 {
				from = c.ends[len(c.ends)-3]
			}
			c.expire(c.arena[from:c.ends[len(c.ends)-2]], ms)
		} else {
			c.add(b)
		}
		if n%per < per-1 {
			continue
		}
		if name == "ZADD" {
			c.swap()
		}
		if err := c.collected(name, min(per, 2)); err != nil {
			return err
		}
	}
}

func (c *commander) quicklist(op byte) error {
	const plainNode = 1
	err := c.times(func() error {
		format := &ziplist
		if op == rdbQuicklist2 {
			format = &listpack
			container, err := c.in.length()
			if err != nil {
				return err
			}
			if container == plainNode {
				if err := c.word(); err != nil {
					return err
				}
				return c.collected("RPUSH", 1)
			}
		}
		return c.packedCollection("RPUSH", format, 1)
	})
	if err != nil {
		return err
	}
	return c.flush("RPUSH")
}

// streamID is the ID of a stream's entry.
type streamID struct{ ms, seq uint64 }

func (id streamID) text() []byte { return fmt.Appendf(nil, "%d-%d", id.ms, id.seq) }

// firstCounted is the RDB version from which servers keep the count of entries ever added.
// All of them also have XGROUP CREATECONSUMER (6.2).
const firstCounted = 10

func (c *commander) stream(op byte) error {
	entries := 0
	err := c.times(func() error { return c.streamNode(&entries) })
	if err != nil {
		return err
	}
	if _, err := c.in.length(); err != nil { // the number of entries
		return err
	}
	last, err := c.lengths(2)
	if err != nil {
		return err
	}
	words := [][]byte{streamID{last[0], last[1]}.text()}
	if op >= rdbStream2 {
		more, err := c.lengths(5) // first ID, largest deleted ID, entries added
		if err != nil {
			return err
		}
		if c.options.Target >= firstCounted {
			words = append(words, []byte("ENTRIESADDED"), strconv.AppendUint(nil, more[4], 10),
				[]byte("MAXDELETEDID"), streamID{more[2], more[3]}.text())
		}
	}
	if entries == 0 { // a stream can be made without any entry by adding one that does not stay
		if err := c.command("XADD", []byte("MAXLEN"), []byte("0"), []byte("0-1"), []byte("x"), []byte("y")); err != nil {
			return err
		}
	}
	if err := c.command("XSETID", words...); err != nil {
		return err
	}
	return c.times(func() error { return c.streamGroup(op) })
}

func (c *commander) lengths(n int) ([]uint64, error) {
	all := make([]uint64, n)
	var err error
	for i := range all {
		if all[i], err = c.in.length(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (c *commander) streamNode(entries *int) error {
	id, err := c.whole()
	if err == nil && len(id) != streamIDLen {
		err = c.in.fail(ErrCorrupt, "the key of a node is not the size of an entry ID")
	}
	if err != nil {
		return err
	}
	all, err := c.unpack(&listpack)
	if err != nil {
		return err
	}
	n := nodeReader{all: all, first: streamID{binary.BigEndian.Uint64(id), binary.BigEndian.Uint64(id[8:])}}
	if !n.template() {
		return c.in.fail(ErrCorrupt, "a node that does not hold the entries it announces")
	}
	for n.all.i < n.all.end {
		live, ok := n.entry(c)
		if !ok {
			return c.in.fail(ErrCorrupt, "a node that does not hold the entries it announces")
		}
		if !live {
			continue
		}
		*entries++
		if err := c.flush("XADD"); err != nil {
			return err
		}
	}
	return nil
}

// whole reads a string.
func (c *commander) whole() ([]byte, error) {
	at, ends := len(c.arena), len(c.ends)
	err := c.word()
	b := bytes.Clone(c.arena[at:])
	c.arena, c.ends = c.arena[:at], c.ends[:ends]
	return b, err
}

// nodeReader reads a node as streamEntries describes it.
type nodeReader struct {
	all    elements
	first  streamID
	fields [][]byte
}

func (n *nodeReader) integer() (int64, bool) {
	b, more := n.all.next()
	if !more {
		return 0, false
	}
	v, err := strconv.ParseInt(string(b), 10, 64)
	return v, err == nil
}

// count reads how many of something follow, which cannot be more than there are bytes.
func (n *nodeReader) count() (int64, bool) {
	v, ok := n.integer()
	return v, ok && v >= 0 && v <= int64(len(n.all.b))
}

func (n *nodeReader) template() bool {
	for range 2 { // entries, deleted entries
		if _, ok := n.integer(); !ok {
			return false
		}
	}
	fields, ok := n.count()
	for i := int64(0); ok && i < fields; i++ {
		var b []byte
		b, ok = n.all.next()
		n.fields = append(n.fields, bytes.Clone(b))
	}
	_, more := n.all.next() // a zero
	return ok && more
}

// entry collects the words of an entry, unless it was deleted.
func (n *nodeReader) entry(c *commander) (live, ok bool) {
	flags, ok1 := n.integer()
	ms, ok2 := n.integer()
	seq, ok3 := n.integer()
	if !ok1 || !ok2 || !ok3 {
		return false, false
	}
	same := flags&streamSameFields != 0
	fields := int64(len(n.fields))
	if !same {
		if fields, ok = n.count(); !ok {
			return false, false
		}
	}
	if live = flags&streamDeleted == 0; live {
		c.add(streamID{n.first.ms + uint64(ms), n.first.seq + uint64(seq)}.text())
	}
	add := func(b []byte) {
		if live {
			c.add(b)
		}
	}
	for i := range fields {
		if same {
			add(n.fields[i])
		} else {
			field, more := n.all.next()
			if !more {
				return false, false
			}
			add(field)
		}
		value, more := n.all.next()
		if !more {
			return false, false
		}
		add(value)
	}
	_, more := n.all.next() // how many elements to go back
	return live, more
}

// pendingEntry is an entry that was delivered and not acknowledged.
type pendingEntry struct{ delivered, deliveries uint64 }

func (c *commander) streamGroup(op byte) error {
	name, err := c.whole()
	if err != nil {
		return err
	}
	last, err := c.lengths(2)
	if err != nil {
		return err
	}
	create := [][]byte{[]byte("XGROUP"), []byte("CREATE"), c.options.Key, name, streamID{last[0], last[1]}.text()}
	if op >= rdbStream2 {
		read, err := c.in.length()
		if err != nil {
			return err
		}
		if c.options.Target >= firstCounted {
			create = append(create, []byte("ENTRIESREAD"), strconv.AppendInt(nil, int64(read), 10))
		}
	}
	if err := c.emit(create...); err != nil {
		return err
	}
	pending := make(map[streamID]pendingEntry)
	err = c.times(func() error {
		id, err := c.id()
		if err != nil {
			return err
		}
		b, err := c.in.take(8)
		if err != nil {
			return err
		}
		entry := pendingEntry{delivered: binary.LittleEndian.Uint64(b)}
		entry.deliveries, err = c.in.length()
		pending[id] = entry
		return err
	})
	if err != nil {
		return err
	}
	return c.times(func() error { return c.consumer(op, name, pending) })
}

func (c *commander) id() (streamID, error) {
	b, err := c.in.take(streamIDLen)
	if err != nil {
		return streamID{}, err
	}
	return streamID{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
}

func (c *commander) consumer(op byte, group []byte, pending map[streamID]pendingEntry) error {
	name, err := c.whole()
	if err != nil {
		return err
	}
	times := uint64(8) // seen
	if op >= rdbStream3 {
		times += 8 // active
	}
	if err := c.in.skip(times); err != nil {
		return err
	}
	create := [][]byte{[]byte("XGROUP"), []byte("CREATECONSUMER"), c.options.Key, group, name}
	if c.options.Target < firstCounted {
		// Asking for what it was sent before, which is nothing, makes it as well.
		create = [][]byte{[]byte("XREADGROUP"), []byte("GROUP"), group, name, []byte("STREAMS"), c.options.Key, []byte("0")}
	}
	if err := c.emit(create...); err != nil {
		return err
	}
	return c.times(func() error {
		id, err := c.id()
		if err != nil {
			return err
		}
		entry := pending[id]
		return c.command("XCLAIM", group, name, []byte("0"), id.text(),
			[]byte("TIME"), strconv.AppendUint(nil, entry.delivered, 10),
			[]byte("RETRYCOUNT"), strconv.AppendUint(nil, entry.deliveries, 10), []byte("JUSTID"), []byte("FORCE"))
	})
}

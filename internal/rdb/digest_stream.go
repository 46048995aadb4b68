package rdb

import (
	"encoding/binary"
	"strconv"
)

// Flags of the entries in a stream's node (stream.h).
const (
	streamDeleted    = 1
	streamSameFields = 2
)

// stream hashes the entries of a stream, its last ID, and its consumer groups.
// All of them are in order: by ID, and by name.
func (d *digester) stream(op byte) error {
	entries := uint64(0)
	err := d.repeat(func() error {
		n, err := d.streamNode()
		entries += n
		return err
	})
	if err != nil {
		return err
	}
	if _, err := d.in.length(); err != nil { // the number of entries, which was counted
		return err
	}
	d.number(entries)
	if err := d.numbers(2); err != nil { // last ID
		return err
	}
	if op >= rdbStream2 {
		for range 5 { // first ID, largest deleted ID, entries added
			if _, err := d.in.length(); err != nil {
				return err
			}
		}
	}
	return d.counted(func() error { return d.streamGroup(op) })
}

// counted is repeat for what is not told from what follows it by anything else:
// the count is hashed as well.
func (d *digester) counted(f func() error) error {
	n, err := d.in.length()
	if err != nil {
		return err
	}
	d.number(n)
	return d.times(n, f)
}

// numbers hashes n lengths.
func (d *digester) numbers(n int) error {
	for range n {
		v, err := d.in.length()
		if err != nil {
			return err
		}
		d.number(v)
	}
	return nil
}

// streamNode hashes the entries of a node and returns how many there are. How
// servers divide entries among nodes depends on their settings.
func (d *digester) streamNode() (uint64, error) {
	var first [streamIDLen]byte
	id := first[:0]
	head, err := d.in.stringHead()
	if err == nil && (head.form == formInt || head.size != streamIDLen) {
		err = d.in.fail(ErrCorrupt, "the key of a node is not the size of an entry ID")
	}
	if err == nil {
		err = d.body(head, func(b []byte) { id = append(id, b...) })
	}
	if err != nil {
		return 0, err
	}
	all, ok, err := d.unpack(&listpack)
	if err != nil || !ok {
		d.write(id)
		return 0, err
	}
	n := streamEntries{d: d, all: all, ms: binary.BigEndian.Uint64(id), seq: binary.BigEndian.Uint64(id[8:])}
	count, ok := n.hash()
	if !ok {
		return 0, d.in.fail(ErrCorrupt, "a node that does not hold the entries it announces")
	}
	return count, nil
}

// streamEntries reads a node (t_stream.c): a template of count, deleted, how many
// fields, their names, and a zero; then entries of flags, the distance of their ID
// to that of the node, fields and values or values alone, and how many elements
// to go back.
type streamEntries struct {
	d       *digester
	all     elements
	ms, seq uint64
	fields  elements // at the fields of the template
	nFields int64
}

func (s *streamEntries) integer() (int64, bool) {
	b, ok := s.all.next()
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil
}

// plausible tells whether the node can hold n fields: sums and products of n do
// not overflow then.
func (s *streamEntries) plausible(n int64) bool { return n >= 0 && n <= int64(len(s.all.b)) }

// skip passes n elements over.
func (s *streamEntries) skip(n int64) bool {
	for range n {
		if _, ok := s.all.next(); !ok {
			return false
		}
	}
	return true
}

func (s *streamEntries) hash() (count uint64, ok bool) {
	if !s.skip(2) {
		return 0, false
	}
	if s.nFields, ok = s.integer(); !ok || !s.plausible(s.nFields) {
		return 0, false
	}
	s.fields = s.all
	if !s.skip(s.nFields + 1) {
		return 0, false
	}
	for s.all.i < s.all.end {
		live, ok := s.entry()
		if !ok {
			return 0, false
		}
		if live {
			count++
		}
	}
	return count, true
}

func (s *streamEntries) entry() (live, ok bool) {
	flags, ok1 := s.integer()
	ms, ok2 := s.integer()
	seq, ok3 := s.integer()
	if !ok1 || !ok2 || !ok3 {
		return false, false
	}
	same := flags&streamSameFields != 0
	n := s.nFields
	if !same {
		if n, ok = s.integer(); !ok || !s.plausible(n) {
			return false, false
		}
	}
	if flags&streamDeleted != 0 {
		perField := int64(2)
		if same {
			perField = 1
		}
		return false, s.skip(n*perField + 1)
	}
	s.d.number(s.ms + uint64(ms))
	s.d.number(s.seq + uint64(seq))
	s.d.number(uint64(n))
	fields := s.fields
	for range n {
		source := &s.all
		if same {
			source = &fields
		}
		field, ok := source.next()
		if !ok {
			return false, false
		}
		s.d.add(field)
		value, ok := s.all.next()
		if !ok {
			return false, false
		}
		s.d.add(value)
	}
	return true, s.skip(1)
}

// streamGroup hashes a consumer group without its times.
func (d *digester) streamGroup(op byte) error {
	if err := d.text(); err != nil { // name
		return err
	}
	if err := d.numbers(2); err != nil { // last delivered ID
		return err
	}
	if op >= rdbStream2 {
		if _, err := d.in.length(); err != nil { // entries read
			return err
		}
	}
	err := d.counted(func() error { // pending entries
		if err := d.streamID(); err != nil {
			return err
		}
		if err := d.in.skip(8); err != nil { // delivery time
			return err
		}
		return d.numbers(1) // deliveries
	})
	if err != nil {
		return err
	}
	times := uint64(8) // seen
	if op >= rdbStream3 {
		times += 8 // active
	}
	return d.counted(func() error { // consumers
		if err := d.text(); err != nil { // name
			return err
		}
		if err := d.in.skip(times); err != nil {
			return err
		}
		return d.counted(d.streamID) // pending entries
	})
}

func (d *digester) streamID() error {
	b, err := d.in.take(streamIDLen)
	if err == nil {
		d.write(b)
	}
	return err
}

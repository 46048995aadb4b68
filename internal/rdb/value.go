package rdb

import (
	"bytes"
	"math"
	"strconv"
)

// maxUnpacked is the largest packed collection that is decompressed to be
// checked or counted, in bytes. With default settings servers make none above
// 8 KiB.
const maxUnpacked = 1 << 20

// value reads a value and returns its number of elements, or None.
func (s *scanner) value(op byte) (int64, error) {
	switch op {
	case rdbString:
		return s.stringValue()
	case rdbList, rdbSet:
		return s.elements(1)
	case rdbHash:
		return s.elements(2)
	case rdbZset, rdbZset2:
		return s.sortedSet(op)
	case rdbHashTTL, rdbHashTTLPreGA: // 22 is also rdbHash2
		return s.hashWithTTL(op)
	case rdbHashZipmap:
		return s.packed(&zipmap, 1) // counts pairs
	case rdbListZiplist:
		return s.packed(&ziplist, 1)
	case rdbZsetZiplist, rdbHashZiplist:
		return s.packed(&ziplist, 2)
	case rdbSetIntset:
		return s.packed(&intset, 1)
	case rdbSetListpack:
		return s.packed(&listpack, 1)
	case rdbZsetListpack, rdbHashListpack:
		return s.packed(&listpack, 2)
	case rdbHashListpackEx:
		if err := s.skip(8); err != nil { // the earliest expiry of a field
			return 0, err
		}
		return s.packed(&listpack, 3)
	case rdbHashLpExPreGA:
		return s.packed(&listpack, 3)
	case rdbQuicklist, rdbQuicklist2:
		return s.quicklist(op)
	case rdbStream, rdbStream2, rdbStream3:
		return s.stream(op)
	default: // rdbModule2
		id, err := s.length()
		if err != nil {
			return 0, err
		}
		s.entry.Module = moduleName(id)
		return None, s.moduleFields()
	}
}

// skipString reads a string of any form and returns its size in bytes, for
// integers what they take in the file.
func (s *scanner) skipString() (int64, error) {
	head, err := s.stringHead()
	if err != nil {
		return 0, err
	}
	return s.skipBody(head)
}

func (s *scanner) skipBody(head stringHead) (int64, error) {
	switch head.form {
	case formRaw:
		return int64(head.size), s.skip(head.stored)
	case formInt:
		return int64(head.stored), s.skip(head.stored)
	}
	s.saved += int64(head.size) - int64(head.stored)
	if head.stored > uint64(s.contiguous()) {
		return int64(head.size), s.lzfStream(head, nil)
	}
	data, err := s.take(int(head.stored))
	if err != nil {
		return 0, err
	}
	return int64(head.size), s.checkLZF(data, head.size)
}

func (s *scanner) checkLZF(data []byte, size uint64) error {
	if s.opts.Deep {
		return s.checkNow(data, size)
	}
	return s.checkLater(data, size)
}

// skipStrings skips n strings.
func (s *scanner) skipStrings(n uint64) error {
	for n > 0 {
		// Most strings are short, raw and inside the window.
		buf, r := s.buf[:s.w], s.r
		for n > 0 && r < len(buf) {
			c := buf[r]
			next := r + 1 + int(c)
			if c>>6 != len6Bit || next > len(buf) {
				break
			}
			r = next
			n--
		}
		s.r = r
		if n > 0 {
			if _, err := s.skipString(); err != nil {
				return err
			}
			n--
		}
	}
	return nil
}

// count reads the number of elements of a value.
func (s *scanner) count() (uint64, error) {
	n, err := s.length()
	if err == nil && n > math.MaxInt64/2 {
		err = s.fail(ErrCorrupt, "%d elements", n)
	}
	return n, err
}

// elements reads a count and that many times the given number of strings.
func (s *scanner) elements(strings uint64) (int64, error) {
	n, err := s.count()
	if err != nil {
		return 0, err
	}
	return int64(n), s.skipStrings(n * strings)
}

func (s *scanner) stringValue() (int64, error) {
	e := &s.entry
	head, err := s.stringHead()
	if err != nil {
		return 0, err
	}
	switch {
	case head.form == formInt:
		e.Encoding = EncodingInt
		n, err := s.integer(head)
		if err != nil {
			return 0, err
		}
		var digits [20]byte
		return int64(len(strconv.AppendInt(digits[:0], n, 10))), nil
	case head.size > maxEmbstr:
		e.Encoding = EncodingRaw
	default:
		e.Encoding = EncodingEmbstr
		// Numbers of more than 32 bits are stored as their digits.
		if head.form == formRaw && head.size <= 20 {
			b, err := s.take(int(head.size))
			if err != nil {
				return 0, err
			}
			if isInteger(b) {
				e.Encoding = EncodingInt
			}
			return int64(len(b)), nil
		}
	}
	return s.skipBody(head)
}

// isInteger reports whether b is what a 64-bit integer prints as (Redis's
// string2ll).
func isInteger(b []byte) bool {
	if len(b) == 0 || b[0] > '9' {
		return false
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return false
	}
	var digits [20]byte
	return bytes.Equal(strconv.AppendInt(digits[:0], n, 10), b)
}

func (s *scanner) sortedSet(op byte) (int64, error) {
	n, err := s.count()
	if err != nil {
		return 0, err
	}
	for range n {
		if err := s.skipStrings(1); err != nil {
			return 0, err
		}
		if op == rdbZset {
			err = s.textScore()
		} else {
			err = s.score()
		}
		if err != nil {
			return 0, err
		}
	}
	return int64(n), nil
}

func (s *scanner) score() error {
	bits, err := s.uint64()
	if err != nil {
		return err
	}
	if math.IsNaN(math.Float64frombits(bits)) {
		return s.failAt(s.offset()-8, ErrCorrupt, "a score that is not a number")
	}
	return nil
}

// textScore reads a score of RDB versions before 8: a length byte and digits,
// where three lengths stand for special numbers.
func (s *scanner) textScore() error {
	const notANumber, plusInf = 253, 254 // 255 is minus infinity
	n, err := s.byte()
	if err != nil || n >= plusInf {
		return err
	}
	if n != notANumber {
		var b []byte
		if b, err = s.take(int(n)); err != nil {
			return err
		}
		if f, err := strconv.ParseFloat(string(b), 64); err == nil && !math.IsNaN(f) {
			return nil
		}
	}
	return s.fail(ErrCorrupt, "a score that is not a number")
}

// hashWithTTL reads a hash some of whose fields expire.
func (s *scanner) hashWithTTL(op byte) (int64, error) {
	valkey := s.sum.Origin == OriginValkey
	if op == rdbHashTTL {
		if err := s.skip(8); err != nil { // the earliest expiry of a field
			return 0, err
		}
	}
	n, err := s.count()
	if err != nil {
		return 0, err
	}
	for range n {
		// Redis puts a relative time (or 0) before the field as a length, Valkey
		// an absolute one (or -1) behind the value in 8 bytes.
		if !valkey {
			if _, err := s.length(); err != nil {
				return 0, err
			}
		}
		if err := s.skipStrings(2); err != nil {
			return 0, err
		}
		if valkey {
			t, err := s.uint64()
			if err != nil {
				return 0, err
			}
			if int64(t) < None {
				return 0, s.failAt(s.offset()-8, ErrCorrupt, "expiry time %d of a field", int64(t))
			}
		}
	}
	return int64(n), nil
}

// quicklist reads a list of nodes, each a packed list or one large element.
func (s *scanner) quicklist(op byte) (int64, error) {
	const plainNode, packedNode = 1, 2
	nodes, err := s.count()
	if err != nil {
		return 0, err
	}
	format := &ziplist
	if op == rdbQuicklist2 {
		format = &listpack
	}
	total := int64(0)
	for range nodes {
		if op == rdbQuicklist2 {
			container, err := s.length()
			if err != nil {
				return 0, err
			}
			if container == plainNode {
				if n, err := s.skipString(); err != nil || n == 0 {
					if err == nil {
						err = s.fail(ErrCorrupt, "an empty node")
					}
					return 0, err
				}
				if total != None {
					total++
				}
				continue
			}
			if container != packedNode {
				return 0, s.fail(ErrCorrupt, "a node of unknown kind %d", container)
			}
		}
		n, err := s.packed(format, 1)
		if err != nil {
			return 0, err
		}
		if n == None || total == None {
			total = None
		} else {
			total += n
		}
	}
	return total, nil
}

// packed reads a packed collection and returns its number of elements divided
// by how many of them make one element of the value.
func (s *scanner) packed(p *packing, per int64) (int64, error) {
	at := s.offset()
	head, err := s.stringHead()
	if err != nil {
		return 0, err
	}
	n, problem, err := s.packedBody(p, head)
	if err != nil {
		return 0, err
	}
	if problem == "" && n != None && n%per != 0 {
		problem = "an incomplete last element"
	}
	if problem != "" {
		return 0, s.failAt(at, ErrCorrupt, "%s: %s", p.name, problem)
	}
	if n == None {
		return None, nil
	}
	return n / per, nil
}

func (s *scanner) packedBody(p *packing, head stringHead) (n int64, problem string, err error) {
	if head.form == formInt || head.size < uint64(p.head+p.end) {
		return 0, "the string is too short", nil
	}
	large := head.stored > uint64(s.contiguous())
	if head.form == formRaw {
		if large {
			return s.largePacked(p, head)
		}
		data, err := s.take(int(head.stored))
		if err != nil {
			return 0, "", err
		}
		n, problem = p.header(data, head.size)
		if problem == "" && (p != &intset || s.opts.Deep) {
			n, problem = p.entries(data)
		}
		return n, problem, nil
	}

	s.saved += int64(head.size) - int64(head.stored)
	if large {
		return s.largeCompressed(p, head)
	}
	data, err := s.take(int(head.stored))
	if err != nil {
		return 0, "", err
	}
	if err := s.checkLZF(data, head.size); err != nil {
		return 0, "", err
	}
	if s.scratch = lzfDecode(s.scratch, data, p.head); len(s.scratch) < p.head {
		return 0, "", s.checkNow(data, head.size)
	}
	n, problem = p.header(s.scratch, head.size)
	if problem == "" && (s.opts.Deep || n == None) && head.size <= maxUnpacked {
		if !s.opts.Deep { // then only its size is being checked
			if err := s.checkNow(data, head.size); err != nil {
				return 0, "", err
			}
		}
		s.scratch = lzfDecode(s.scratch, data, int(head.size))
		n, problem = p.entries(s.scratch)
	}
	return n, problem, nil
}

// largePacked checks header and terminator of what does not fit in half the window.
func (s *scanner) largePacked(p *packing, head stringHead) (int64, string, error) {
	b, err := s.take(p.head)
	if err != nil {
		return 0, "", err
	}
	n, problem := p.header(b, head.size)
	if problem != "" {
		return 0, problem, nil
	}
	if err := s.skip(head.stored - uint64(p.head+p.end)); err != nil {
		return 0, "", err
	}
	if p.end > 0 {
		last, err := s.byte()
		if err != nil {
			return 0, "", err
		}
		if last != terminator {
			return 0, problemTerminator, nil
		}
	}
	return n, "", nil
}

// largeCompressed does the same through the decompressor.
func (s *scanner) largeCompressed(p *packing, head stringHead) (int64, string, error) {
	var first []byte
	var last byte
	err := s.lzfStream(head, func(b []byte) {
		if room := p.head - len(first); room > 0 {
			first = append(first, b[:min(room, len(b))]...)
		}
		if len(b) > 0 {
			last = b[len(b)-1]
		}
	})
	if err != nil {
		return 0, "", err
	}
	n, problem := p.header(first, head.size)
	if problem == "" && p.end > 0 && last != terminator {
		problem = problemTerminator
	}
	return n, problem, nil
}

// streamIDLen is the length of a stream entry ID in bytes: ms and sequence number.
const streamIDLen = 16

// stream reads a stream: nodes of entries, counters, consumer groups.
func (s *scanner) stream(op byte) (int64, error) {
	nodes, err := s.count()
	if err != nil {
		return 0, err
	}
	for range nodes {
		head, err := s.stringHead()
		if err != nil {
			return 0, err
		}
		if head.form == formInt || head.size != streamIDLen {
			return 0, s.fail(ErrCorrupt, "the key of a node is not the size of an entry ID")
		}
		if _, err := s.skipBody(head); err != nil {
			return 0, err
		}
		if n, err := s.packed(&listpack, 1); err != nil || n == 0 {
			if err == nil {
				err = s.fail(ErrCorrupt, "an empty node")
			}
			return 0, err
		}
	}
	n, err := s.count()
	if err != nil {
		return 0, err
	}
	if n > 0 && nodes == 0 {
		return 0, s.fail(ErrCorrupt, "%d entries and no nodes", n)
	}
	more := uint64(2) // last ID
	if op >= rdbStream2 {
		more += 5 // first ID, largest deleted ID, entries added
	}
	if err := s.lengths(more); err != nil {
		return 0, err
	}
	groups, err := s.count()
	if err != nil {
		return 0, err
	}
	for range groups {
		if err := s.streamGroup(op); err != nil {
			return 0, err
		}
	}
	return int64(n), nil
}

func (s *scanner) streamGroup(op byte) error {
	if err := s.skipStrings(1); err != nil { // name
		return err
	}
	more := uint64(2) // last delivered ID
	if op >= rdbStream2 {
		more++ // entries read
	}
	if err := s.lengths(more); err != nil {
		return err
	}
	pending, err := s.count()
	if err != nil {
		return err
	}
	for range pending {
		if err := s.skip(streamIDLen + 8); err != nil { // ID, delivery time
			return err
		}
		if _, err := s.length(); err != nil { // deliveries
			return err
		}
	}
	consumers, err := s.count()
	if err != nil {
		return err
	}
	times := uint64(8) // seen
	if op >= rdbStream3 {
		times += 8 // active
	}
	owned := uint64(0)
	for range consumers {
		if err := s.skipStrings(1); err != nil { // name
			return err
		}
		if err := s.skip(times); err != nil {
			return err
		}
		n, err := s.count()
		if err != nil {
			return err
		}
		// Each pending entry of a consumer is one of the group's, and its only owner.
		if owned += n; n > pending || s.opts.Deep && owned > pending {
			return s.fail(ErrCorrupt, "consumers with more pending entries than their group")
		}
		if err := s.skip(n * streamIDLen); err != nil {
			return err
		}
	}
	if s.opts.Deep && owned != pending {
		return s.fail(ErrCorrupt, "pending entries without a consumer")
	}
	return nil
}

// The framing of module data (rdb.h, RDB_MODULE_OPCODE_*).
const (
	moduleEOF    = 0
	moduleSint   = 1
	moduleUint   = 2
	moduleFloat  = 3
	moduleDouble = 4
	moduleString = 5
)

// moduleFields skips the fields of module data and their end marker.
func (s *scanner) moduleFields() error {
	for {
		code, err := s.length()
		if err != nil {
			return err
		}
		switch code {
		case moduleEOF:
			return nil
		case moduleSint, moduleUint:
			_, err = s.length()
		case moduleFloat:
			err = s.skip(4)
		case moduleDouble:
			err = s.skip(8)
		case moduleString:
			_, err = s.skipString()
		default:
			err = s.fail(ErrCorrupt, "unknown module opcode %d", code)
		}
		if err != nil {
			return err
		}
	}
}

// moduleName decodes the name of a module type: nine characters of six bits
// before ten bits of version (module.c, moduleTypeEncodeId).
func moduleName(id uint64) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	var name [9]byte
	id >>= 10
	for i := len(name) - 1; i >= 0; i-- {
		name[i] = alphabet[id&63]
		id >>= 6
	}
	return string(name[:])
}

package rdb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
	"strconv"
	"time"
)

// Limits and defaults of Options, in bytes.
const (
	DefaultWindow   = 1 << 20
	MinWindow       = 1 << 9
	MaxWindow       = 1 << 28
	DefaultKeyLimit = 64 << 10
)

// Options tune a scan. The zero value is right for most.
type Options struct {
	// Window is the size of the read buffer in bytes, DefaultWindow when 0; a
	// scan uses up to two of them. It is brought into the range from MinWindow
	// to MaxWindow. Larger windows let larger values be checked and delivered
	// whole, smaller ones than 512 KiB cost speed.
	Window int
	// KeyLimit is how many bytes of a key an Entry holds, DefaultKeyLimit when 0.
	KeyLimit int
	// Deep asks for the checks that cost decompression, see the package comment.
	Deep bool
	// Now decides which keys have expired; the time of the call when zero.
	Now time.Time
}

// Scan reads an RDB file to its end and returns what it holds. The visitor is
// told about the keys as they come.
//
// The error is a *FormatError when the data is at fault (see the sentinel
// errors), that of r when reading fails, that of the visitor when it gives one,
// or that of ctx, which is consulted before every read of r. The Summary is
// filled as far as the scan came even then.
func Scan(ctx context.Context, r io.Reader, v Visitor, opts Options) (Summary, error) {
	s := newScanner(ctx, r, v, opts)
	defer s.crc.stop()
	err := s.scan()
	if err == nil {
		err = s.expectEnd()
	}
	return s.finish(), err
}

// ScanPreamble is Scan for RDB data that is followed by something else, such as
// the commands of an append-only file. It stops behind the checksum;
// Summary.Size tells where that is, counted from where r was. It has read ahead
// by then: rest continues at that place. Without an error rest is never nil.
func ScanPreamble(ctx context.Context, r io.Reader, v Visitor, opts Options) (sum Summary, rest io.Reader, err error) {
	s := newScanner(ctx, r, v, opts)
	defer s.crc.stop()
	if err := s.scan(); err != nil {
		return s.finish(), nil, err
	}
	ahead := io.Reader(bytes.NewReader(bytes.Clone(s.buf[s.r:s.w])))
	if s.err != nil { // what r reported together with its last bytes
		return s.finish(), io.MultiReader(ahead, failingReader{s.err}), nil
	}
	return s.finish(), io.MultiReader(ahead, r), nil
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// The opcodes that stand where types of values stand (rdb.h, RDB_OPCODE_*).
const (
	opSlotImport    = 243 // Valkey 9
	opSlotInfo      = 244
	opFunction      = 245
	opFunctionPreGA = 246
	opModuleAux     = 247
	opIdle          = 248
	opFreq          = 249
	opAux           = 250
	opResizeDB      = 251
	opExpireMs      = 252
	opExpire        = 253
	opSelectDB      = 254
	opEOF           = 255
)

// The versions this package knows.
const (
	maxRedisVersion      = 12 // Redis 7.4 to 8.0
	valkeyVersion        = 80 // Valkey 9.0
	firstChecksumVersion = 5
)

type scanner struct {
	input
	visitor  Visitor
	opts     Options
	sum      Summary
	dbs      []*dbCounts
	db       *dbCounts
	selected map[uint64]bool

	entry      Entry
	attributes bool   // attributes of the next key have been read
	opAt       int64  // offset of the current type or opcode
	saved      int64  // bytes that compression saved in the current value
	key        []byte // backs entry.Key
	scratch    []byte // decompressed packed values
	openValue  func() (io.Writer, error)
}

func newScanner(ctx context.Context, r io.Reader, v Visitor, opts Options) *scanner {
	if opts.Window <= 0 {
		opts.Window = DefaultWindow
	}
	opts.Window = min(max(opts.Window, MinWindow), MaxWindow)
	if opts.KeyLimit <= 0 {
		opts.KeyLimit = DefaultKeyLimit
	}
	if opts.Now.IsZero() {
		opts.Now = time.Now()
	}
	s := &scanner{
		input:    input{ctx: ctx, src: r, buf: make([]byte, opts.Window)},
		visitor:  v,
		opts:     opts,
		selected: make(map[uint64]bool),
	}
	s.openValue = func() (io.Writer, error) { return s.visitor.Value(&s.entry) }
	s.resetEntry()
	return s
}

// finish completes the summary.
func (s *scanner) finish() Summary {
	s.sum.DBs = make([]DBSummary, 0, len(s.dbs)) // [] in JSON, not null
	for _, db := range s.dbs {
		s.sum.DBs = append(s.sum.DBs, db.summary())
		s.sum.Keys += db.Keys
		s.sum.Expires += db.Expires
		s.sum.Expired += db.Expired
		s.sum.EmptyKeys += db.EmptyKeys
	}
	return s.sum
}

func (s *scanner) scan() error {
	if err := s.header(); err != nil {
		return err
	}
	for {
		s.section = "" // an unknown opcode is not part of what came before
		s.opAt = s.offset()
		op, err := s.byte()
		if err != nil {
			return err
		}
		if op == opEOF {
			if err := s.noAttributes(); err != nil {
				return err
			}
			return s.checksum()
		}
		if op >= opSlotImport {
			err = s.opcode(op)
		} else {
			err = s.keyValue(op)
		}
		if err != nil {
			return err
		}
	}
}

// header reads the magic and the version: "REDIS" and four digits, or "VALKEY"
// and three.
func (s *scanner) header() error {
	s.enter("header")
	b, err := s.take(len("REDIS0011"))
	if err != nil {
		return err
	}
	digits, ok := bytes.CutPrefix(b, []byte("REDIS"))
	s.sum.Origin = OriginRedis
	if !ok {
		digits, ok = bytes.CutPrefix(b, []byte("VALKEY"))
		s.sum.Origin = OriginValkey
	}
	if !ok {
		s.sum.Origin = ""
		return s.failAt(0, ErrCorrupt, "not an RDB file: it begins with %q", b)
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return s.failAt(0, ErrCorrupt, "not an RDB file: it begins with %q", b)
		}
		s.sum.Version = s.sum.Version*10 + int(d-'0')
	}
	if s.sum.Origin == OriginRedis && (s.sum.Version < 1 || s.sum.Version > maxRedisVersion) ||
		s.sum.Origin == OriginValkey && s.sum.Version != valkeyVersion {
		return s.failAt(0, ErrUnsupported, "RDB version %d of %s; known are %s 1 to %d and %s %d", s.sum.Version, s.sum.Origin,
			OriginRedis, maxRedisVersion, OriginValkey, valkeyVersion)
	}
	return nil
}

// checksum reads what follows the end marker and compares.
func (s *scanner) checksum() error {
	if err := s.checkQueued(); err != nil {
		return err
	}
	s.enter("checksum")
	computed := s.crc.finish(s.buf[:s.r])
	if s.sum.Version < firstChecksumVersion {
		s.sum.Checksum = ChecksumAbsent
		s.sum.Size = s.offset()
		return nil
	}
	stored, err := s.uint64()
	if err != nil {
		return err
	}
	s.sum.Size = s.offset()
	s.sum.StoredCRC, s.sum.ComputedCRC = CRC64(stored), CRC64(computed)
	switch stored {
	case 0:
		s.sum.Checksum = ChecksumDisabled
	case computed:
		s.sum.Checksum = ChecksumOK
	default:
		s.sum.Checksum = ChecksumMismatch
		return s.failAt(s.start, ErrChecksum, "stored %s, computed %s", s.sum.StoredCRC, s.sum.ComputedCRC)
	}
	return nil
}

// expectEnd makes sure that nothing follows.
func (s *scanner) expectEnd() error {
	if s.r == s.w {
		s.r, s.w, s.base = 0, 0, s.sum.Size
		switch err := s.read(); {
		case err == io.EOF: //nolint:errorlint // the io.Reader contract: the bare io.EOF
			return nil
		case err != nil:
			return err
		}
	}
	s.section = ""
	return s.failAt(s.sum.Size, ErrTrailing, "the RDB data ends here and the input goes on")
}

// opcode handles all opcodes but EOF.
func (s *scanner) opcode(op byte) error {
	switch op {
	case opExpireMs, opExpire, opIdle, opFreq:
		return s.attribute(op)
	}
	if err := s.noAttributes(); err != nil {
		return err
	}
	switch op {
	case opSelectDB:
		s.enter("database selector")
		n, err := s.length()
		if err != nil {
			return err
		}
		return s.selectDB(n)
	case opResizeDB:
		s.enter("database size hint")
		keys, err := s.length()
		if err != nil {
			return err
		}
		expires, err := s.length()
		if err != nil {
			return err
		}
		if keys > 1<<62 || expires > keys {
			return s.fail(ErrCorrupt, "%d keys, %d of them with expiry", keys, expires)
		}
		db := s.currentDB()
		db.KeysHint, db.ExpiresHint = int64(keys), int64(expires)
		return nil
	case opSlotInfo:
		s.enter("slot size hint")
		return s.lengths(3) // slot, keys, keys with expiry
	case opAux:
		return s.aux()
	case opModuleAux:
		s.enter("module aux record")
		s.sum.ModuleAux++
		if _, err := s.length(); err != nil { // module type and version
			return err
		}
		// The value starts with when to load it, framed like all that follows.
		if code, err := s.length(); err != nil || code != moduleUint {
			if err == nil {
				err = s.fail(ErrCorrupt, "opcode %d where the loading phase is expected", code)
			}
			return err
		}
		if _, err := s.length(); err != nil {
			return err
		}
		return s.moduleFields()
	case opFunction:
		return s.function()
	case opSlotImport:
		if s.sum.Origin == OriginValkey {
			return s.slotImport()
		}
	case opFunctionPreGA:
		return s.failAt(s.opAt, ErrUnsupported, "a function in the format of the Redis 7.0 release candidates")
	}
	return s.unknown(op)
}

func (s *scanner) unknown(op byte) error {
	return s.failAt(s.opAt, ErrUnsupported, "type or opcode %d is not one of RDB version %d of %s: the file is damaged or written by an unknown server", op, s.sum.Version, s.sum.Origin)
}

// lengths skips n lengths.
func (s *scanner) lengths(n uint64) error {
	for range n {
		if _, err := s.length(); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) selectDB(n uint64) error {
	switch {
	case n > 1<<31-1: // the largest that the option `databases` allows
		return s.fail(ErrCorrupt, "database %d", n)
	case s.selected[n]:
		return s.fail(ErrCorrupt, "database %d begins a second time", n)
	case len(s.dbs) == maxDBs:
		return s.fail(ErrUnsupported, "more than %d databases", maxDBs)
	}
	s.selected[n] = true
	s.db = &dbCounts{DBSummary: DBSummary{DB: int(n), KeysHint: None, ExpiresHint: None}}
	s.dbs = append(s.dbs, s.db)
	return nil
}

// currentDB is database 0 until another is selected.
func (s *scanner) currentDB() *dbCounts {
	if s.db == nil {
		_ = s.selectDB(0) // cannot fail: it is the first
	}
	return s.db
}

// attribute reads an attribute of the key that follows.
func (s *scanner) attribute(op byte) error {
	s.enter("key attribute")
	s.attributes = true
	e := &s.entry
	switch op {
	case opExpireMs, opExpire:
		if e.ExpireAt != None {
			return s.fail(ErrCorrupt, "a second expiry time for one key")
		}
		if op == opExpireMs {
			t, err := s.uint64()
			if err != nil {
				return err
			}
			e.ExpireAt = int64(t)
		} else {
			b, err := s.take(4)
			if err != nil {
				return err
			}
			e.ExpireAt = int64(int32(binary.LittleEndian.Uint32(b))) * 1000
		}
		if e.ExpireAt < 0 {
			return s.fail(ErrCorrupt, "expiry time %d", e.ExpireAt)
		}
	case opIdle:
		n, err := s.length()
		if err != nil {
			return err
		}
		if e.Idle != None || n > 1<<62 {
			return s.fail(ErrCorrupt, "a second or impossible idle time (%d s) for one key", n)
		}
		e.Idle = int64(n)
	case opFreq:
		n, err := s.byte()
		if err != nil {
			return err
		}
		if e.Freq != None {
			return s.fail(ErrCorrupt, "a second access frequency for one key")
		}
		e.Freq = int(n)
	}
	return nil
}

// noAttributes complains when attributes are not followed by their key. Servers
// would give them to some later key; none writes that.
func (s *scanner) noAttributes() error {
	if s.attributes {
		return s.failAt(s.opAt, ErrCorrupt, "attributes of a key are not followed by the key")
	}
	return nil
}

func (s *scanner) aux() error {
	s.enter("aux field")
	name, err := s.boundedString(maxAuxLen)
	if err != nil {
		return err
	}
	field := string(name) // the buffer is used again for the value
	value, err := s.boundedString(maxAuxLen)
	if err != nil {
		return err
	}
	if field == "lua" {
		s.sum.LuaScripts++
		return nil
	}
	if s.sum.Aux == nil {
		s.sum.Aux = make(map[string]string)
	}
	if _, known := s.sum.Aux[field]; known || len(s.sum.Aux) < maxAux {
		s.sum.Aux[field] = string(value)
	}
	return nil
}

// boundedString reads a string and returns its first limit bytes, valid until
// the next call.
func (s *scanner) boundedString(limit int) ([]byte, error) {
	b, _, _, err := s.readString(s.key[:0], limit)
	s.key = b
	return b, err
}

// readString reads a string and appends its first limit bytes to dst. size is
// its whole length, and digest that of all its bytes when it is longer than
// limit (zero otherwise).
func (s *scanner) readString(dst []byte, limit int) (b []byte, size int64, digest [32]byte, err error) {
	head, err := s.stringHead()
	if err != nil {
		return dst, 0, digest, err
	}
	if head.form == formInt {
		n, err := s.integer(head)
		if err != nil {
			return dst, 0, digest, err
		}
		b = strconv.AppendInt(dst, n, 10)
		size = int64(len(b) - len(dst))
		return b, size, digest, nil
	}
	size = int64(head.size)
	small := size <= int64(limit)
	if small && head.stored <= uint64(s.contiguous()) {
		data, err := s.take(int(head.stored))
		if err != nil {
			return dst, 0, digest, err
		}
		if head.form == formRaw {
			return append(dst, data...), size, digest, nil
		}
		if err := s.checkNow(data, head.size); err != nil {
			return dst, 0, digest, err
		}
		s.scratch = lzfDecode(s.scratch, data, int(head.size))
		return append(dst, s.scratch...), size, digest, nil
	}
	var sum hash.Hash
	if !small {
		sum = sha256.New()
	}
	collect := func(p []byte) {
		if sum != nil {
			sum.Write(p) // never fails
		}
		if room := limit - len(dst); room > 0 {
			dst = append(dst, p[:min(room, len(p))]...)
		}
	}
	if head.form == formRaw {
		err = s.chunks(head.stored, collect)
	} else {
		err = s.lzfStream(head, collect)
	}
	if sum != nil {
		sum.Sum(digest[:0])
	}
	return dst, size, digest, err
}

// function reads a function library: one string with its source.
func (s *scanner) function() error {
	s.enter("function library")
	s.entry.RDBType = opFunction
	s.entry.Offset = s.offset()
	s.saved = 0
	if s.visitor.Function != nil {
		s.startCapture(func() (io.Writer, error) { return s.visitor.Function(&s.entry) })
	}
	if _, err := s.skipString(); err != nil {
		return err
	}
	s.entry.Size = s.offset() - s.entry.Offset
	s.entry.Uncompressed = s.entry.Size + s.saved
	if s.capture.active {
		if err := s.checkQueued(); err != nil {
			return err
		}
		if err := s.endCapture(); err != nil {
			return err
		}
	}
	s.sum.Functions++
	s.resetEntry()
	return nil
}

// slotImport reads what a Valkey cluster node stores of a slot migration: the
// name of the job and ranges of slots.
func (s *scanner) slotImport() error {
	s.enter("slot import")
	if n, err := s.skipString(); err != nil || n != 40 {
		if err == nil {
			err = s.fail(ErrCorrupt, "a job name of %d bytes", n)
		}
		return err
	}
	ranges, err := s.length()
	if err != nil {
		return err
	}
	if ranges > 1<<14 { // there are no more slots
		return s.fail(ErrCorrupt, "%d ranges of slots", ranges)
	}
	return s.lengths(2 * ranges)
}

func (s *scanner) resetEntry() {
	s.attributes = false
	s.entry = Entry{ExpireAt: None, Idle: None, Freq: None, Size: None, Uncompressed: None, Len: None}
}

// keyValue reads a key and its value.
func (s *scanner) keyValue(op byte) error {
	form, ok := kindOf(op, s.sum.Origin, s.sum.Version)
	if !ok {
		if op == rdbModule1 {
			return s.failAt(s.opAt, ErrUnsupported, "a module value in the format of the Redis 4.0 release candidates")
		}
		return s.unknown(op)
	}
	db := s.currentDB()
	e := &s.entry
	e.DB = db.DB

	s.enter("key")
	var err error
	if s.key, e.KeyLen, e.KeySHA256, err = s.readString(s.key[:0], s.opts.KeyLimit); err != nil {
		return err
	}
	e.Key = s.key

	s.enter(form.section)
	e.Type, e.Encoding, e.RDBType = form.Type, form.Encoding, op
	e.Offset = s.start
	s.saved = 0
	if s.visitor.Value != nil {
		s.startCapture(s.openValue)
	}
	n, err := s.value(op)
	if err != nil {
		return err
	}
	e.Len = n
	e.Size = s.offset() - e.Offset
	e.Uncompressed = e.Size + s.saved

	db.Keys++
	db.types[e.Type]++
	if e.ExpireAt != None {
		db.Expires++
		if e.Expired(s.opts.Now) {
			db.Expired++
		}
	}
	if e.Len == 0 && e.Type != TypeString && e.Type != TypeStream {
		db.EmptyKeys++
	}
	if s.capture.active || s.visitor.Entry != nil {
		if err := s.checkQueued(); err != nil {
			return err
		}
	}
	if s.capture.active {
		if err := s.endCapture(); err != nil {
			return err
		}
	}
	if s.visitor.Entry != nil {
		if err := s.visitor.Entry(e); err != nil {
			return err
		}
	}
	s.resetEntry()
	return nil
}

package rdb

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// An Assembler writes an RDB file from DUMP payloads: the reverse of DumpWriter. Its
// version is that of the first payload. Errors of the underlying writer are returned
// by every method that writes.
type Assembler struct {
	w     io.Writer
	buf   []byte
	crc   uint64
	begun bool
}

// assembleAt is how many bytes are collected before they are written: the checksum is
// fast for large pieces only.
const assembleAt = 256 << 10

// emptyVersion is the version of a file without any payload: every server since 5.0
// reads it.
const emptyVersion = 9

// NewAssembler returns an Assembler that writes to w.
func NewAssembler(w io.Writer) *Assembler { return &Assembler{w: w} }

// SelectDB says which database the keys that follow are in.
func (a *Assembler) SelectDB(n int64) error {
	a.head(emptyVersion)
	a.buf = append(a.buf, opSelectDB)
	a.buf = appendLength(a.buf, uint64(n))
	return a.flush(assembleAt)
}

// Key adds a key with its DUMP payload. The zero time means that it does not expire.
// An error matching ErrCorrupt says that the payload is damaged.
func (a *Assembler) Key(key []byte, expires time.Time, payload []byte) error {
	version, body, err := openDump(payload)
	if err != nil {
		return err
	}
	a.head(version)
	if !expires.IsZero() {
		a.buf = append(a.buf, opExpireMs)
		a.buf = binary.LittleEndian.AppendUint64(a.buf, uint64(expires.UnixMilli()))
	}
	a.buf = append(a.buf, body[0])
	a.buf = appendLength(a.buf, uint64(len(key)))
	a.buf = append(a.buf, key...)
	a.buf = append(a.buf, body[1:]...)
	return a.flush(assembleAt)
}

// Functions adds the libraries of a FUNCTION DUMP payload, which holds them as an RDB
// file does. It comes before the first key.
func (a *Assembler) Functions(payload []byte) error {
	if len(payload) == DumpOverhead-1 {
		return nil // no library, hence not even a type
	}
	version, body, err := openDump(payload)
	if err != nil {
		return err
	}
	a.head(version)
	a.buf = append(a.buf, body...)
	return a.flush(assembleAt)
}

// Close writes the end of the file and its checksum. It does not close the underlying
// writer.
func (a *Assembler) Close() error {
	a.head(emptyVersion)
	a.buf = append(a.buf, opEOF)
	if err := a.flush(0); err != nil {
		return err
	}
	_, err := a.w.Write(binary.LittleEndian.AppendUint64(nil, a.crc))
	return err
}

func (a *Assembler) head(version uint16) {
	if !a.begun {
		a.begun = true
		a.buf = fmt.Appendf(a.buf, "REDIS%04d", version)
	}
}

// flush writes what was collected if that is at least so much.
func (a *Assembler) flush(least int) error {
	if len(a.buf) < least {
		return nil
	}
	a.crc = updateCRC(a.crc, a.buf)
	_, err := a.w.Write(a.buf)
	a.buf = a.buf[:0]
	return err
}

// openDump checks a DUMP payload and returns what is between its ends.
func openDump(payload []byte) (version uint16, body []byte, err error) {
	const tail = DumpOverhead - 1
	if len(payload) <= tail {
		return 0, nil, fmt.Errorf("%w: a DUMP payload of %d bytes", ErrCorrupt, len(payload))
	}
	end := len(payload) - tail
	sum := binary.LittleEndian.Uint64(payload[end+2:])
	if sum != 0 && sum != updateCRC(0, payload[:end+2]) { // 0: rdbchecksum no
		return 0, nil, fmt.Errorf("%w: the checksum of a DUMP payload is wrong", ErrCorrupt)
	}
	return binary.LittleEndian.Uint16(payload[end:]), payload[:end], nil
}

// appendLength appends a length in the RDB's encoding (rdbSaveLen in rdb.c).
func appendLength(dst []byte, n uint64) []byte {
	switch {
	case n < 1<<6:
		return append(dst, byte(n))
	case n < 1<<14:
		return append(dst, 0x40|byte(n>>8), byte(n))
	case n <= 1<<32-1:
		return binary.BigEndian.AppendUint32(append(dst, 0x80), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, 0x81), n)
	}
}

package rdb

import (
	"encoding/binary"
	"io"
)

// DumpOverhead is how many bytes longer a DUMP payload is than the serialized
// value in it: the type byte, the RDB version and the CRC64.
const DumpOverhead = 1 + 2 + 8

// AppendDump appends the DUMP payload of a serialized value to dst. rdbType is
// Entry.RDBType and version Summary.Version: a target refuses payloads of a
// newer version than its own.
//
// The format is that of createDumpPayload in Redis's cluster.c: type byte,
// value, RDB version (2 bytes, little endian), CRC64 of all these (little
// endian). The payload for FUNCTION RESTORE has the same form.
func AppendDump(dst []byte, rdbType byte, version uint16, value []byte) []byte {
	start := len(dst)
	dst = append(dst, rdbType)
	dst = append(dst, value...)
	dst = binary.LittleEndian.AppendUint16(dst, version)
	return binary.LittleEndian.AppendUint64(dst, updateCRC(0, dst[start:]))
}

// A DumpWriter turns a serialized value into a DUMP payload as it passes by,
// see AppendDump. The length of the payload is that of the value plus
// DumpOverhead.
type DumpWriter struct {
	w       io.Writer
	version uint16
	rdbType byte
	started bool
	crc     uint64
}

// NewDumpWriter returns a DumpWriter that writes to w.
func NewDumpWriter(w io.Writer, rdbType byte, version uint16) *DumpWriter {
	return &DumpWriter{w: w, rdbType: rdbType, version: version}
}

// Write passes a piece of the value on. It returns the errors of the underlying
// writer.
func (d *DumpWriter) Write(p []byte) (int, error) {
	if err := d.start(); err != nil {
		return 0, err
	}
	d.crc = updateCRC(d.crc, p)
	return d.w.Write(p)
}

// Close writes the end of the payload. It does not close the underlying writer.
func (d *DumpWriter) Close() error {
	if err := d.start(); err != nil {
		return err
	}
	end := binary.LittleEndian.AppendUint16(make([]byte, 0, DumpOverhead-1), d.version)
	end = binary.LittleEndian.AppendUint64(end, updateCRC(d.crc, end))
	_, err := d.w.Write(end)
	return err
}

func (d *DumpWriter) start() error {
	if d.started {
		return nil
	}
	d.started = true
	head := []byte{d.rdbType}
	d.crc = updateCRC(0, head)
	_, err := d.w.Write(head)
	return err
}

// Package rdb reads RDB files, the snapshot format of Redis and Valkey, in one
// streaming pass of bounded memory. It checks their structure and CRC64,
// reports what they hold and can hand out the serialized bytes of each value,
// which is all that DUMP and RESTORE need. Values are decoded only by ScanDigests,
// to tell whether two of them hold the same.
//
// # What is understood
//
// RDB versions 1 to 12 with the magic "REDIS" (up to Redis 8.0, and Valkey
// before 9) and version 80 with the magic "VALKEY" (Valkey 9.0): every type and
// opcode that releases of these servers write. Values of modules are skipped by
// their framing. The pre-release formats that Redis itself refuses
// (module values of 4.0 release candidates, functions of 7.0 release
// candidates) are refused with ErrUnsupported.
//
// # What is checked
//
// Always: the framing of every record and string, that each LZF stream yields
// the declared length, headers and terminators of listpacks, ziplists, intsets
// and zipmaps, every entry of those that are stored uncompressed and fit in half
// the window, scores that are not a number, stream node keys, the order of
// attributes, databases and the end marker, the CRC64, and that nothing follows
// it.
//
// With Options.Deep also: where LZF references point, every entry of packed
// values that are stored compressed (up to 1 MiB uncompressed), the order of
// intsets, and that the pending entries of stream consumers add up to those of
// their group. A deep scan takes about four times as long. It is worth it when
// Summary.Checksum says ChecksumDisabled: the file then has no protection but
// its structure.
//
// Duplicate fields, members or keys are not looked for: that needs memory in
// proportion to the value.
//
// # Memory
//
// One window (Options.Window, 1 MiB unless told otherwise), a second one when
// the file is larger than the first, one bounded copy of the current key, and a
// decompression buffer of at most 1 MiB. No allocation follows a length found in
// the file beyond these bounds.
package rdb

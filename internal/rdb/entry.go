package rdb

import (
	"io"
	"slices"
	"time"
)

// A Type is the type of a key as the TYPE command names it.
type Type uint8

// The types of keys.
const (
	TypeString Type = iota
	TypeList
	TypeSet
	TypeSortedSet
	TypeHash
	TypeStream
	// TypeModule stands for all types that modules define, see Entry.Module.
	TypeModule
	numTypes
)

var typeNames = [numTypes]string{"string", "list", "set", "zset", "hash", "stream", "module"} //nolint:gochecknoglobals // a table

// TypeNames lists the words for types, as String returns them.
func TypeNames() []string { return slices.Clone(typeNames[:]) }

// String returns the word that the TYPE command answers: "zset" for
// TypeSortedSet. For TypeModule it is "module".
func (t Type) String() string {
	if t < numTypes {
		return typeNames[t]
	}
	return "unknown"
}

// An Encoding tells how a value is stored, in the words of OBJECT ENCODING as
// far as the file tells. Old forms keep the names they had in the servers that
// wrote them.
type Encoding string

// The encodings that entries can have.
const (
	// EncodingInt, EncodingEmbstr and EncodingRaw are those that a server gives
	// a string when it loads it: a number of 64 bits, up to 44 bytes, longer.
	// (Valkey from 8.1 makes some strings raw that are shorter: it embeds only
	// what fits together with the key.)
	EncodingInt        Encoding = "int"
	EncodingEmbstr     Encoding = "embstr"
	EncodingRaw        Encoding = "raw"
	EncodingLinkedList Encoding = "linkedlist"
	EncodingZiplist    Encoding = "ziplist"
	// EncodingQuicklist also covers lists of a single listpack, which servers
	// from 7.2 report as "listpack": the file does not tell them apart.
	EncodingQuicklist Encoding = "quicklist"
	EncodingHashtable Encoding = "hashtable"
	EncodingIntset    Encoding = "intset"
	EncodingListpack  Encoding = "listpack"
	// EncodingListpackEx is a listpack of fields, values and field expiry times.
	EncodingListpackEx Encoding = "listpackex"
	EncodingSkiplist   Encoding = "skiplist"
	EncodingZipmap     Encoding = "zipmap"
	EncodingStream     Encoding = "stream"
	// EncodingModule is a value in a module's own format.
	EncodingModule Encoding = "module"
)

// maxEmbstr is the longest string that servers store as embstr, in bytes
// (OBJ_ENCODING_EMBSTR_SIZE_LIMIT).
const maxEmbstr = 44

// None is the value of attributes that an Entry does not have.
const None = -1

// An Entry describes one key of the file. It and its Key are valid only during
// the call that receives it.
type Entry struct {
	// DB is the number of the database.
	DB int
	// Key is the key, or its first Options.KeyLimit bytes when it is longer.
	Key []byte
	// KeyLen is the true length of the key in bytes.
	KeyLen int64
	// KeySHA256 is the digest of the whole key. It is set only when the key is
	// longer than Key, so that such keys can still be told apart.
	KeySHA256 [32]byte

	// Type is the type of the value.
	Type Type
	// Encoding is how the value is stored.
	Encoding Encoding
	// RDBType is the type byte in the file, and that of a DUMP payload.
	RDBType byte
	// Module is the name of the module type for TypeModule, such as "ReJSON-RL".
	Module string

	// ExpireAt is when the key expires, in ms since 1970, or None.
	ExpireAt int64
	// Idle is how long the key had not been used, in seconds, or None. It is
	// stored only by servers with an LRU maxmemory-policy.
	Idle int64
	// Freq is the logarithmic access counter (0 to 255), or None. It is stored
	// only by servers with an LFU maxmemory-policy.
	Freq int

	// Offset is where the serialized value starts, in bytes from the start of
	// the RDB data.
	Offset int64

	// Size is the length of the serialized value in bytes: that of the DUMP
	// payload without DumpOverhead. None while it is not known.
	Size int64
	// Uncompressed is what Size would be if no string of the value were
	// compressed (LZF). None while it is not known.
	Uncompressed int64
	// Len is what STRLEN, LLEN, SCARD, ZCARD, HLEN or XLEN answers once the
	// value is loaded (fields that expired meanwhile included). None while it is
	// not known, for modules, and for packed values of 65535 or more elements
	// that are too large for half the window.
	Len int64
}

// Expired reports whether the key has expired at now.
func (e *Entry) Expired(now time.Time) bool {
	return e.ExpireAt != None && now.UnixMilli() > e.ExpireAt
}

// HasFieldExpiry reports whether the value is stored in a form of hashes whose fields
// can expire.
func (e *Entry) HasFieldExpiry() bool { return e.Type == TypeHash && e.RDBType >= rdbHashTTLPreGA }

// A Visitor is told what Scan finds, in file order. Nil functions are skipped.
// An error from any of them, or from a writer they return, ends the scan and is
// returned as it is.
//
// Structure is checked before it is reported where the value fits in half the
// window, and the checksum only at the end: what a Visitor does with damaged
// data must be undone by its caller, or the file verified first.
type Visitor struct {
	// Value is called once for each key and returns where the serialized value
	// is to be written, or nil. A value of up to half the window has been
	// checked by then, the Entry is complete, and one Write delivers it all.
	// For a larger one Size, Uncompressed and Len are None and the value is
	// written in pieces. The buffer given to Write is reused afterwards.
	Value func(*Entry) (io.Writer, error)
	// Entry is called for each key after its value; the Entry is complete.
	Entry func(*Entry) error
	// Function is to functions what Value is to keys: it is called for each
	// library. Only RDBType, Offset, Size and Uncompressed mean anything. The
	// payload for FUNCTION RESTORE is made like that for RESTORE.
	Function func(*Entry) (io.Writer, error)
}

// kind is one of the forms of values in the file.
type kind struct {
	Type
	Encoding
	section string // for error messages
}

// The type bytes of values (rdb.h).
const (
	rdbString           = 0
	rdbList             = 1
	rdbSet              = 2
	rdbZset             = 3
	rdbHash             = 4
	rdbZset2            = 5
	rdbModule1          = 6
	rdbModule2          = 7
	rdbHashZipmap       = 9
	rdbListZiplist      = 10
	rdbSetIntset        = 11
	rdbZsetZiplist      = 12
	rdbHashZiplist      = 13
	rdbQuicklist        = 14
	rdbStream           = 15
	rdbHashListpack     = 16
	rdbZsetListpack     = 17
	rdbQuicklist2       = 18
	rdbStream2          = 19
	rdbSetListpack      = 20
	rdbStream3          = 21
	rdbHashTTLPreGA     = 22 // Redis 7.4 release candidates
	rdbHash2            = 22 // Valkey 9
	rdbHashLpExPreGA    = 23
	rdbHashTTL          = 24
	rdbHashListpackEx   = 25
	firstDivergentType  = 22 // from here Redis and Valkey differ
	firstDivergentRedis = 12 // the RDB version in which Redis added them
)

// kinds maps the type bytes that all servers agree on, and those of Redis.
var kinds = [...]kind{ //nolint:gochecknoglobals // a table
	rdbString:         {TypeString, "", "value of type string"},
	rdbList:           {TypeList, EncodingLinkedList, "value of type list (linkedlist)"},
	rdbSet:            {TypeSet, EncodingHashtable, "value of type set (hashtable)"},
	rdbZset:           {TypeSortedSet, EncodingSkiplist, "value of type zset (skiplist)"},
	rdbHash:           {TypeHash, EncodingHashtable, "value of type hash (hashtable)"},
	rdbZset2:          {TypeSortedSet, EncodingSkiplist, "value of type zset (skiplist)"},
	rdbModule2:        {TypeModule, EncodingModule, "value of a module type"},
	rdbHashZipmap:     {TypeHash, EncodingZipmap, "value of type hash (zipmap)"},
	rdbListZiplist:    {TypeList, EncodingZiplist, "value of type list (ziplist)"},
	rdbSetIntset:      {TypeSet, EncodingIntset, "value of type set (intset)"},
	rdbZsetZiplist:    {TypeSortedSet, EncodingZiplist, "value of type zset (ziplist)"},
	rdbHashZiplist:    {TypeHash, EncodingZiplist, "value of type hash (ziplist)"},
	rdbQuicklist:      {TypeList, EncodingQuicklist, "value of type list (quicklist of ziplists)"},
	rdbStream:         {TypeStream, EncodingStream, "value of type stream"},
	rdbHashListpack:   {TypeHash, EncodingListpack, "value of type hash (listpack)"},
	rdbZsetListpack:   {TypeSortedSet, EncodingListpack, "value of type zset (listpack)"},
	rdbQuicklist2:     {TypeList, EncodingQuicklist, "value of type list (quicklist)"},
	rdbStream2:        {TypeStream, EncodingStream, "value of type stream"},
	rdbSetListpack:    {TypeSet, EncodingListpack, "value of type set (listpack)"},
	rdbStream3:        {TypeStream, EncodingStream, "value of type stream"},
	rdbHashTTLPreGA:   {TypeHash, EncodingHashtable, "value of type hash (hashtable with field expiry)"},
	rdbHashLpExPreGA:  {TypeHash, EncodingListpackEx, "value of type hash (listpack with field expiry)"},
	rdbHashTTL:        {TypeHash, EncodingHashtable, "value of type hash (hashtable with field expiry)"},
	rdbHashListpackEx: {TypeHash, EncodingListpackEx, "value of type hash (listpack with field expiry)"},
}

// kindOf returns the form of value that a type byte stands for in files of the
// given origin.
func kindOf(op byte, origin Origin, version int) (kind, bool) {
	if int(op) >= len(kinds) || kinds[op].section == "" {
		return kind{}, false
	}
	if op >= firstDivergentType {
		if origin == OriginValkey && op != rdbHash2 {
			return kind{}, false
		}
		if origin == OriginRedis && version < firstDivergentRedis {
			return kind{}, false
		}
	}
	return kinds[op], true
}

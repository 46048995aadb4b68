package analyze

import "github.com/redisctl/redisctl/internal/rdb"

// Sizes of Redis's structures, in bytes.
const (
	robj      = 16 // struct redisObject
	dictEntry = 24 // key, value, next
	// bucket is a pointer of a hash table, which is between half and completely full
	// most of the time: 8 bytes / 0.75.
	bucket = 11
	dict   = 96 // struct dict and the smallest table
	// text is what an sds string needs beside its bytes (header and a zero, 4, up to 255
	// bytes) and loses to jemalloc's size classes (8 to 16 bytes apart: 5 on average),
	// minus the length in front of it in the file (1).
	text = 8
	// zskiplistNode has a pointer, a score, a back pointer and on average 1.33 levels of
	// 16 bytes each.
	zskiplistNode = 46
	score         = 8
	// quicklistNode holds a listpack of at most 8 KiB (list-max-listpack-size -2).
	quicklistNode = 32
	quicklist     = 40
	listpackSize  = 8192
	// A stream is a radix tree of listpacks of 4 KiB (stream-node-max-bytes), which are
	// allocated as a whole, with about four nodes of the tree for each.
	stream      = 144
	streamNode  = 4096
	streamTree  = 128
	embstrLimit = 44
)

// estimate returns how many bytes a server needs for a key and its value.
func estimate(e *rdb.Entry) int64 {
	// The key's entry in the table of the database, and that among the expiring keys.
	size := dictEntry + bucket + allocated(e.KeyLen+sdsOverhead(e.KeyLen))
	if e.ExpireAt != rdb.None {
		size += dictEntry + bucket
	}
	raw, n := max(e.Uncompressed, 0), max(e.Len, 0)
	switch e.Type {
	case rdb.TypeString:
		return size + stringSize(e)
	case rdb.TypeModule:
		return size + robj + raw
	case rdb.TypeStream:
		return size + robj + stream + (raw/streamNode+1)*(streamNode+streamTree)
	case rdb.TypeList, rdb.TypeSet, rdb.TypeSortedSet, rdb.TypeHash:
	}
	switch e.Encoding {
	case rdb.EncodingQuicklist, rdb.EncodingLinkedList, rdb.EncodingZiplist:
		if e.Type == rdb.TypeList {
			return size + robj + quicklist + raw + (raw/listpackSize+1)*quicklistNode
		}
		return size + robj + allocated(raw)
	case rdb.EncodingHashtable:
		perElement := int64(dictEntry + bucket + text)
		if e.Type == rdb.TypeHash {
			perElement += text
		}
		return size + robj + dict + raw + n*perElement
	case rdb.EncodingSkiplist:
		return size + robj + dict + raw + n*(dictEntry+bucket+text+zskiplistNode-score)
	default: // one block: listpack, ziplist, intset, zipmap
		return size + robj + allocated(raw)
	}
}

func stringSize(e *rdb.Entry) int64 {
	switch {
	case e.Encoding == rdb.EncodingInt:
		return robj
	case e.Len <= embstrLimit:
		return allocated(robj + 3 + e.Len + 1)
	default:
		return robj + allocated(e.Len+sdsOverhead(e.Len))
	}
}

// sdsOverhead is the header of an sds string and the zero behind it.
func sdsOverhead(n int64) int64 {
	switch {
	case n < 1<<5:
		return 2
	case n < 1<<8:
		return 4
	case n < 1<<16:
		return 6
	case n < 1<<32:
		return 10
	default:
		return 18
	}
}

// allocated returns what jemalloc, as Redis builds it (--with-lg-quantum=3), takes for n
// bytes: the next of its size classes, which are 8 bytes apart up to 64, 16 up to 128, and
// then four to each power of two.
func allocated(n int64) int64 {
	step := int64(8)
	for limit := int64(64); n > limit && limit < 1<<60; limit *= 2 {
		step *= 2
	}
	return (max(n, 1) + step - 1) / step * step
}

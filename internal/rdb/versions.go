package rdb

// FirstVersion returns the oldest RDB version whose readers know values of a type byte:
// servers of an older one refuse them, whatever a DUMP payload says of its version. For
// types that only servers of the other origin read, it is that of the origin's first
// version with a format of its own.
//
// The versions are those of rdb.h in the releases in which the types appeared.
func FirstVersion(rdbType byte, origin Origin) int {
	if rdbType == rdbHash2 && origin == OriginValkey {
		return valkeyVersion
	}
	switch rdbType {
	case rdbHashZipmap, rdbListZiplist, rdbSetIntset, rdbZsetZiplist:
		return 2
	case rdbHashZiplist:
		return 4
	case rdbQuicklist:
		return 7
	case rdbZset2, rdbModule1, rdbModule2:
		return 8
	case rdbStream:
		return 9
	case opFunction, rdbHashListpack, rdbZsetListpack, rdbQuicklist2, rdbStream2:
		return 10
	case rdbSetListpack, rdbStream3:
		return 11
	case rdbHashTTLPreGA, rdbHashLpExPreGA, rdbHashTTL, rdbHashListpackEx:
		return firstDivergentRedis
	default:
		return 1
	}
}

// Reads reports whether servers whose newest RDB version is target load values of a type
// byte that stand in a file of the given origin. Valkey counts from 80 on, and does not
// read what Redis has added since the two went apart.
func Reads(target int, rdbType byte, origin Origin) bool {
	first := FirstVersion(rdbType, origin)
	if first >= firstDivergentRedis {
		return target >= first && (target >= valkeyVersion) == (first >= valkeyVersion)
	}
	return target >= first
}

// Package rdbdiff compares the contents of two RDB files: which keys only one of
// them has, and which differ in value or expiry. It tells neither which of two
// differing values is newer nor what changed inside.
//
// Values are compared by digests of their contents (see rdb.ValueDigest), so that
// files of different servers, versions and settings compare equal when they hold
// the same.
//
// # Memory
//
// Both files are read once, side by side, each in one pass. What is remembered of
// a key is a record of its name and of the digest of its value, 68 bytes and the
// name. Records are divided by a hash of the key; the parts of both files that
// belong together are then compared one after the other (a partitioned hash
// join). Records beyond a few MiB wait in temporary files, so that memory does
// not grow with the number of keys. Names of keys reach the disk that way, values
// do not.
package rdbdiff

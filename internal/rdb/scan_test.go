package rdb_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
)

// scanBytes scans with a small window, which makes many small scans fast.
func scanBytes(t testing.TB, data []byte, opts rdb.Options) error {
	opts.Window = 16 << 10
	_, err := rdb.Scan(t.Context(), bytes.NewReader(data), rdb.Visitor{}, opts)
	return err
}

func TestSummary(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	file := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) {
		w.Aux("redis-ver", "7.2.4").Aux("redis-bits", "64").Aux("ctime", "1760000000").Aux("repl-stream-db", "0")
		w.Aux("lua", "return 1").Aux("lua", "return 2")
		w.Function("#!lua name=first\n").Function("#!lua name=second\n")
		w.SelectDB(0).ResizeDB(4, 3)
		w.ExpireAt(999_999).String("gone", "1").ExpireAt(1_000_000).String("not yet", "1")
		w.ExpireAtSeconds(5000).Set("later", "a", "b").Hash("lasting", "f", "v")
		w.Raw(cat([]byte{244}, length(5), length(2), length(1)))                                                        // slot info
		w.Raw(cat([]byte{247}, length(moduleID("ReJSON-RL", 3)), length(2), length(1), length(5), raw("x"), length(0))) // module aux
		w.SelectDB(7).Idle(100).String("idle", "1").Freq(255).String("frequent", "1").Set("empty")
	})
	got := scanAll(t, file, rdb.Options{Now: now})
	assert.Equal(t, rdb.Summary{
		Origin: rdb.OriginRedis, Version: 11,
		Aux: map[string]string{"redis-ver": "7.2.4", "redis-bits": "64", "ctime": "1760000000", "repl-stream-db": "0"},
		DBs: []rdb.DBSummary{
			{DB: 0, Keys: 4, Expires: 3, Expired: 1, KeysHint: 4, ExpiresHint: 3, Types: map[string]int64{"string": 2, "set": 1, "hash": 1}},
			{DB: 7, Keys: 3, EmptyKeys: 1, KeysHint: rdb.None, ExpiresHint: rdb.None, Types: map[string]int64{"string": 2, "set": 1}},
		},
		Keys: 7, Expires: 3, Expired: 1, EmptyKeys: 1,
		Functions: 2, LuaScripts: 2, ModuleAux: 1,
		Size: int64(len(file)), Checksum: rdb.ChecksumOK, StoredCRC: got.summary.ComputedCRC, ComputedCRC: got.summary.ComputedCRC,
	}, got.summary)

	attributes := make(map[string][3]int64)
	for _, r := range got.records {
		attributes[r.key] = [3]int64{r.ExpireAt, r.Idle, int64(r.Freq)}
	}
	assert.Equal(t, map[string][3]int64{
		"gone": {999_999, -1, -1}, "not yet": {1_000_000, -1, -1}, "later": {5_000_000, -1, -1}, "lasting": {-1, -1, -1},
		"idle": {-1, 100, -1}, "frequent": {-1, -1, 255}, "empty": {-1, -1, -1},
	}, attributes)

	text, err := json.Marshal(got.summary)
	require.NoError(t, err)
	var back rdb.Summary
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, got.summary, back, "through JSON")
	assert.Contains(t, string(text), `"checksum":"ok","storedCrc64":"`+got.summary.StoredCRC.String()+`"`)
}

func TestEmptyFiles(t *testing.T) {
	for _, header := range []string{rdbtest.Redis6, rdbtest.Redis70, rdbtest.Redis72, rdbtest.Redis8, rdbtest.Valkey9} {
		got := scanAll(t, rdbtest.File(header, func(*rdbtest.Writer) {}), rdb.Options{})
		assert.Equal(t, rdb.ChecksumOK, got.summary.Checksum)
		assert.Empty(t, got.records)
	}
	assert.ErrorIs(t, scanBytes(t, nil, rdb.Options{}), rdb.ErrTruncated)
}

// TestChecksum pins the CRC64 to the value that Redis's crc64.c gives as its test.
func TestChecksum(t *testing.T) {
	sum := rdb.NewCRC64()
	for _, piece := range []string{"1234", "", "56789"} {
		_, err := io.WriteString(sum, piece)
		require.NoError(t, err)
	}
	assert.Equal(t, uint64(0xe9c6d914c4b8d9ca), sum.Sum64())
	assert.Equal(t, []byte{0xaa, 0xe9, 0xc6, 0xd9, 0x14, 0xc4, 0xb8, 0xd9, 0xca}, sum.Sum([]byte{0xaa}))
}

func TestChecksumStatus(t *testing.T) {
	file := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { w.String("key", "value") })
	old := rdbtest.File("REDIS0004", func(w *rdbtest.Writer) { w.String("key", "value") })

	got := scanAll(t, rdbtest.WithoutChecksum(file), rdb.Options{})
	assert.Equal(t, rdb.ChecksumDisabled, got.summary.Checksum)
	assert.Zero(t, got.summary.StoredCRC)
	assert.NotZero(t, got.summary.ComputedCRC)

	got = scanAll(t, old, rdb.Options{})
	assert.Equal(t, rdb.ChecksumAbsent, got.summary.Checksum)

	wrong := bytes.Clone(file)
	wrong[len(wrong)-1] ^= 1
	sum, err := rdb.Scan(t.Context(), bytes.NewReader(wrong), rdb.Visitor{}, rdb.Options{})
	assert.ErrorIs(t, err, rdb.ErrChecksum)
	assert.ErrorIs(t, err, rdb.ErrCorrupt)
	assert.ErrorContains(t, err, sum.StoredCRC.String())
	assert.ErrorContains(t, err, sum.ComputedCRC.String())
	assert.Equal(t, rdb.ChecksumMismatch, sum.Checksum)
	assert.EqualValues(t, 1, sum.Keys, "the summary says what was read")
}

func TestStructureErrors(t *testing.T) {
	file := func(header string, parts ...[]byte) []byte {
		return rdbtest.File(header, func(w *rdbtest.Writer) { w.Raw(cat(parts...)) })
	}
	const redis, valkey = rdbtest.Redis8, rdbtest.Valkey9
	aKey := cat([]byte{0}, raw("key"), raw("value"))
	manyDBs := make([]byte, 0, 100_000)
	for i := range 20_000 {
		manyDBs = append(append(manyDBs, 254), length(uint64(i))...)
	}
	tests := []struct {
		name string
		data []byte
		kind error
		want string
	}{
		{"not RDB", []byte("PK\x03\x04 a zip file"), rdb.ErrCorrupt, `not an RDB file: it begins with "PK\x03\x04 a zi"`},
		{"no version", []byte("REDIS00x1"), rdb.ErrCorrupt, "not an RDB file"},
		{"version 0", file("REDIS0000"), rdb.ErrUnsupported, "RDB version 0 of redis"},
		{"future Redis", file("REDIS0013"), rdb.ErrUnsupported, "RDB version 13 of redis"},
		{"future Valkey", file("VALKEY081"), rdb.ErrUnsupported, "RDB version 81 of valkey"},
		{"Valkey's version with the magic of Redis", file("REDIS0080"), rdb.ErrUnsupported, "RDB version 80 of redis"},
		{"unknown type", file(redis, []byte{26}), rdb.ErrUnsupported, "type or opcode 26"},
		{"unknown opcode", file(redis, []byte{242}), rdb.ErrUnsupported, "type or opcode 242"},
		{"type 8", file(redis, []byte{8}), rdb.ErrUnsupported, "type or opcode 8"},
		{"Valkey's opcode in a file of Redis", file(redis, []byte{243}), rdb.ErrUnsupported, "type or opcode 243"},
		{"Redis' type in a file of Valkey", file(valkey, []byte{24}), rdb.ErrUnsupported, "type or opcode 24"},
		{"field expiry before its time", file(rdbtest.Redis72, []byte{24}), rdb.ErrUnsupported, "type or opcode 24"},
		{"old module value", file(redis, []byte{6}), rdb.ErrUnsupported, "4.0 release candidates"},
		{"old function", file(redis, []byte{246}), rdb.ErrUnsupported, "7.0 release candidates"},
		{"too many databases", file(redis, manyDBs), rdb.ErrUnsupported, "more than 16384 databases"},
		{"database twice", file(redis, []byte{254, 1, 254, 2, 254, 1}), rdb.ErrCorrupt, "database 1 begins a second time"},
		{"database 0 twice", file(redis, aKey, []byte{254, 0}), rdb.ErrCorrupt, "database 0 begins a second time"},
		{"impossible database", file(redis, []byte{254}, length(1<<31)), rdb.ErrCorrupt, "database 2147483648"},
		{"more expiring keys than keys", file(redis, []byte{251, 1, 2}), rdb.ErrCorrupt, "1 keys, 2 of them with expiry"},
		{"two expiry times", file(redis, []byte{253, 1, 0, 0, 0, 253, 1, 0, 0, 0}, aKey), rdb.ErrCorrupt, "a second expiry time"},
		{"negative expiry time", file(redis, []byte{252}, le64(1<<63), aKey), rdb.ErrCorrupt, "expiry time -"},
		{"two idle times", file(redis, []byte{248, 1, 248, 1}, aKey), rdb.ErrCorrupt, "a second or impossible idle time"},
		{"two frequencies", file(redis, []byte{249, 1, 249, 1}, aKey), rdb.ErrCorrupt, "a second access frequency"},
		{"expiry time without key, at the end", file(redis, []byte{253, 1, 0, 0, 0}), rdb.ErrCorrupt, "not followed by the key"},
		{"expiry time without key, before a database", file(redis, []byte{249, 1, 254, 1}), rdb.ErrCorrupt, "not followed by the key"},
		{"module aux without phase", file(redis, []byte{247, 1, 1}), rdb.ErrCorrupt, "loading phase"},
		{"slot import without a proper job", file(valkey, []byte{243}, raw("short"), []byte{0}), rdb.ErrCorrupt, "a job name of 5 bytes"},
		{"slot import of too many ranges", file(valkey, []byte{243}, raw(strings.Repeat("a", 40)), length(20_000)), rdb.ErrCorrupt, "20000 ranges"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := scanBytes(t, tt.data, rdb.Options{})
			require.ErrorIs(t, err, tt.kind)
			assert.ErrorContains(t, err, tt.want)
			assert.Equal(t, !errors.Is(err, rdb.ErrUnsupported), errors.Is(err, rdb.ErrCorrupt), "damage is not the same as an unknown version")
			var fault *rdb.FormatError
			require.ErrorAs(t, err, &fault)
			assert.LessOrEqual(t, fault.Offset, int64(len(tt.data)))
		})
	}
}

func TestSlotImport(t *testing.T) {
	got := scanAll(t, rdbtest.File(rdbtest.Valkey9, func(w *rdbtest.Writer) {
		w.Raw(cat([]byte{243}, raw(strings.Repeat("j", 40)), length(2), length(0), length(99), length(200), length(16383)))
		w.String("key", "value")
	}), rdb.Options{})
	assert.EqualValues(t, 1, got.summary.Keys)
	assert.Equal(t, rdb.OriginValkey, got.summary.Origin)
}

// assertFault wants err to blame the data after a bit flip.
func assertFault(t *testing.T, err error, at, bit int) {
	if fault := (*rdb.FormatError)(nil); !errors.As(err, &fault) {
		require.Fail(t, "not found", "bit %d of byte %d: %v", bit, at, err)
	}
}

// TestEveryBitFlip is the promise of the checksum: no flip goes unnoticed.
func TestEveryBitFlip(t *testing.T) {
	for _, name := range fixtures(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			data := read(t, name)
			for i := range data {
				for bit := range 8 {
					data[i] ^= 1 << bit
					assertFault(t, scanBytes(t, data, rdb.Options{}), i, bit)
					data[i] ^= 1 << bit
				}
			}
		})
	}
}

// TestBitFlipsWithoutChecksum flips bits where only the structure can tell. Not
// all can be found, values do not protect themselves; but the reader must cope.
func TestBitFlipsWithoutChecksum(t *testing.T) {
	for _, name := range fixtures(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			data := rdbtest.WithoutChecksum(read(t, name))
			found, foundDeep, flips := 0, 0, 0
			for i := range data[:len(data)-8] {
				for bit := range 8 {
					data[i] ^= 1 << bit
					flips++
					if err := scanBytes(t, data, rdb.Options{}); err != nil {
						found++
						assertFault(t, err, i, bit)
					} else if err := scanBytes(t, data, rdb.Options{Deep: true}); err != nil {
						foundDeep++
						assertFault(t, err, i, bit)
					}
					data[i] ^= 1 << bit
				}
			}
			t.Logf("%d flips: %.0f %% found by structure, %.0f %% with Deep", flips, 100*float64(found)/float64(flips), 100*float64(found+foundDeep)/float64(flips))
		})
	}
}

func TestEveryTruncation(t *testing.T) {
	for _, name := range fixtures(t) {
		data := read(t, name)
		for n := range data {
			err := scanBytes(t, data[:n], rdb.Options{})
			require.ErrorIs(t, err, rdb.ErrTruncated, "%s cut to %d of %d bytes", name, n, len(data))
			require.ErrorIs(t, err, rdb.ErrCorrupt)
			var fault *rdb.FormatError
			require.ErrorAs(t, err, &fault)
			require.EqualValues(t, n, fault.Offset)
		}
		require.ErrorIs(t, scanBytes(t, append(data, '\n'), rdb.Options{}), rdb.ErrTrailing, name)
		require.ErrorIs(t, scanBytes(t, append(data, data...), rdb.Options{}), rdb.ErrTrailing, name)
	}
}

// TestWindows reads the same files through windows and readers that split them
// everywhere: nothing but the wholeness of values may depend on it.
func TestWindows(t *testing.T) {
	files := make(map[string][]byte)
	for _, name := range fixtures(t) {
		files[name] = read(t, name)
	}
	files["realistic"] = rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { rdbtest.Realistic(w, 7, 300_000) })
	files["long strings"] = rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) {
		w.String(noise(70_000), noise(9_000)).String(strings.Repeat("long compressible key ", 9_000), variedText(90_000))
		w.Hash("hash", noise(3_000), variedText(9_000), strings.Repeat("z", 100_000), "")
		w.Function(strings.Repeat("-- comment\n", 3_000))
		w.Value(20, "set", rdbtest.AppendString(nil, string(rdbtest.Listpack(noise(3_000), variedText(9_000)))))
	})
	for name, data := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			want := scanAll(t, data, rdb.Options{Deep: true})
			for _, window := range []int{1, 1 << 10, 5_000, 64 << 10} {
				for source, wrap := range map[string]func(io.Reader) io.Reader{
					"at once":          func(r io.Reader) io.Reader { return r },
					"byte by byte":     iotest.OneByteReader,
					"half":             iotest.HalfReader,
					"data with EOF":    iotest.DataErrReader,
					"with empty reads": func(r io.Reader) io.Reader { return &stutterer{r: r} },
				} {
					got, err := collect(t, wrap(bytes.NewReader(data)), rdb.Options{Deep: true, Window: window})
					require.NoError(t, err, "window %d, %s", window, source)
					require.Equal(t, want.summary, got.summary, "window %d, %s", window, source)
					require.Equal(t, want.functions, got.functions, "window %d, %s", window, source)
					require.Len(t, got.records, len(want.records))
					for i, w := range want.records {
						g := got.records[i]
						if effective := max(window, rdb.MinWindow); g.Size <= int64(effective/2) {
							require.True(t, g.whole, "window %d, %s: value %q of %d bytes comes in pieces", window, source, g.key, g.Size)
						}
						if g.Len == rdb.None && w.Len != rdb.None { // it was too large to count
							g.Len = w.Len
						}
						g.whole = w.whole
						require.Equal(t, w, g, "window %d, %s", window, source)
					}
				}
			}
			for _, r := range want.records {
				require.True(t, bytes.Equal(data[r.Offset:r.Offset+r.Size], r.value), "value of %q", r.key)
			}
		})
	}
}

// TestManyCompressedStrings damages one of many: they are checked in groups.
func TestManyCompressedStrings(t *testing.T) {
	const n = 40
	for bad := range n {
		var at int64
		file := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) {
			for i := range n {
				text := variedText(40 + i*i*7%900)
				size := len(text)
				w.Raw([]byte{0}).Raw(raw(strconv.Itoa(i)))
				compressed := rdbtest.Compress([]byte(text))
				if i == bad {
					size += 1 - 2*(i%2)
				}
				value := rdbtest.AppendLZF(nil, compressed, size)
				if i == bad {
					at = w.Size() + int64(len(value)-len(compressed))
				}
				w.Raw(value)
			}
		})
		for _, window := range []int{0, 3_000} {
			_, err := rdb.Scan(t.Context(), bytes.NewReader(file), rdb.Visitor{}, rdb.Options{Window: window})
			var fault *rdb.FormatError
			require.ErrorAs(t, err, &fault, "string %d", bad)
			require.ErrorIs(t, err, rdb.ErrCorrupt)
			require.Equal(t, at, fault.Offset, "string %d", bad)
		}
		seen := 0
		_, err := rdb.Scan(t.Context(), bytes.NewReader(file), rdb.Visitor{Entry: func(*rdb.Entry) error { seen++; return nil }}, rdb.Options{})
		require.ErrorIs(t, err, rdb.ErrCorrupt)
		require.Equal(t, bad, seen, "nothing damaged is reported as sound")
	}
}

// stutterer returns nothing every other time.
type stutterer struct {
	r    io.Reader
	skip bool
}

func (s *stutterer) Read(p []byte) (int, error) {
	if s.skip = !s.skip; s.skip {
		return 0, nil
	}
	return s.r.Read(p[:min(len(p), 100)])
}

func TestKeyLimit(t *testing.T) {
	for name, key := range map[string]string{
		"raw":        noise(3_000),
		"compressed": strings.Repeat("compressible ", 3_000),
		"just":       noise(1_000),
	} {
		t.Run(name, func(t *testing.T) {
			file := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { w.String(key, "value").String("next", "value") })
			for _, window := range []int{0, rdb.MinWindow} {
				got := scanAll(t, file, rdb.Options{KeyLimit: 1_000, Window: window})
				r := got.records[0]
				assert.EqualValues(t, len(key), r.KeyLen)
				assert.Equal(t, key[:1_000], r.key)
				want := sha256.Sum256([]byte(key))
				if len(key) <= 1_000 {
					want = [32]byte{}
				}
				assert.Equal(t, want, r.KeySHA256)
				assert.Equal(t, "next", got.records[1].key)
				assert.Zero(t, got.records[1].KeySHA256)

				got = scanAll(t, file, rdb.Options{KeyLimit: 1 << 20, Window: window})
				assert.Equal(t, key, got.records[0].key)
				assert.Zero(t, got.records[0].KeySHA256)
			}
		})
	}
}

// TestVisitorErrors: whatever a visitor returns comes back untouched.
func TestVisitorErrors(t *testing.T) {
	file := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) {
		w.Function(noise(2_000)).String("key", noise(2_000))
	})
	errStop := errors.New("stop")
	failing := func(*rdb.Entry) (io.Writer, error) { return nil, errStop }
	broken := func(*rdb.Entry) (io.Writer, error) {
		return writerFunc(func([]byte) (int, error) { return 0, errStop }), nil
	}
	for name, v := range map[string]rdb.Visitor{
		"Value":             {Value: failing},
		"writer":            {Value: broken},
		"Entry":             {Entry: func(*rdb.Entry) error { return errStop }},
		"Function":          {Function: failing},
		"function's writer": {Function: broken},
	} {
		for _, window := range []int{0, rdb.MinWindow} {
			_, err := rdb.Scan(t.Context(), bytes.NewReader(file), v, rdb.Options{Window: window})
			assert.Equal(t, errStop, err, "%s, window %d", name, window)
		}
	}
	short := rdb.Visitor{Value: func(*rdb.Entry) (io.Writer, error) {
		return writerFunc(func(p []byte) (int, error) { return len(p) / 2, nil }), nil
	}}
	_, err := rdb.Scan(t.Context(), bytes.NewReader(file), short, rdb.Options{})
	assert.ErrorIs(t, err, io.ErrShortWrite)

	none := rdb.Visitor{Value: func(*rdb.Entry) (io.Writer, error) { return nil, nil }}
	_, err = rdb.Scan(t.Context(), bytes.NewReader(file), none, rdb.Options{Window: rdb.MinWindow})
	assert.NoError(t, err, "nobody wants the value")
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// lastWords gives its error together with the last data, and only once.
type lastWords struct {
	data []byte
	err  error
}

func (l *lastWords) Read(p []byte) (int, error) {
	n := copy(p, l.data)
	l.data = l.data[n:]
	if len(l.data) > 0 {
		return n, nil
	}
	err := l.err
	l.err = io.EOF
	return n, err
}

// TestSourceErrors: trouble with reading says nothing about the data.
func TestSourceErrors(t *testing.T) {
	data := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { rdbtest.Realistic(w, 1, 20_000) })
	for _, cause := range []error{os.ErrDeadlineExceeded, io.ErrUnexpectedEOF, errors.New("reset")} {
		for n := 0; n <= len(data); n += 997 {
			for _, r := range []io.Reader{
				io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(cause)),
				&lastWords{data: data[:n], err: cause},
			} {
				_, err := rdb.Scan(t.Context(), r, rdb.Visitor{}, rdb.Options{Window: 2_000})
				require.ErrorIs(t, err, cause)
				require.ErrorContains(t, err, fmt.Sprintf("at offset %d", n))
				require.NotErrorIs(t, err, rdb.ErrCorrupt)
			}
		}
	}
	_, err := rdb.Scan(t.Context(), readerFunc(func([]byte) (int, error) { return 0, nil }), rdb.Visitor{}, rdb.Options{})
	assert.ErrorIs(t, err, io.ErrNoProgress)
}

func TestCancel(t *testing.T) {
	data := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { rdbtest.Realistic(w, 1, 200_000) })
	ctx, cancel := context.WithCancelCause(t.Context())
	seen := 0
	_, err := rdb.Scan(ctx, bytes.NewReader(data), rdb.Visitor{Entry: func(*rdb.Entry) error {
		if seen++; seen == 10 {
			cancel(nil)
		}
		return nil
	}}, rdb.Options{Window: 4 << 10})
	assert.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, rdb.ErrCorrupt)
	assert.Less(t, seen, 200, "it stopped soon")
}

// TestNoGoroutineStays: every way out ends the one that sums.
func TestNoGoroutineStays(t *testing.T) {
	data := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { rdbtest.Realistic(w, 1, 100_000) })
	before := runtime.NumGoroutine()
	for n := 0; n < len(data); n += 1_009 {
		_, err := rdb.Scan(context.Background(), bytes.NewReader(data[:n]), rdb.Visitor{}, rdb.Options{Window: 1_000})
		require.Error(t, err)
	}
	_, err := rdb.Scan(context.Background(), bytes.NewReader(data), rdb.Visitor{}, rdb.Options{Window: 1_000})
	require.NoError(t, err)
	_, rest, err := rdb.ScanPreamble(context.Background(), bytes.NewReader(data), rdb.Visitor{}, rdb.Options{Window: 1_000})
	require.NoError(t, err)
	require.NotNil(t, rest)
	assert.Panics(t, func() {
		_, _ = rdb.Scan(context.Background(), bytes.NewReader(data), rdb.Visitor{Entry: func(*rdb.Entry) error { panic("visitor") }}, rdb.Options{Window: 1_000})
	})
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
}

func TestScanPreamble(t *testing.T) {
	const commands = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
	data := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { w.Aux("aof-base", "1"); rdbtest.Realistic(w, 1, 5_000) })
	for _, tail := range []string{"", commands, strings.Repeat(commands, 10_000)} {
		for _, window := range []int{0, rdb.MinWindow} {
			source := bytes.NewReader(append(bytes.Clone(data), tail...))
			sum, rest, err := rdb.ScanPreamble(t.Context(), source, rdb.Visitor{}, rdb.Options{Window: window})
			require.NoError(t, err)
			assert.EqualValues(t, len(data), sum.Size)
			got, err := io.ReadAll(rest)
			require.NoError(t, err)
			assert.Equal(t, tail, string(got))
		}
	}

	// An error that came together with the last bytes is not lost.
	cause := errors.New("reset")
	source := &lastWords{data: append(bytes.Clone(data), commands...), err: cause}
	_, rest, err := rdb.ScanPreamble(t.Context(), source, rdb.Visitor{}, rdb.Options{})
	require.NoError(t, err)
	got, err := io.ReadAll(rest)
	assert.Equal(t, commands, string(got))
	assert.ErrorIs(t, err, cause)

	_, _, err = rdb.ScanPreamble(t.Context(), bytes.NewReader(data[:len(data)-1]), rdb.Visitor{}, rdb.Options{})
	assert.ErrorIs(t, err, rdb.ErrTruncated)
}

// TestLyingLengths has files that announce far more than they hold.
func TestLyingLengths(t *testing.T) {
	huge := []byte{0x81, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	hugeLZF := cat([]byte{0xc3}, []byte{0x80, 0x7f, 0xff, 0xff, 0xff}, []byte{0x81, 0, 0, 0, 0x10, 0, 0, 0, 0})
	bodies := map[string][]byte{
		"key":            cat([]byte{0}, huge),
		"compressed key": cat([]byte{0}, hugeLZF),
		"string":         cat([]byte{0}, raw("key"), huge),
		"compressed":     cat([]byte{0}, raw("key"), hugeLZF),
		"aux":            cat([]byte{250}, raw("name"), huge),
		"function":       cat([]byte{245}, huge),
		"module":         cat([]byte{7}, raw("key"), huge, length(5), huge),
		"databases":      cat([]byte{254}, length(1<<31-1)),
		"slots":          cat([]byte{243}, raw(strings.Repeat("a", 40)), huge),
	}
	for _, rdbType := range []byte{1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22} {
		bodies[fmt.Sprintf("count of type %d", rdbType)] = cat([]byte{rdbType}, raw("key"), huge)
		bodies[fmt.Sprintf("compressed, type %d", rdbType)] = cat([]byte{rdbType}, raw("key"), hugeLZF)
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			for _, filler := range []string{"", strings.Repeat("\x00", 1<<20), strings.Repeat("\xe0\xff\x00", 1<<19)} {
				data := append(cat([]byte(rdbtest.Valkey9), body), filler...)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, err := rdb.Scan(t.Context(), bytes.NewReader(data), rdb.Visitor{}, rdb.Options{Deep: true})
				runtime.ReadMemStats(&after)
				assert.Error(t, err)
				assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20), "bytes allocated")
			}
		})
	}
}

func TestDump(t *testing.T) {
	value := raw(noise(10_000))
	var out bytes.Buffer
	d := rdb.NewDumpWriter(&out, 0, 11)
	for p := value; len(p) > 0; {
		n, err := d.Write(p[:min(len(p), 777)])
		require.NoError(t, err)
		p = p[n:]
	}
	require.NoError(t, d.Close())
	assert.Equal(t, rdb.AppendDump([]byte("kept"), 0, 11, value), append([]byte("kept"), out.Bytes()...))
	assert.Equal(t, len(value)+rdb.DumpOverhead, out.Len())

	errFull := errors.New("full")
	for left := range 3 {
		n := 0
		d := rdb.NewDumpWriter(writerFunc(func(p []byte) (int, error) {
			if n++; n > left {
				return 0, errFull
			}
			return len(p), nil
		}), 0, 11)
		_, err := d.Write(value)
		if err == nil {
			err = d.Close()
		}
		assert.ErrorIs(t, err, errFull)
	}
}

package rdb_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// TestRestore copies a server's data into another one by nothing but the raw
// values of its RDB file.
func TestRestore(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			ctx := t.Context()
			from := redisserver.Start(t, redisserver.Options{Version: version}).Client()
			require.NoError(t, redisserver.Fill(ctx, from, 1, 3_000))
			dir, err := from.ConfigGet(ctx, "dir").Result()
			require.NoError(t, err)
			require.NoError(t, from.Save(ctx).Err())
			file := read(t, filepath.Join(dir["dir"], "dump.rdb"))

			// A small window makes many values come in pieces.
			for _, window := range []int{0, 4 << 10} {
				to := redisserver.Start(t, redisserver.Options{Version: version}).Client()
				sum := restore(ctx, t, to, file, window)
				assert.NoError(t, redisserver.Compare(ctx, from, to))
				for _, db := range sum.DBs {
					conn := from.Conn()
					require.NoError(t, conn.Select(ctx, db.DB).Err())
					size, err := conn.DBSize(ctx).Result()
					require.NoError(t, err)
					assert.Equal(t, size, db.Keys, "keys of database %d", db.DB)
					require.NoError(t, conn.Select(ctx, 0).Err())
					require.NoError(t, conn.Close())
				}
			}
		})
	}
}

func restore(ctx context.Context, t *testing.T, client *goredis.Client, file []byte, window int) rdb.Summary {
	t.Helper()
	conn := client.Conn()
	defer func() { assert.NoError(t, conn.Close()) }()
	var version int
	_, err := fmt.Sscanf(string(file[len("REDIS"):len("REDIS0011")]), "%04d", &version)
	require.NoError(t, err)

	var payload bytes.Buffer
	var dump *rdb.DumpWriter
	open := func(e *rdb.Entry) (io.Writer, error) {
		payload.Reset()
		dump = rdb.NewDumpWriter(&payload, e.RDBType, uint16(version))
		return dump, nil
	}
	pipe := conn.Pipeline()
	var functions []*bytes.Buffer
	sum, err := rdb.Scan(ctx, bytes.NewReader(file), rdb.Visitor{
		Value: open,
		Entry: func(e *rdb.Entry) error {
			require.NoError(t, dump.Close())
			require.EqualValues(t, e.Size+rdb.DumpOverhead, payload.Len())
			pipe.Select(ctx, e.DB)
			pipe.Do(ctx, "RESTORE", string(e.Key), max(e.ExpireAt, 0), payload.String(), "ABSTTL")
			return nil
		},
		Function: func(e *rdb.Entry) (io.Writer, error) {
			functions = append(functions, new(bytes.Buffer))
			return functions[len(functions)-1], nil
		},
	}, rdb.Options{Window: window})
	require.NoError(t, err)
	for _, f := range functions {
		pipe.FunctionRestore(ctx, string(rdb.AppendDump(nil, 245, uint16(version), f.Bytes())))
	}
	pipe.Select(ctx, 0)
	_, err = pipe.Exec(ctx)
	require.NoError(t, err)
	return sum
}

// TestServersLoad lets real servers read what this package's tests are based
// on: the values written by hand and the data of the benchmarks.
func TestServersLoad(t *testing.T) {
	headers := map[string]string{
		redisserver.Redis60: rdbtest.Redis6, redisserver.Redis70: rdbtest.Redis70,
		redisserver.Redis80: rdbtest.Redis8, redisserver.Valkey81: rdbtest.Redis72,
	}
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			var values []handMadeValue
			for _, v := range handMade() {
				if strings.HasPrefix(v.header, "REDIS") && v.header <= headers[version] && v.kind != rdb.TypeModule {
					values = append(values, v)
				}
			}
			client := load(t, version, rdbtest.File(headers[version], func(w *rdbtest.Writer) {
				for i, v := range values {
					w.Value(v.rdbType, strconv.Itoa(i), v.value)
				}
			}))
			size, err := client.DBSize(t.Context()).Result()
			require.NoError(t, err)
			assert.EqualValues(t, len(values), size)
			for i, v := range values {
				key := strconv.Itoa(i)
				kind, err := client.Type(t.Context(), key).Result()
				require.NoError(t, err)
				assert.Equal(t, v.kind.String(), kind, v.name)
				command := map[rdb.Type]string{
					rdb.TypeString: "STRLEN", rdb.TypeList: "LLEN", rdb.TypeSet: "SCARD",
					rdb.TypeSortedSet: "ZCARD", rdb.TypeHash: "HLEN", rdb.TypeStream: "XLEN",
				}[v.kind]
				n, err := client.Do(t.Context(), command, key).Int64()
				require.NoError(t, err)
				if v.len != rdb.None {
					assert.Equal(t, v.len, n, v.name)
				}
			}
			if headers[version] < rdbtest.Redis72 {
				return // they do not know all types of the realistic data
			}
			realistic := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { rdbtest.Realistic(w, 1, 3<<20) })
			size, err = load(t, version, realistic).DBSize(t.Context()).Result()
			require.NoError(t, err)
			assert.Equal(t, scanAll(t, realistic, rdb.Options{Deep: true}).summary.Keys, size)
		})
	}
}

// load starts a server with the file as its data.
func load(t *testing.T, version string, file []byte) *goredis.Client {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dump.rdb"), file, 0o644))
	o := redisserver.Options{Version: version, Dir: dir}
	if version != redisserver.Redis60 {
		o.Config = []string{"sanitize-dump-payload yes"} // check packed values entry by entry
	}
	return redisserver.Start(t, o).Client()
}

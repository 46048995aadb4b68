package cli_test

import (
	"os"
	"path/filepath"

	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
)

// writeComparable writes the files that diff.txtar compares: what an old and a new
// server hold of the same data, and what became of that.
func writeComparable(dir string) error {
	const in2100 = 4_102_444_800_000
	old := rdbtest.File(rdbtest.Redis6, func(w *rdbtest.Writer) {
		w.SelectDB(0).String("user:1", "one").String("user:2", "two").String("plain", "text")
		w.Value(13, "user:3", rdbtest.AppendString(nil, string(rdbtest.Ziplist("name", "three", "age", "3"))))
		w.Set("tags:a", "x", "y", "z").ExpireAt(in2100).String("session:1", "s")
	})
	young := rdbtest.File(rdbtest.Redis8, func(w *rdbtest.Writer) {
		w.SelectDB(0).ExpireAt(in2100).String("session:1", "s").String("plain", "text")
		w.Value(20, "tags:a", rdbtest.AppendString(nil, string(rdbtest.Listpack("z", "y", "x"))))
		w.Hash("user:3", "age", "3", "name", "three").String("user:2", "two").String("user:1", "one")
	})
	changed := rdbtest.File(rdbtest.Redis8, func(w *rdbtest.Writer) {
		w.Function("#!lua name=f").SelectDB(0).ExpireAt(in2100+1000).String("session:1", "s").Set("plain", "text")
		w.ExpireAt(1).String("session:2", "gone")
		w.Hash("user:3", "age", "4", "name", "three").String("user:2", "two").String("user:1", "one")
		w.SelectDB(5).String("a \"strange\"\n\x00key", "v")
	})
	for name, data := range map[string][]byte{"old.rdb": old, "young.rdb": young, "changed.rdb": changed} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

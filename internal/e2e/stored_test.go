package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type backupList struct {
	Location string
	Items    []struct {
		ID, Kind, Folder, Namespace, Release, Source, Version, Problem string
		SizeBytes                                                      int64
		Keys                                                           *int64
	}
}

type verifyReport struct {
	ID, Location string
	Verified     bool
	Checks       []struct{ Name, Result, Detail string }
}

// results returns the outcome of each check.
func (r verifyReport) results() map[string]string {
	results := make(map[string]string)
	for _, c := range r.Checks {
		results[c.Name] = c.Result
	}
	return results
}

// What was stored is listed, shown and verified, and every change of it is found.
func testStoredBackups(t *testing.T, r *release) {
	s := r.session(t)
	s.run("backup", "list").exits(0).shows("No backups in tmp/redis-backups")
	s.run("backup", "show", "latest").exits(2).says("backup list")
	older := backup(s, "--transfer", "disk")
	newer := backup(s, "--transfer", "disk", "--pod", r.podName(0))
	assert.Equal(t, "primary", newer.Source.Role)
	assert.Equal(t, filepath.Join("tmp", "redis-backups", r.namespace, r.name, older.ID+".rdb"), older.File)

	list := decode[backupList](s.run("backup", "list", "-o", "json").exits(0).quiet())
	require.Len(t, list.Items, 2)
	for i, want := range []manifest{newer, older} {
		got := list.Items[i]
		assert.Equal(t, []string{want.ID, "rdb", r.namespace, r.name, want.Source.Instance, ""},
			[]string{got.ID, got.Kind, got.Namespace, got.Release, got.Source, got.Problem})
		assert.Equal(t, want.Files[0].SizeBytes, got.SizeBytes)
		if assert.NotNil(t, got.Keys) {
			assert.Equal(t, int64(25), *got.Keys)
		}
	}
	assert.Equal(t, []string{newer.ID, older.ID}, s.run("backup", "list", "-o", "name").exits(0).lines())
	s.run("backup", "list").exits(0).shows(older.ID, newer.ID, "intact")
	elsewhere := *s
	elsewhere.flags = []string{"-n", "elsewhere"}
	elsewhere.run("backup", "list").exits(0).shows("No backups")

	assert.Equal(t, newer.ID, decode[manifest](s.run("backup", "show", "latest", "-o", "json").exits(0).quiet()).ID)
	s.run("backup", "show", older.ID).exits(0).shows(older.Source.Instance, older.Files[0].SHA256, "25 string")
	s.run("backup", "show", older.ID[:len("rdb-")]).exits(2).says(older.ID, newer.ID)
	s.run("backup", "show", "rdb-20200101T000000Z-aaaa").exits(2).says("no snapshot")
	completion := s.complete("backup", "show", "--namespace", r.namespace, "")
	assert.Contains(t, completion, "latest")
	assert.Contains(t, completion, older.ID)

	all := map[string]string{"manifest": "ok", "size": "ok", "sha256": "ok", "structure": "ok", "crc64": "ok", "keys": "ok"}
	report := decode[verifyReport](s.run("backup", "verify", "latest", "-o", "json").exits(0).quiet())
	assert.True(t, report.Verified)
	assert.Equal(t, newer.ID, report.ID)
	assert.Equal(t, all, report.results())
	s.run("backup", "verify", older.File, "--deep").exits(0).shows("verified: ", "sha256")
	s.run("backup", "verify", "absent.rdb").exits(2).says("absent.rdb")

	// A bare file: no manifest, but its own checksum.
	bare := filepath.Join(s.dir, "dump.rdb")
	copyFile(t, older.path(s), bare)
	report = decode[verifyReport](s.run("backup", "verify", "dump.rdb", "-o", "json").exits(0).quiet())
	assert.Equal(t, map[string]string{
		"manifest": "skipped", "size": "skipped", "sha256": "skipped", "structure": "ok", "crc64": "ok", "keys": "skipped",
	}, report.results())
	flipBit(t, bare, -20)
	report = decode[verifyReport](s.run("backup", "verify", "dump.rdb", "-o", "json").exits(4))
	assert.False(t, report.Verified)
	assert.Contains(t, []string{report.results()["crc64"], report.results()["structure"]}, "failed")

	// One bit in the middle of a backup.
	flipBit(t, older.path(s), int(older.Files[0].SizeBytes)/2)
	failed := s.run("backup", "verify", older.ID).exits(4)
	failed.shows("FAILED", "sha256", "failed")
	report = decode[verifyReport](s.run("backup", "verify", older.ID, "-o", "json").exits(4))
	assert.Equal(t, "failed", report.results()["sha256"])
	assert.Equal(t, "ok", report.results()["size"])

	// A missing end, a changed manifest, a missing manifest.
	require.NoError(t, os.Truncate(older.path(s), older.Files[0].SizeBytes-9))
	s.run("backup", "verify", older.ID).exits(4).shows("size")
	assert.Contains(t, decode[backupList](s.run("backup", "list", "-o", "json").exits(0)).Items[1].Problem, "its manifest says")
	manifestPath := strings.TrimSuffix(newer.path(s), ".rdb") + ".manifest.json"
	text, err := os.ReadFile(manifestPath)
	require.NoError(t, err)
	changed := strings.Replace(string(text), `"role": "primary"`, `"role": "replica"`, 1)
	require.NotEqual(t, string(text), changed)
	require.NoError(t, os.WriteFile(manifestPath, []byte(changed), 0o600))
	s.run("backup", "verify", newer.ID).exits(4).shows("manifest", "changed after it was written")
	require.NoError(t, os.Remove(manifestPath))
	s.run("backup", "list").exits(0).shows("no manifest")
	s.run("backup", "show", "latest").exits(2).says("2 with problems")
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, data, 0o600))
}

// flipBit changes one bit of a file, counted in bytes from its beginning or, when
// negative, from its end.
func flipBit(t *testing.T, path string, at int) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 1
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

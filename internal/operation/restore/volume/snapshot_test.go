package volume_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/redis"
)

// beside is a volume.Volume whose claim beside has what it says.
type beside struct {
	openVolume
	has map[string]int64
}

func (b beside) Beside(context.Context, string, []string) (map[string]int64, error) {
	return b.has, nil
}

// What a server loads depends on its settings and version; a snapshot holds files of the
// settings and version that it was taken with.
func TestSnapshotFiles(t *testing.T) {
	both := map[string]int64{"dump.rdb": 7, "appendonlydir": 9}
	for name, c := range map[string]struct {
		holds     backup.Persistence
		has       map[string]int64
		aof       bool
		multipart bool
		want      map[string]string // the files placed, by name, and where from
	}{
		"a snapshot for a server without AOF":        {backup.PersistenceRDB, both, false, true, map[string]string{"dump.rdb": "dump.rdb"}},
		"parts for a server with AOF":                {backup.PersistenceAOF, both, true, true, map[string]string{"appendonlydir": "appendonlydir"}},
		"a single file for a newer server":           {backup.PersistenceAOF, map[string]int64{"appendonly.aof": 3}, true, true, map[string]string{"appendonly.aof": "appendonly.aof"}},
		"a single file for an old server":            {backup.PersistenceAOF, map[string]int64{"appendonly.aof": 3}, true, false, map[string]string{"appendonly.aof": "appendonly.aof"}},
		"an RDB file becomes the base":               {backup.PersistenceRDB, both, true, true, map[string]string{"appendonlydir/appendonly.aof.1.base.rdb": "dump.rdb", "appendonlydir/appendonly.aof.manifest": ""}},
		"an RDB file becomes the preamble":           {backup.PersistenceRDB, both, true, false, map[string]string{"appendonly.aof": "dump.rdb"}},
		"no AOF for a server that ignores it":        {backup.PersistenceAOF, map[string]int64{"appendonlydir": 9}, false, true, nil},
		"parts for a server that does not know them": {backup.PersistenceAOF, map[string]int64{"appendonlydir": 9}, true, false, nil},
		"nothing": {backup.PersistenceRDB, nil, false, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := &volume.Snapshot{Taken: backup.VolumeSnapshot{Name: "s", Ready: true, Holds: &backup.VolumeContents{Persistence: c.holds}}}
			l := volume.Layout{Dir: "/data", RDB: "dump.rdb", AOF: c.aof, AOFName: "appendonly.aof", AOFDir: "appendonlydir", Multipart: c.multipart}
			require.NoError(t, s.Look(t.Context(), beside{has: c.has}, l))
			files, err := s.Files(l)
			if c.want == nil {
				assert.Equal(t, operation.Refused, operation.KindOf(err))
				return
			}
			require.NoError(t, err)
			got := make(map[string]string)
			for _, f := range files {
				got[f.Name] = f.From
			}
			assert.Equal(t, c.want, got)
		})
	}
}

func TestSnapshotCheck(t *testing.T) {
	taken := func(change func(*backup.VolumeSnapshot)) *volume.Snapshot {
		s := backup.VolumeSnapshot{Namespace: "prod", Name: "s", Ready: true, Holds: &backup.VolumeContents{
			Product: "redis", Version: "7.0.15", Persistence: backup.PersistenceAOF,
		}}
		change(&s)
		return &volume.Snapshot{Taken: s}
	}
	server := func(version string, aof bool) volume.Layout {
		v, err := redis.ParseVersion("redis", version)
		require.NoError(t, err)
		return volume.Layout{AOF: aof, Version: v}
	}
	codes := func(s *volume.Snapshot, l volume.Layout) []string {
		findings, err := s.Check(t.Context(), nil, l)
		require.NoError(t, err)
		found := []string{}
		for _, f := range findings {
			found = append(found, f.Code)
		}
		return found
	}
	asIs := func(*backup.VolumeSnapshot) {}
	assert.Empty(t, codes(taken(asIs), server("7.0.15", true)))
	assert.Equal(t, []string{"appendonly-off"}, codes(taken(asIs), server("7.0.15", false)))
	assert.Equal(t, []string{"snapshot-not-ready"}, codes(taken(func(s *backup.VolumeSnapshot) { s.Ready = false }), server("8.0.2", true)))
	assert.Equal(t, []string{"contents-unknown"}, codes(taken(func(s *backup.VolumeSnapshot) { s.Holds = nil }), server("7.0.15", true)))
	_, err := taken(asIs).Check(t.Context(), nil, server("6.0.16", true))
	assert.Equal(t, operation.Unsupported, operation.KindOf(err))
}

package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/render"
)

func drawn(t *testing.T, d render.Document, format string) string {
	t.Helper()
	f, err := render.ParseFormat(format)
	require.NoError(t, err)
	var out strings.Builder
	require.NoError(t, render.Printer{Out: &out, Format: f}.Print(d))
	return out.String()
}

// Every state a snapshot can be in has its word, also those that others left.
func TestVolumeListShowsEveryState(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	taken := now.Add(-time.Hour)
	known := &backup.VolumeContents{
		Instance: "cache-redis-0", Role: "primary", Product: "redis", Version: "7.0.15", Persistence: backup.PersistenceRDB,
		Keys: []redis.DBKeys{{DB: 0, Keys: 10}, {DB: 5, Keys: 2}},
	}
	list := []backup.VolumeSnapshot{
		{Namespace: "prod", Name: "done", Release: "cache", Created: taken, Taken: &taken, Ready: true, RestoreSize: 1 << 30, Holds: known},
		{Namespace: "prod", Name: "copying", Release: "cache", Created: taken, Taken: &taken, Holds: &backup.VolumeContents{
			Instance: "cache-redis-1", Persistence: backup.PersistenceUnknown,
		}},
		{Namespace: "prod", Name: "asked", Release: "cache", Created: taken},
		{Namespace: "prod", Name: "broken", Release: "cache", Created: taken, Problem: "the pool is full"},
	}
	text := drawn(t, volumeListDocument(list, 5, now), "table")
	assert.Equal(t, `NAME      RELEASE       AGE      SIZE   KEYS   STATE                       POD             HOLDS
done      prod/cache   1h0m   1.0 GiB     12   ready                       cache-redis-0   rdb
copying   prod/cache   1h0m                    taken, not ready            cache-redis-1   as-is
asked     prod/cache   1h0m                    not taken                                   unknown
broken    prod/cache   1h0m                    failing: the pool is full                   unknown

4 of 5 are shown (--limit).
`, text)
	assert.Equal(t, "done\ncopying\nasked\nbroken\n", drawn(t, volumeListDocument(list, 4, now), "name"))
	assert.Contains(t, drawn(t, volumeListDocument([]backup.VolumeSnapshot{}, 0, now), "table"), "No volume snapshots")
	assert.Contains(t, drawn(t, volumeListDocument([]backup.VolumeSnapshot{}, 0, now), "json"), `"snapshots": []`)
}

func TestVolumeShowsWhatIsNotKnown(t *testing.T) {
	text := drawn(t, volumesDocument([]backup.VolumeSnapshot{{
		Name: "s", Holds: &backup.VolumeContents{Instance: "cache-redis-0", Persistence: backup.PersistenceUnknown},
	}}), "table")
	for _, line := range []string{
		"cache-redis-0 (did not answer)", "what was on the disk (--as-is)", "position  not known", "keys      not known",
		"taken     not stated by the driver", "size      not stated by the driver",
	} {
		assert.Contains(t, text, line)
	}
}

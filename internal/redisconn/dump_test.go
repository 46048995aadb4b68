package redisconn_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// TestDumpOfAnOrphan: a replica that lost its primary refuses a snapshot; key by key it
// gives the same data.
func TestDumpOfAnOrphan(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		primary := redisserver.Start(t, redisserver.Options{Version: version, Password: "s3cret", Config: []string{disklessSync}})
		require.NoError(t, redisserver.Fill(t.Context(), primary.Client(), 11, 3000))
		other := primary.NewClient(3)
		require.NoError(t, other.Set(t.Context(), "in another database", "x", time.Hour).Err())
		replica := redisserver.Start(t, redisserver.Options{Version: version, Password: "s3cret", ReplicaOf: primary})
		replica.WaitInSync()
		o := redisconn.Options{Name: "primary", Dial: primary.Dial, Password: "s3cret"}
		_, want, err := snapshot(t.Context(), o, redisconn.SnapshotOptions{})
		require.NoError(t, err)
		primary.Kill()
		replica.WaitFor("the end of its link", func(ctx context.Context) bool {
			info, err := replica.Client().Info(ctx, "replication").Result()
			return err == nil && strings.Contains(info, "master_link_status:down")
		})

		connector := redisconn.Connector{
			Dial: redisconn.DialInstance,
			Credentials: func(context.Context, *operation.Deployment) (string, string, error) {
				return "", "s3cret", nil
			},
		}
		d, err := redisconn.Addresses{}.Resolve(t.Context(), operation.Target{Addresses: []string{replica.Addr}})
		require.NoError(t, err)
		_, err = connector.OpenSnapshot(t.Context(), d, d.Instances[0], redisconn.SnapshotOptions{})
		var refusal *redisconn.ReplyError
		require.ErrorAs(t, err, &refusal)
		assert.Equal(t, "NOMASTERLINK", refusal.Code())

		dump, err := connector.OpenDump(t.Context(), d, d.Instances[0])
		require.NoError(t, err)
		got, err := io.ReadAll(dump)
		require.NoError(t, err)
		require.NoError(t, dump.Close())
		assert.True(t, isWholeRDB(got))
		difference, err := rdbdiff.Compare(t.Context(), bytes.NewReader(want), bytes.NewReader(got), rdbdiff.Options{Examples: 5, Now: time.Now()})
		require.NoError(t, err)
		if version == redisserver.Redis60 { // which tells in how long a key expires, not when
			assert.Zero(t, difference.Total.OnlyInA.Keys+difference.Total.OnlyInB.Keys+difference.Total.Changed.Keys+difference.Total.Undecided.Keys)
			return
		}
		assert.True(t, difference.Same, "%+v", difference.Total)
	})
}

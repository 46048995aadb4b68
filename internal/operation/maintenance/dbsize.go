package maintenance

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// DBSize is how many keys the instances of a deployment hold.
type DBSize struct {
	Namespace string         `json:"namespace,omitempty"`
	Release   string         `json:"release,omitempty"`
	Name      string         `json:"name"`
	Instances []InstanceSize `json:"instances"`

	answers []inspect.Answer[struct{}]
}

// InstanceSize is how many keys one instance holds.
type InstanceSize struct {
	Name  string     `json:"name"`
	Role  redis.Role `json:"role,omitempty"`
	Error string     `json:"error,omitempty"`
	Keys  int64      `json:"keys"`
	// Expires is how many of the keys have a time to live.
	Expires   int64    `json:"expires"`
	Databases []DBKeys `json:"databases"`
	// Follows names the primary that a replica is compared with; empty when that is not
	// one of the deployment, or did not answer.
	Follows string `json:"follows,omitempty"`
	// Differs is set on a replica whose counts are not those of its primary.
	Differs bool `json:"differs"`
	// BehindBytes is how much of the primary's history a replica had yet to apply.
	BehindBytes int64 `json:"behindBytes"`
}

// DBKeys counts the keys of one database of one instance.
type DBKeys struct {
	redis.DBKeys
	// AvgTTLMS is the server's estimate of the mean time to live of those that have one,
	// in ms; 0 when it has not looked yet. A replica does not estimate.
	AvgTTLMS int64 `json:"avgTTLMilliseconds"`
	// Difference to the primary's database in keys: below 0 when keys are missing. Always
	// 0 on a primary.
	Difference int64 `json:"difference"`
}

// settleTries is how often a difference is looked at again before it is told: counts of
// two servers are never taken at the same moment.
const (
	settleTries = 3
	settlePause = 300 * time.Millisecond
)

// Size counts the keys of every instance, and compares the replicas with their
// primaries. A difference is looked at several times before it is told.
func (m Maintenance) Size(ctx context.Context, d *operation.Deployment) (DBSize, error) {
	for try := 1; ; try++ {
		size := m.sizeOnce(ctx, d)
		if try == settleTries || !size.AnyDiffers() {
			return size, inspect.Failure(size.answers)
		}
		select {
		case <-ctx.Done():
			return size, ctx.Err()
		case <-time.After(settlePause):
		}
	}
}

// Only leaves one instance of those that were compared, and returns why it did not answer.
func (s *DBSize) Only(name string) error {
	s.Instances = slices.DeleteFunc(s.Instances, func(i InstanceSize) bool { return i.Name != name })
	s.answers = slices.DeleteFunc(s.answers, func(a inspect.Answer[struct{}]) bool { return a.Instance != name })
	return inspect.Failure(s.answers)
}

// AnyDiffers reports whether a replica's counts are not those of its primary.
func (s DBSize) AnyDiffers() bool {
	for _, i := range s.Instances {
		if i.Differs {
			return true
		}
	}
	return false
}

func (m Maintenance) sizeOnce(ctx context.Context, d *operation.Deployment) DBSize {
	t := topology.Observe(ctx, m.Connector, d, m.Timeout)
	size := DBSize{Namespace: d.Namespace, Release: d.Release, Name: d.Name, Instances: make([]InstanceSize, len(t.Members))}
	for n := range t.Members {
		i, member := &size.Instances[n], &t.Members[n]
		i.Name = member.Name
		size.answers = append(size.answers, inspect.Answer[struct{}]{Instance: member.Name, Err: member.Err})
		if member.Err != nil {
			i.Error = member.Err.Error()
			continue
		}
		i.Role, i.Databases = member.Replication.Role, databases(member.Info)
		for _, db := range i.Databases {
			i.Keys += db.Keys
			i.Expires += db.Expires
		}
	}
	for n := range t.Members {
		size.compare(&t, n)
	}
	return size
}

// databases reads the keyspace section with the mean times to live.
func databases(info redis.Info) []DBKeys {
	dbs := []DBKeys{}
	for _, db := range info.Keyspace() {
		keys := DBKeys{DBKeys: db}
		for field := range strings.SplitSeq(info.Get("db"+strconv.Itoa(db.DB)), ",") {
			if value, ok := strings.CutPrefix(field, "avg_ttl="); ok {
				keys.AvgTTLMS, _ = strconv.ParseInt(value, 10, 64) // 0 when it is something else
			}
		}
		dbs = append(dbs, keys)
	}
	return dbs
}

// compare compares a replica with its primary.
func (s *DBSize) compare(t *topology.Topology, n int) {
	replica, member := &s.Instances[n], &t.Members[n]
	followed := slices.IndexFunc(t.Members, func(m topology.Member) bool { return m.Name == member.Follows })
	if member.Err != nil || followed < 0 || t.Members[followed].Err != nil {
		return
	}
	replica.Follows, replica.BehindBytes = member.Follows, max(0, member.Behind)
	theirs := make(map[int]DBKeys)
	for _, db := range s.Instances[followed].Databases {
		theirs[db.DB] = db
	}
	for i := range replica.Databases {
		db := &replica.Databases[i]
		db.Difference = db.Keys - theirs[db.DB].Keys
		replica.Differs = replica.Differs || db.Difference != 0 || db.Expires != theirs[db.DB].Expires
		delete(theirs, db.DB)
	}
	for _, db := range s.Instances[followed].Databases {
		if _, missing := theirs[db.DB]; missing {
			replica.Differs = true
			replica.Databases = append(replica.Databases, DBKeys{DBKeys: redis.DBKeys{DB: db.DB}, Difference: -db.Keys})
		}
	}
}

package volume

import (
	"context"
	"fmt"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// Snapshot is a Source: a VolumeSnapshot. A claim is made from it, and its files are
// copied from there by the helper pod. The release keeps its own claim: replacing that
// would take permissions on the cluster's volumes, and leave the claim different from
// what the StatefulSet's template says.
type Snapshot struct {
	Taken backup.VolumeSnapshot

	// sizes are those of what the claim made from it has, by name.
	sizes map[string]int64
}

// Name implements Source.
func (s *Snapshot) Name() string { return s.Taken.Name }

// Origin implements Source.
func (s *Snapshot) Origin() Origin { return Origin{Command: CommandVolume, Ref: s.Taken.Name} }

// Describe implements Source. What the files take is known only when they are seen.
func (s *Snapshot) Describe() restore.Contents {
	c := restore.Contents{}
	for _, size := range s.sizes {
		c.Size += size
	}
	if s.Taken.Release != "" {
		c.Source = &snapshot.Source{Namespace: s.Taken.Namespace, Release: s.Taken.Release}
	}
	return c
}

// Check implements Source.
func (s *Snapshot) Check(_ context.Context, _ operation.Server, l Layout) ([]operation.Finding, error) {
	found := []operation.Finding{}
	add := func(code string, severity operation.Severity, message, hint string) {
		found = append(found, operation.Finding{Code: code, Severity: severity, Subject: s.Taken.Name, Message: message, Hint: hint})
	}
	if !s.Taken.Ready {
		message := "the storage has not finished it"
		if s.Taken.Problem != "" {
			message = s.Taken.Problem
		}
		add("snapshot-not-ready", operation.Critical, message, fmt.Sprintf("kubectl describe volumesnapshot -n %s %s", s.Taken.Namespace, s.Taken.Name))
	}
	holds := s.Taken.Holds
	if holds == nil {
		add("contents-unknown", operation.Notice, "it was not made by redisctl: what it holds is not known, and cannot be compared", "")
		return found, nil
	}
	if !l.AOF && holds.Persistence == backup.PersistenceAOF {
		add("appendonly-off", operation.Critical, "its data is in an append-only file, which these servers ignore (appendonly no)",
			"set appendonly yes in the release first")
	}
	taken, err := redis.ParseVersion(holds.Product, holds.Version)
	if err != nil || l.Version == (redis.Version{}) {
		return found, nil //nolint:nilerr // without both versions there is nothing to compare
	}
	if taken.RDBVersion() > l.Version.RDBVersion() {
		return nil, &operation.Error{
			Kind: operation.Unsupported, Object: s.Taken.Name, Phase: "comparing versions",
			Err:       fmt.Errorf("it was taken of %s, %s cannot read its files", taken, l.Version),
			Unchanged: "nothing was changed",
		}
	}
	return found, nil
}

// Look finds out what the claim made from the snapshot has.
func (s *Snapshot) Look(ctx context.Context, v Volume, l Layout) error {
	var err error
	s.sizes, err = v.Beside(ctx, l.Dir, l.names())
	return err
}

// Files implements Source.
func (s *Snapshot) Files(l Layout) ([]File, error) {
	has := func(name string) bool { _, ok := s.sizes[name]; return ok }
	whole := func(name string) []File { return []File{{Name: name, From: name, Size: s.sizes[name]}} }
	rdb := s.Taken.Holds != nil && s.Taken.Holds.Persistence == backup.PersistenceRDB
	switch {
	case !l.AOF && has(l.RDB):
		return whole(l.RDB), nil
	case l.AOF && !rdb && l.Multipart && has(l.AOFDir):
		return whole(l.AOFDir), nil
	case l.AOF && !rdb && has(l.AOFName): // since 7.0 a server takes it over when it starts
		return whole(l.AOFName), nil
	case l.AOF && has(l.RDB):
		files, err := RDB{Contents: restore.Contents{Size: s.sizes[l.RDB]}}.Files(l)
		if err != nil {
			return nil, err
		}
		files[0].Open, files[0].From = nil, l.RDB
		return files, nil
	}
	return nil, operation.Errorf(operation.Refused, "%s holds nothing that a server with appendonly %s loads: there are %d of %v",
		s.Taken.Name, yesNo(l.AOF), len(s.sizes), l.names())
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// Prove implements Source. There is nothing to compare values with; the numbers of keys
// are those of the moment before the snapshot, and writes may have been added until it
// was taken.
func (s *Snapshot) Prove(
	ctx context.Context, c restore.Comparer, d *operation.Deployment, i operation.Instance, _ int64,
) (restore.Comparison, error) {
	server, err := c.Connector.Connect(ctx, d, i)
	if err != nil {
		return restore.Comparison{}, err
	}
	defer func() { _ = server.Close() }() // it was only asked
	info, err := server.Info(ctx, "keyspace", "stats")
	if err != nil {
		return restore.Comparison{}, err
	}
	found := restore.Comparison{
		Instance: i.Name, DBs: []restore.DBComparison{}, Examples: []restore.Example{}, Evicted: info.Int("evicted_keys"), Equal: true,
	}
	numbers := make(map[int]int64)
	for _, db := range info.Keyspace() {
		numbers[db.DB] = db.Keys
	}
	if s.Taken.Holds == nil {
		return found, nil
	}
	for _, db := range s.Taken.Holds.Keys {
		compared := restore.DBComparison{DB: db.DB, Backup: db.Keys, Expired: db.Expires, Found: numbers[db.DB]}
		found.DBs = append(found.DBs, compared)
		found.Equal = found.Equal && compared.Found >= compared.Backup-compared.Expired
	}
	return found, nil
}

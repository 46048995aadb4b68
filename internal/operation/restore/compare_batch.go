package restore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
)

// A batch is asked for at once. Its size in bytes keeps the time limits of slow
// connections and the memory for answers small; a value that is larger goes alone.
type batch struct {
	db   int
	keys []expected
	size int64
}

const (
	maxBatchKeys  = 200
	maxBatchBytes = 1 << 20
)

// expected is what the backup has of a key.
type expected struct {
	Query
	db       int
	digest   rdb.ValueDigest
	expireAt int64 // or rdb.None
	length   int64 // or rdb.None
	empty    bool
}

// mayBeGone reports whether a server whose clock shows now may have dropped the key.
func (k *expected) mayBeGone(now time.Time) bool {
	return k.empty || k.expireAt != rdb.None && now.UnixMilli() > k.expireAt || k.fieldsGone(now)
}

// fieldsGone reports whether a field of the hash has expired.
func (k *expected) fieldsGone(now time.Time) bool {
	return k.digest.FieldExpiry != 0 && now.UnixMilli() >= k.digest.FieldExpiry
}

// compareBatches compares what it is given, over a connection of its own.
func (r *comparing) compareBatches(ctx context.Context) (err error) {
	values, err := r.comparer.Values.OpenValues(ctx, r.deployment, r.instance)
	if err != nil {
		return err
	}
	defer func() { _ = values.Close() }() // it was only asked
	digester := rdb.NewDumpDigester(ctx)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case b, more := <-r.batches:
			if !more {
				return nil
			}
			part, err := b.compare(ctx, values, digester)
			if err != nil {
				return err
			}
			r.add(part)
		}
	}
}

// compare asks for a batch and returns what differs from it.
func (b *batch) compare(ctx context.Context, values ValueReader, digester *rdb.DumpDigester) (*Comparison, error) {
	queries := make([]Query, len(b.keys))
	for i := range b.keys {
		queries[i] = b.keys[i].Query
	}
	answers, err := values.Read(ctx, b.db, queries, b.size)
	if err != nil {
		return nil, err
	}
	part := &Comparison{Keys: int64(len(b.keys))}
	for i := range b.keys {
		if err := part.compareKey(&b.keys[i], &answers, answers.Answers[i], digester); err != nil {
			return nil, err
		}
	}
	return part, nil
}

// compareKey enters what one key's comparison gives.
func (c *Comparison) compareKey(k *expected, all *Answers, a Answer, digester *rdb.DumpDigester) error {
	if !a.Exists {
		if k.mayBeGone(all.Until) {
			c.Expired++
			return nil
		}
		c.Missing++
		c.differs(k.db, k.Key, "is missing")
		return nil
	}
	problem, known, err := k.compareValue(a, digester)
	switch {
	case err != nil:
		return fmt.Errorf("DUMP of db %d, key %s: %w", k.db, rdbdiff.Escape(k.Key), err)
	case problem != "" && k.fieldsGone(all.Until):
		c.Expired++
		return nil
	case problem != "":
		c.Different++
		c.differs(k.db, k.Key, problem)
		return nil
	case !known:
		c.NotComparable++
	}
	if problem := k.compareExpiry(a.Expires, all.Exact); problem != "" {
		c.ExpiryDiffers++
		c.differs(k.db, k.Key, problem)
	}
	return nil
}

// compareValue says what is not as in the backup. known is false when there is no
// telling.
func (k *expected) compareValue(a Answer, digester *rdb.DumpDigester) (problem string, known bool, err error) {
	if k.LengthOnly {
		return k.compareLength(a.Length), false, nil
	}
	kind, digest, err := digester.Digest(a.Payload)
	switch {
	case errors.Is(err, rdb.ErrUnsupported):
		return "", false, nil
	case errors.Is(err, rdb.ErrCorrupt):
		return "has a value that cannot be read: " + err.Error(), true, nil
	case err != nil:
		return "", false, err
	case kind != k.Type:
		return fmt.Sprintf("is a %s, in the backup a %s", kind, k.Type), true, nil
	case digest.Sum == k.digest.Sum:
		return "", true, nil
	case !digest.Canonical || !k.digest.Canonical:
		return "", false, nil
	default:
		return "has another value", true, nil
	}
}

func (k *expected) compareLength(length int64) string {
	switch {
	case k.Type == rdb.TypeModule || k.length == rdb.None:
		return ""
	case length == rdb.None:
		return fmt.Sprintf("is no %s, which it is in the backup", k.Type)
	case length != k.length:
		return fmt.Sprintf("has a length of %d, in the backup of %d", length, k.length)
	default:
		return ""
	}
}

// inexactExpiry is by how much a time may be off that was told as how long is left.
const inexactExpiry = time.Second

func (k *expected) compareExpiry(found time.Time, exact bool) string {
	const layout = "2006-01-02T15:04:05.000Z"
	switch {
	case k.expireAt == rdb.None && found.IsZero():
		return ""
	case k.expireAt == rdb.None:
		return fmt.Sprintf("expires at %s, in the backup never", found.UTC().Format(layout))
	}
	expected := time.UnixMilli(k.expireAt)
	if found.IsZero() {
		return fmt.Sprintf("never expires, in the backup at %s", expected.UTC().Format(layout))
	}
	if off := found.Sub(expected).Abs(); off == 0 || !exact && off <= inexactExpiry {
		return ""
	}
	return fmt.Sprintf("expires at %s, in the backup at %s", found.UTC().Format(layout), expected.UTC().Format(layout))
}

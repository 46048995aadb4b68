package s3

import (
	"context"
	"errors"
	"net"
)

// SetDial replaces how connections are made.
func (o *Options) SetDial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	o.dial = dial
}

// PartSize is partSize.
func PartSize(n int) int { return partSize(n) }

// MaxParts is the most that an upload can have.
const MaxParts = maxParts

// Parts returns how many parts the unfinished uploads of an object have.
func (s *Store) Parts(ctx context.Context, name string) (int, error) {
	uploads, err := s.uploads(ctx, s.key(name))
	parts := 0
	for _, u := range uploads {
		page, partsErr := s.core.ListObjectParts(ctx, s.options.Bucket, u.Key, u.UploadID, 0, listPage)
		parts += len(page.ObjectParts)
		err = errors.Join(err, partsErr)
	}
	return parts, err
}

package rdb

import "context"

// A DumpDigester computes the digests of values in DUMP payloads: those that
// ScanDigests computes of the same values in a file. It keeps a buffer of
// DefaultWindow bytes and is not safe for concurrent use.
type DumpDigester struct{ digester *digester }

// NewDumpDigester returns a DumpDigester that works until ctx ends.
func NewDumpDigester(ctx context.Context) *DumpDigester {
	d := newDigester(ctx, new(scanner))
	d.in.buf = make([]byte, DefaultWindow)
	return &DumpDigester{d}
}

// Digest returns the type and the digest of the value in a payload. An error matches
// ErrCorrupt when the payload is damaged, and ErrUnsupported when this package does not
// know the type. Versions newer than those it knows are read all the same: the form of a
// type has never changed without a new type byte.
func (d *DumpDigester) Digest(payload []byte) (Type, ValueDigest, error) {
	version, body, err := openDump(payload)
	if err != nil {
		return 0, ValueDigest{}, err
	}
	g := d.digester
	g.scanner.sum.Origin = OriginRedis
	if version >= valkeyVersion {
		g.scanner.sum.Origin = OriginValkey
	}
	g.rdbType, g.offset, g.section = body[0], 1, "DUMP payload"
	g.in.section, g.in.start = g.section, 0
	k, known := kindOf(body[0], g.scanner.sum.Origin, int(version))
	if !known {
		return 0, ValueDigest{}, g.in.failAt(0, ErrUnsupported, "type %d of RDB version %d", body[0], version)
	}
	g.source.Reset(body[1:])
	if err := g.run(&g.source); err != nil {
		return 0, ValueDigest{}, err
	}
	if left := g.in.w - g.in.r + g.source.Len(); left > 0 {
		return 0, ValueDigest{}, g.in.fail(ErrCorrupt, "%d bytes behind the value", left)
	}
	return k.Type, g.digest, nil
}

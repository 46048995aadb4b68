package codec

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// What encoded data begins with.
var (
	ageMagic  = []byte("age-encryption.org/v1\n") //nolint:gochecknoglobals // a constant
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}    //nolint:gochecknoglobals // a constant
)

// Reader reads what was encoded. Data that is not encoded is passed on.
type Reader struct {
	source *source
	codecs []string
	layers []*layer // the one nearest to the contents is the last
	top    io.Reader
	zstd   *zstd.Decoder
}

// NewReader finds out from the data how it was encoded, which it reads the
// beginning of. keys may be nil. The caller calls Close, after which nothing is
// read from r any more.
//
// Errors of r are passed on as they are, whatever the codecs make of them; errors
// of the data are *Error. When NewReader fails, r has been read up to some point
// and can be read on, for a digest of all of it.
func NewReader(r io.Reader, keys *Keys) (*Reader, error) {
	if keys == nil {
		keys = &Keys{}
	}
	out := &Reader{source: &source{r: r}}
	out.top = out.source
	err := out.open(keys)
	if out.source.err != nil {
		err = out.source.err
	}
	if err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}

func (r *Reader) open(keys *Keys) error {
	if found, err := r.sniff(ageMagic); err != nil {
		return err
	} else if found {
		decrypted, err := age.Decrypt(r.top, keys.list()...)
		if err != nil {
			return keys.explainKey(err)
		}
		r.push(Age, decrypted)
	}
	if found, err := r.sniff(zstdMagic); err != nil {
		return err
	} else if found {
		decoder, err := zstd.NewReader(r.top,
			zstd.WithDecoderMaxWindow(MaxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return explainZstd(err)
		}
		r.zstd = decoder
		r.push(Zstd, decoder)
	}
	return nil
}

// sniff reports whether the data that is left begins with magic.
func (r *Reader) sniff(magic []byte) (bool, error) {
	ahead := bufio.NewReaderSize(r.top, sniffBuffer)
	begin, err := ahead.Peek(len(magic))
	r.top = ahead
	if err != nil && !errors.Is(err, io.EOF) {
		return false, r.explain(err)
	}
	return bytes.Equal(begin, magic), nil
}

// sniffBuffer holds a whole chunk of age's.
const sniffBuffer = 64 << 10

func (r *Reader) push(name string, decoded io.Reader) {
	l := &layer{name: name, r: decoded}
	r.codecs = append([]string{name}, r.codecs...)
	r.layers = append(r.layers, l)
	r.top = l
}

// Codecs names what was done to the data, in the order in which it was done. It
// is empty for data that is not encoded.
func (r *Reader) Codecs() []string { return r.codecs }

func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.top.Read(p)
	if err != nil {
		err = r.explain(err)
	}
	return n, err
}

// Close ends the decoding. It does not close the underlying reader.
func (r *Reader) Close() {
	if r.zstd != nil {
		r.zstd.Close()
	}
}

// explain returns the first error that happened, which is the deepest: the layers
// above report the consequences.
func (r *Reader) explain(err error) error {
	if r.source.err != nil {
		return r.source.err
	}
	for _, l := range r.layers {
		switch {
		case l.err == nil:
		case l.name == Zstd:
			return explainZstd(l.err)
		default:
			return &Error{Kind: ErrCorrupt, Codec: l.name, Msg: explainCut(l.err)}
		}
	}
	return err
}

func explainZstd(err error) error {
	kind := ErrCorrupt
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrUnknownDictionary) {
		kind = ErrUnsupported
	}
	return &Error{Kind: kind, Codec: Zstd, Msg: explainCut(err)}
}

func explainCut(err error) string {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	return shorten(err)
}

// layer keeps the first error of a codec.
type layer struct {
	name string
	r    io.Reader
	err  error // not io.EOF
}

func (l *layer) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err != nil && l.err == nil && err != io.EOF {
		l.err = err
	}
	return n, err
}

// source keeps the first error of the underlying reader.
type source struct {
	r   io.Reader
	err error // not io.EOF
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && s.err == nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

package aof

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Log is an append-only file with all its parts.
type Log struct {
	// Parts in the order of loading. A single file (before 7.0) is one part.
	Parts []LogPart
}

// LogPart is one file of a Log.
type LogPart struct {
	// Name of the file, without its folder.
	Name string
	// Seq and Part are those of the manifest; 0 and empty for a single file.
	Seq  int64
	Part Part
	// Open reads the file from its beginning. Each caller closes what it gets.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Names are those of the parts.
func (l Log) Names() string {
	names := make([]string, len(l.Parts))
	for i, p := range l.Parts {
		names[i] = p.Name
	}
	return strings.Join(names, ", ")
}

// Slice is the beginning of a LogPart: what a Cut leaves of it.
type Slice struct {
	LogPart
	// Bytes is how much of the file is left.
	Bytes int64
	// Annotations is how many of them belong to lines such as "#TS:1628217473".
	Annotations int64
	// Preamble is how many of them are an RDB that comes first.
	Preamble int64
}

// OpenSlice reads the slice. A file that has become shorter since is an error.
func (s Slice) OpenSlice(ctx context.Context) (io.ReadCloser, error) {
	file, err := s.Open(ctx)
	if err != nil {
		return nil, err
	}
	return &limited{ReadCloser: file, name: s.Name, left: s.Bytes}, nil
}

// limited reads exactly left bytes.
type limited struct {
	io.ReadCloser
	name string
	left int64
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n, err := l.ReadCloser.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	if errors.Is(err, io.EOF) && l.left > 0 {
		err = fmt.Errorf("%s: %w: %d bytes are missing", l.name, io.ErrUnexpectedEOF, l.left)
	}
	return n, err
}

// OpenPlain is OpenSlice without the annotations, which servers before 7.0 do not
// load.
func (s Slice) OpenPlain(ctx context.Context) (io.ReadCloser, error) {
	file, err := s.OpenSlice(ctx)
	if err != nil || s.Annotations == 0 {
		return file, err
	}
	ctx, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = in.CloseWithError(copyPlain(ctx, in, file, s.Preamble)) // never fails
	}()
	return &plain{PipeReader: out, end: func() error {
		cancel()
		_ = out.Close() // never fails
		<-done
		return file.Close()
	}}, nil
}

type plain struct {
	*io.PipeReader
	end func() error
}

// Close implements io.Closer.
func (p *plain) Close() error { return p.end() }

// copyPlain copies a file without its annotations. Its first bytes, an RDB of the given
// size, are copied as they are.
func copyPlain(ctx context.Context, w io.Writer, r io.Reader, preamble int64) error {
	if _, err := io.CopyN(w, r, preamble); err != nil {
		return err
	}
	c := commands{ctx: ctx, in: bufio.NewReaderSize(r, window), out: w, sum: &Summary{}, at: preamble}
	return c.scan()
}

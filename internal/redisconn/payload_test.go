package redisconn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testBuffer is as small as it may be, for it is allocated often.
const testBuffer = maxLine + 1024

const testMark = "0123456789abcdef0123456789abcdef01234567"

// readPayload runs the parser over a source: keep-alives, the header line, the
// snapshot.
func readPayload(source io.Reader, bufSize int) ([]byte, error) {
	p := &payload{source: source, buf: make([]byte, bufSize)}
	line := ""
	for line == "" {
		var err error
		if line, err = p.readLine(); err != nil {
			return nil, err
		}
	}
	s := &SnapshotStream{payload: *p}
	if err := s.parseHeader(line); err != nil {
		return nil, err
	}
	return io.ReadAll(&s.payload)
}

// splitReader yields a text in pieces that end at the given positions.
type splitReader struct {
	text string
	at   []int
	pos  int
}

func (r *splitReader) Read(p []byte) (int, error) {
	end := len(r.text)
	for _, at := range r.at {
		if at > r.pos {
			end = min(end, at)
		}
	}
	if r.pos == end {
		return 0, io.EOF
	}
	n := copy(p, r.text[r.pos:end])
	r.pos += n
	return n, nil
}

var conversations = map[string]struct {
	text, want string
}{
	"eof":                         {"\n\n$EOF:" + testMark + "\r\nREDIS0011" + testMark, "REDIS0011"},
	"eof, newline behind (7.0.0)": {"$EOF:" + testMark + "\r\nREDIS0011" + testMark + "\n", "REDIS0011"},
	"eof, half a mark inside":     {"$EOF:" + testMark + "\r\n" + testMark[:39] + "x" + testMark[:20] + testMark, testMark[:39] + "x" + testMark[:20]},
	"eof, newlines inside":        {"$EOF:" + testMark + "\r\nx\n\n\n" + testMark, "x\n\n\n"},
	"length":                      {"\n$9\r\nREDIS0011", "REDIS0011"},
	"length, replication behind":  {"$9\r\nREDIS0011*1\r\n$4\r\nPING\r\n", "REDIS0011"},
}

func TestPayloadSplitAtEveryPosition(t *testing.T) {
	for name, test := range conversations {
		t.Run(name, func(t *testing.T) {
			for first := range len(test.text) {
				for second := first; second < len(test.text); second++ {
					if name == "eof, newline behind (7.0.0)" && second == len(test.text)-1 {
						continue // the mark is complete before the newline comes
					}
					got, err := readPayload(&splitReader{text: test.text, at: []int{first, second}}, testBuffer)
					require.NoError(t, err, "split at %d and %d", first, second)
					require.Equal(t, test.want, string(got), "split at %d and %d", first, second)
				}
			}
			got, err := readPayload(iotest.OneByteReader(strings.NewReader(test.text)), testBuffer)
			require.NoError(t, err)
			require.Equal(t, test.want, string(got))
		})
	}
}

func TestPayloadTruncatedAtEveryPosition(t *testing.T) {
	for name, test := range conversations {
		t.Run(name, func(t *testing.T) {
			complete := strings.Index(test.text, test.want) + len(test.want)
			if strings.Contains(name, "eof") {
				complete += markSize
			}
			for n := range len(test.text) {
				for _, source := range []io.Reader{
					strings.NewReader(test.text[:n]),
					iotest.OneByteReader(strings.NewReader(test.text[:n])),
					iotest.DataErrReader(strings.NewReader(test.text[:n])),
				} {
					got, err := readPayload(source, testBuffer)
					if n >= complete {
						require.NoError(t, err, "cut after %d bytes", n)
						require.Equal(t, test.want, string(got))
						continue
					}
					require.ErrorIs(t, err, io.ErrUnexpectedEOF, "cut after %d bytes", n)
					require.True(t, strings.HasPrefix(test.want, string(got)), "cut after %d bytes: %q", n, got)
				}
			}
		})
	}
}

// The parser sees the mark at the end of what has arrived only, as replicas do: in
// the middle of a read it is data.
func TestMarkInsideTheDataIsData(t *testing.T) {
	data := "REDIS" + testMark + "more data"
	got, err := readPayload(strings.NewReader("$EOF:"+testMark+"\r\n"+data+testMark), testBuffer)
	require.NoError(t, err)
	assert.Equal(t, data, string(got))
}

func TestPayloadReadErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, text := range []string{"", "\n", "$EOF:" + testMark + "\r\nabc", "$100\r\nabc"} {
		_, err := readPayload(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), testBuffer)
		require.ErrorIs(t, err, broken, "%q", text)
	}
	// A reader that never yields anything must not spin for ever.
	_, err := readPayload(eternalNothing{}, testBuffer)
	require.ErrorIs(t, err, io.ErrNoProgress)
}

type eternalNothing struct{}

func (eternalNothing) Read([]byte) (int, error) { return 0, nil }

// FuzzPayload checks the parser against its definition on any conversation, split
// in any way: what it yields is the snapshot up to the mark or the length, and only
// a complete one ends with io.EOF.
func FuzzPayload(f *testing.F) {
	for _, c := range conversations {
		f.Add([]byte(c.text), uint64(1))
		f.Add([]byte(c.text[:len(c.text)/2]), uint64(2))
	}
	f.Add([]byte("$EOF:\r\n"), uint64(0))
	f.Add([]byte("$9223372036854775807\r\nabc"), uint64(0))
	f.Add([]byte("-ERR no\r\n"), uint64(0))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 1))
		at := make([]int, random.IntN(8))
		for i := range at {
			at[i] = random.IntN(len(text) + 1)
		}
		got, err := readPayload(&splitReader{text: string(text), at: at}, testBuffer)
		header, rest, form := splitConversation(text)
		if form == "" {
			if err == nil {
				t.Fatalf("%q was accepted as a header", header)
			}
			return
		}
		if err == nil && form == SnapshotLength && strconv.Itoa(len(got)) != strings.TrimLeft(strings.TrimLeft(string(header[1:]), "+"), "0") {
			t.Fatalf("%d bytes for the header %q", len(got), header)
		}
		if err == nil && form == SnapshotEOF && !bytes.HasPrefix(rest[len(got):], header[len("$EOF:"):]) {
			t.Fatalf("success without the mark %q", header)
		}
		if !bytes.HasPrefix(rest, got) {
			t.Fatal("the bytes are not the server's")
		}
	})
}

// splitConversation finds the header line and what follows it; form is "" when
// there is no valid header.
func splitConversation(text []byte) (header, rest []byte, form SnapshotForm) {
	for {
		line, after, found := bytes.Cut(text, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if !found {
			return line, nil, ""
		}
		if len(line) > 0 {
			var s SnapshotStream
			s.payload.buf = make([]byte, 1)
			if s.parseHeader(string(line)) != nil {
				return line, nil, ""
			}
			return line, after, s.Form
		}
		text = after
	}
}

// endless yields the same block again and again, n bytes in all, and then a tail.
type endless struct {
	block []byte
	left  int
	tail  *strings.Reader
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return e.tail.Read(p)
	}
	n := copy(p[:min(len(p), e.left)], e.block)
	e.left -= n
	return n, nil
}

// BenchmarkPayload measures the parser's own overhead per byte: the source costs
// one copy from a hot block.
func BenchmarkPayload(b *testing.B) {
	const size = 1 << 30
	block := make([]byte, bufferSize)
	for i := range block {
		block[i] = byte(rand.Uint32())
	}
	for name, header := range map[string]string{
		"eof": "$EOF:" + testMark + "\r\n", "length": fmt.Sprintf("$%d\r\n", size),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			dst := make([]byte, 256<<10)
			for b.Loop() {
				source := io.MultiReader(strings.NewReader(header), &endless{block: block, left: size, tail: strings.NewReader(testMark)})
				p := payload{source: source, buf: make([]byte, bufferSize)}
				line, err := p.readLine()
				require.NoError(b, err)
				s := &SnapshotStream{payload: p}
				require.NoError(b, s.parseHeader(line))
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{&s.payload}, dst)
				require.NoError(b, err)
				require.EqualValues(b, size, n)
			}
		})
	}
}

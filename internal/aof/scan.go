package aof

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/rdb"
)

// Summary says what an append-only file holds.
type Summary struct {
	// Preamble is what the RDB at the beginning holds, if there is one.
	Preamble *rdb.Summary `json:"preamble,omitempty"`
	// Commands counts the complete commands behind the preamble, SELECT, MULTI and
	// EXEC included. Those of an unfinished transaction do not count.
	Commands int64 `json:"commands"`
	// From and Until are the first and the last timestamp, if the server writes them
	// (aof-timestamp-enabled).
	From  *time.Time `json:"from,omitempty"`
	Until *time.Time `json:"until,omitempty"`
	// Size is how much was read, in bytes.
	Size int64 `json:"sizeBytes"`
	// Complete is the offset behind the last complete command or transaction, in
	// bytes. What follows, a server would discard when it loads the file.
	Complete int64 `json:"completeBytes"`
}

// Truncated is how many bytes at the end belong to a command or a transaction that
// is not complete.
func (s Summary) Truncated() int64 { return s.Size - s.Complete }

// Scan reads an append-only file to its end and says what it holds. Memory does not
// depend on the data.
//
// A file that ends in the middle of a command, of a transaction or of a timestamp is
// no error, see Summary.Truncated; one that ends within the RDB preamble is. The
// error is a *FormatError or an *rdb.FormatError when the data is at fault, else it
// is that of r or of ctx. The Summary is filled as far as the scan came even then.
// Expired keys of the preamble are counted as of now.
func Scan(ctx context.Context, r io.Reader, now time.Time) (Summary, error) {
	var s Summary
	head := make([]byte, len(redisMagic))
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return s, err
	}
	head = head[:n]
	rest := io.MultiReader(bytes.NewReader(head), r)
	if errors.Is(err, io.ErrUnexpectedEOF) && n < len(redisMagic) || errors.Is(err, io.EOF) {
		// The reader has ended and might not like to be asked again.
		rest = bytes.NewReader(head)
	}
	if string(head) == redisMagic || string(head) == valkeyMagic {
		preamble, behind, err := rdb.ScanPreamble(ctx, rest, rdb.Visitor{}, rdb.Options{Now: now})
		s.Preamble, s.Size = &preamble, preamble.Size
		if err != nil {
			return s, err
		}
		rest = behind
	}
	c := commands{ctx: ctx, in: bufio.NewReaderSize(rest, window), sum: &s, at: s.Size}
	s.Complete = s.Size
	err = c.scan()
	s.Size = c.at
	return s, err
}

// The first bytes of an RDB file.
const (
	redisMagic  = "REDIS"
	valkeyMagic = "VALKE"
)

const (
	// window is the read buffer. It also bounds a line.
	window = 64 << 10
	// longestLine is what a server reads of a line (the buffer of fgets in
	// loadSingleAppendOnlyFile).
	longestLine = 128
	// maxArgs and maxBulk bound what a command can claim to be: what the protocol
	// admits of arguments, and far more than proto-max-bulk-len.
	maxArgs = 1 << 31
	maxBulk = 1 << 40
	// longestName is as much of a command's name as tells MULTI and EXEC from others.
	longestName = 8
)

// commands scans RESP.
type commands struct {
	ctx context.Context //nolint:containedctx // of one scan
	in  *bufio.Reader
	sum *Summary
	// at is the offset of the next byte, start that of the current command.
	at, start int64
	// block is how many commands an open transaction has, 0 when there is none.
	block int64
}

// errTail says that the input ended within a command.
var errTail = errors.New("the file ends within a command")

func (c *commands) scan() error {
	for {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		c.start = c.at
		err := c.next()
		switch {
		case errors.Is(err, errTail):
			return nil
		case err != nil:
			return err
		}
	}
}

// next reads one command or annotation. At the end of the input it returns errTail.
func (c *commands) next() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	if line[0] == '#' {
		c.annotate(line)
		c.complete()
		return nil
	}
	args, err := c.number(line, '*', 1, maxArgs)
	if err != nil {
		return err
	}
	var name string
	for i := range args {
		if name, err = c.argument(i, name); err != nil {
			return err
		}
	}
	return c.count(name)
}

// argument reads one argument. Only the first is looked at.
func (c *commands) argument(i int64, name string) (string, error) {
	line, err := c.line()
	if err != nil {
		return "", err
	}
	length, err := c.number(line, '$', 0, maxBulk)
	if err != nil {
		return "", err
	}
	if i == 0 && length <= longestName {
		text, err := c.in.Peek(int(length))
		if err != nil {
			_ = c.skip(length) // to learn how much there is; the first error counts
			return "", c.ended(err)
		}
		name = string(bytes.ToUpper(text))
	}
	if err := c.skip(length); err != nil {
		return "", err
	}
	end, err := c.in.Peek(2)
	if err != nil {
		_ = c.skip(2)
		return "", c.ended(err)
	}
	if !bytes.Equal(end, []byte("\r\n")) {
		return "", c.fault("an argument of %d bytes is not followed by a line end", length)
	}
	return name, c.skip(2)
}

// count adds a complete command.
func (c *commands) count(name string) error {
	switch {
	case name == "MULTI" && c.block > 0:
		return c.fault("MULTI inside of a transaction")
	case name == "MULTI":
		c.block = 1
	case name == "EXEC" && c.block > 0:
		c.sum.Commands += c.block + 1
		c.block = 0
	case c.block > 0:
		c.block++
	default:
		c.sum.Commands++
	}
	c.complete()
	return nil
}

// complete notes that a server could stop loading here.
func (c *commands) complete() {
	if c.block == 0 {
		c.sum.Complete = c.at
	}
}

// annotate reads a line such as "#TS:1628217473". Others mean nothing to servers.
func (c *commands) annotate(line []byte) {
	digits, ok := bytes.CutPrefix(line, []byte("#TS:"))
	if !ok {
		return
	}
	seconds, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<40 {
		return
	}
	at := time.Unix(seconds, 0).UTC()
	if c.sum.From == nil {
		c.sum.From = &at
	}
	c.sum.Until = &at
}

// line reads a line without its end. It is never empty.
func (c *commands) line() ([]byte, error) {
	text, err := c.in.ReadSlice('\n')
	c.at += int64(len(text))
	switch {
	case errors.Is(err, bufio.ErrBufferFull) || len(text) > longestLine:
		return nil, c.fault("a line of more than %d bytes: %.16q…", longestLine, text)
	case err != nil && len(text) > 0 && !starts(text[0]):
		return nil, c.fault("unexpected byte %q", text[0])
	case err != nil:
		return nil, c.ended(err)
	}
	line, ok := bytes.CutSuffix(text, []byte("\r\n"))
	if !ok || len(line) == 0 || !starts(line[0]) {
		return nil, c.fault("a line %.32q", text)
	}
	return line, nil
}

// starts reports whether a line may begin with b.
func starts(b byte) bool { return b == '*' || b == '$' || b == '#' }

// number reads a line's number.
func (c *commands) number(line []byte, mark byte, least, most int64) (int64, error) {
	if line[0] != mark {
		return 0, c.fault("%.32q where a line with %q is due", line, mark)
	}
	n, err := strconv.ParseInt(string(line[1:]), 10, 64)
	if err != nil || n < least || n > most {
		return 0, c.fault("the number in %.32q", line)
	}
	return n, nil
}

// skip passes over n bytes.
func (c *commands) skip(n int64) error {
	skipped, err := io.CopyN(io.Discard, c.in, n)
	c.at += skipped
	if err != nil {
		return c.ended(err)
	}
	return nil
}

// ended tells the end of the input from a failure to read.
func (c *commands) ended(err error) error {
	if errors.Is(err, io.EOF) {
		return errTail
	}
	return fmt.Errorf("reading at offset %d: %w", c.at, err)
}

func (c *commands) fault(format string, args ...any) error {
	return &FormatError{Offset: c.at, Command: c.start, Msg: fmt.Sprintf(format, args...)}
}

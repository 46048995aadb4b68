package aof

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
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
	return Walk(ctx, r, Visitor{}, now)
}

// Walk is Scan that tells a visitor what it finds.
func Walk(ctx context.Context, r io.Reader, v Visitor, now time.Time) (Summary, error) {
	s, _, err := walk(ctx, r, v, now)
	return s, err
}

// walk also returns how many bytes are annotations.
func walk(ctx context.Context, r io.Reader, v Visitor, now time.Time) (s Summary, annotated int64, err error) {
	head := make([]byte, len(redisMagic))
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return s, 0, err
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
			return s, 0, err
		}
		rest = behind
	}
	s.Complete = s.Size
	if v.Begin != nil {
		if err := v.Begin(s.Preamble); err != nil {
			return s, 0, err
		}
	}
	c := commands{ctx: ctx, in: bufio.NewReaderSize(rest, window), visitor: v, sum: &s, at: s.Size}
	err = c.scan()
	s.Size = c.at
	return s, c.cur.annotated, err
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
	// longestName is how long the names of commands are that a Visitor is told; others
	// are cut. longestKey is the same for keys. Both are in bytes.
	longestName = 64
	longestKey  = 256
	// maxNames bounds how many names are remembered, so that none needs memory twice.
	maxNames = 4096
)

// commands scans RESP.
type commands struct {
	ctx     context.Context //nolint:containedctx // of one scan
	in      *bufio.Reader
	visitor Visitor
	// out, if not nil, gets what is read, without annotations.
	out io.Writer
	sum *Summary
	// at is the offset of the next byte, start that of the current command.
	at, start int64
	// block is how many commands an open transaction has, 0 when there is none.
	block int64
	// cur is the current command, keyArg the number of the argument that is its key,
	// key what cur.Key is kept in.
	cur    Command
	keyArg int64
	key    []byte
	names  map[string]string
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
		c.cur.annotated += c.at - c.start
		c.complete()
		return nil
	}
	args, err := c.number(line, '*', 1, maxArgs)
	if err != nil {
		return err
	}
	c.cur.Start, c.cur.Key, c.keyArg = c.start, nil, 0
	for i := range args {
		if err := c.argument(i); err != nil {
			return err
		}
	}
	return c.count()
}

// argument reads one argument. Only the name and the key are looked at.
func (c *commands) argument(i int64) error {
	line, err := c.line()
	if err != nil {
		return err
	}
	length, err := c.number(line, '$', 0, maxBulk)
	if err != nil {
		return err
	}
	if i == 0 || i == c.keyArg {
		text, err := c.in.Peek(int(min(length, longestKey)))
		if err != nil {
			_ = c.skip(length) // to learn how much there is; the first error counts
			return c.ended(err)
		}
		c.note(i, text)
	}
	if err := c.skip(length); err != nil {
		return err
	}
	end, err := c.in.Peek(2)
	if err != nil {
		_ = c.skip(2)
		return c.ended(err)
	}
	if !bytes.Equal(end, []byte("\r\n")) {
		return c.fault("an argument of %d bytes is not followed by a line end", length)
	}
	return c.skip(2)
}

// note keeps an argument that is of interest.
func (c *commands) note(i int64, text []byte) {
	if i == 0 {
		c.cur.Name = c.name(text[:min(len(text), longestName)])
		c.keyArg = keyArgument(c.cur.Name)
		return
	}
	if c.cur.Name != nameSelect {
		c.key = append(c.key[:0], text...)
		c.cur.Key = c.key
		return
	}
	if db, err := strconv.Atoi(string(text)); err == nil {
		c.cur.DB = db
	}
}

// name returns the upper case of text without a new string for each command.
func (c *commands) name(text []byte) string {
	if name, ok := c.names[string(text)]; ok {
		return name
	}
	name := strings.ToUpper(string(text))
	if c.names == nil {
		c.names = make(map[string]string)
	}
	if len(c.names) < maxNames {
		c.names[string(text)] = name
	}
	return name
}

// count adds a complete command.
func (c *commands) count() error {
	ends := true // a point where the file may be cut
	switch name := c.cur.Name; {
	case name == nameMulti && c.block > 0:
		return c.fault("MULTI inside of a transaction")
	case name == nameMulti:
		c.block, ends = 1, false
	case name == nameExec && c.block > 0:
		c.sum.Commands += c.block + 1
		c.block = 0
	case c.block > 0:
		c.block++
		ends = false
	default:
		c.sum.Commands++
	}
	c.complete()
	c.cur.End, c.cur.Ends = c.at, ends
	if c.visitor.Command == nil {
		return nil
	}
	return c.visitor.Command(&c.cur)
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
	c.cur.Time = at
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
	if c.out != nil && line[0] != '#' {
		if _, err := c.out.Write(text); err != nil {
			return nil, err
		}
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
	if c.out != nil {
		skipped, err := io.CopyN(c.out, c.in, n)
		c.at += skipped
		return c.ended(err)
	}
	const most = 1 << 30 // an int
	for n > 0 {
		skipped, err := c.in.Discard(int(min(n, most)))
		c.at += int64(skipped)
		n -= int64(skipped)
		if err != nil {
			return c.ended(err)
		}
	}
	return nil
}

// ended tells the end of the input from a failure to read.
func (c *commands) ended(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return errTail
	}
	return fmt.Errorf("reading at offset %d: %w", c.at, err)
}

func (c *commands) fault(format string, args ...any) error {
	return &FormatError{Offset: c.at, Command: c.start, Msg: fmt.Sprintf(format, args...)}
}

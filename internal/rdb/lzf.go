package rdb

// Redis compresses strings with LZF (lzf_c.c, Marc Lehmann). A stream is a row
// of control bytes: one below 32 announces that many plus one literal bytes;
// any other is a reference, its three high bits the length (7: one more byte is
// added), its low bits and the next byte the distance back minus one. A
// reference yields its length plus two.
const (
	lzfLiterals = 32
	// lzfHistory is how far back a reference can point.
	lzfHistory = 1 << 13
	// maxLZFReference is the most bytes one reference yields (it takes three).
	maxLZFReference = 7 + 255 + 2
)

// lzfStep returns how many bytes the token at the start of b takes, how many it
// yields, and for a reference its distance back (0 for literals). b must hold
// three bytes, or the rest of the stream padded with anything.
func lzfStep(b *[3]byte) (taken, yield, distance int) {
	c := int(b[0])
	if c < lzfLiterals {
		return c + 2, c + 1, 0
	}
	low := int(b[1])
	taken, yield = 2, c>>5+2
	if c >= 7<<5 {
		taken, yield, low = 3, 9+low, int(b[2])
	}
	return taken, yield, (c&0x1f)<<8 + low + 1
}

// lzfSize walks the stream in and returns how many bytes it yields. ok is false
// when a token is cut off or a reference points before the start.
func lzfSize(in []byte) (size int, ok bool) {
	i, n := 0, 0
	// All three bytes of a token are in bounds here.
	for i < len(in)-2 {
		taken, yield, distance := lzfStep((*[3]byte)(in[i:]))
		if distance > n {
			return 0, false
		}
		i += taken
		n += yield
	}
	// At most one token fits in the last two bytes.
	if i < len(in) {
		var last [3]byte
		copy(last[:], in[i:])
		taken, yield, distance := lzfStep(&last)
		if distance > n {
			return 0, false
		}
		i += taken
		n += yield
	}
	return n, i == len(in)
}

// lzfTokens holds for each control byte: how many bytes the token takes, how
// many it yields (<<8), and a mask for the second byte, which long references
// add to that (<<16).
var lzfTokens = func() (tokens [256]uint32) { //nolint:gochecknoglobals // a table
	for c := range tokens {
		taken, yield, _ := lzfStep(&[3]byte{byte(c)})
		tokens[c] = uint32(taken) | uint32(yield)<<8
		if c >= 7<<5 {
			tokens[c] |= 0xff << 16
		}
	}
	return tokens
}()

// An lzfJob is a compressed string whose length is to be checked.
type lzfJob struct {
	data []byte
	size uint64
	at   int64 // offset of data
}

// lzfMismatch returns the index of the first job whose stream does not yield
// its size, or -1. It looks at sizes only, not at where references point.
//
// Each step waits for the control byte that the step before it led to. So two
// streams are walked in turn, which takes half the time; a branch for each kind
// of token would cost more than the table, as their order is hard to predict.
func lzfMismatch(jobs []lzfJob) int {
	if len(jobs) == 0 {
		return -1
	}
	ja, a, ia, na := 0, jobs[0].data, 0, uint64(0)
	jb, b, ib, nb := 0, []byte(nil), 0, uint64(0)
	next := 1
	if len(jobs) > 1 {
		jb, b, next = 1, jobs[1].data, 2
	}
	for {
		for ia < len(a)-2 && ib < len(b)-2 {
			t := lzfTokens[a[ia]]
			na += uint64(t>>8&0xff + uint32(a[ia+1])&(t>>16))
			ia += int(t & 0xff)
			t = lzfTokens[b[ib]]
			nb += uint64(t>>8&0xff + uint32(b[ib+1])&(t>>16))
			ib += int(t & 0xff)
		}
		if ia < len(a)-2 { // make a the finished one
			ja, jb, a, b, ia, ib, na, nb = jb, ja, b, a, ib, ia, nb, na
		}
		if a != nil && !lzfEnds(jobs[ja], ia, na) {
			return ja
		}
		if next == len(jobs) {
			if b != nil && !lzfEnds(jobs[jb], ib, nb) {
				return jb
			}
			return -1
		}
		ja, a, ia, na = next, jobs[next].data, 0, 0
		next++
	}
}

// lzfEnds walks the rest of a job's stream from i, where n bytes have been
// yielded, and reports whether it ends as it should.
func lzfEnds(job lzfJob, i int, n uint64) bool {
	in := job.data
	for i < len(in)-2 {
		t := lzfTokens[in[i]]
		n += uint64(t>>8&0xff + uint32(in[i+1])&(t>>16))
		i += int(t & 0xff)
	}
	if i < len(in) {
		t := lzfTokens[in[i]]
		n += uint64(t >> 8 & 0xff) // a long reference does not fit any more
		i += int(t & 0xff)
	}
	return i == len(in) && n == job.size
}

// lzfQueue collects jobs for lzfMismatch.
type lzfQueue struct {
	jobs [16]lzfJob
	n    int
}

// checkLater queues a compressed string that was just taken from the window.
// The queue is emptied before the window moves on.
func (in *input) checkLater(data []byte, size uint64) error {
	q := &in.queue
	q.jobs[q.n] = lzfJob{data, size, in.offset() - int64(len(data))}
	if q.n++; q.n == len(q.jobs) {
		return in.checkQueued()
	}
	return nil
}

func (in *input) checkQueued() error {
	q := &in.queue
	bad := lzfMismatch(q.jobs[:q.n])
	q.n = 0
	if bad < 0 {
		return nil
	}
	return in.failLZF(q.jobs[bad].at, q.jobs[bad].size)
}

// checkNow checks a compressed string in every respect.
func (in *input) checkNow(data []byte, size uint64) error {
	if n, ok := lzfSize(data); !ok || uint64(n) != size {
		return in.failLZF(in.offset()-int64(len(data)), size)
	}
	return nil
}

func (in *input) failLZF(at int64, size uint64) error {
	in.section = "compressed string"
	in.start = at
	return in.failAt(at, ErrCorrupt, "it does not yield the %d bytes announced", size)
}

// lzfDecode returns up to limit bytes of what the stream in yields, in the space
// of dst. It stops early and quietly at malformed input: that is for the checks
// to report.
func lzfDecode(dst, in []byte, limit int) []byte {
	dst = dst[:0]
	for i := 0; i < len(in) && len(dst) < limit; {
		var token [3]byte
		copy(token[:], in[i:])
		taken, yield, distance := lzfStep(&token)
		yield = min(yield, limit-len(dst))
		if distance == 0 {
			if i+1+yield > len(in) {
				break
			}
			dst = append(dst, in[i+1:i+1+yield]...)
		} else {
			if distance > len(dst) {
				break
			}
			dst = appendBack(dst, distance, yield)
		}
		i += taken
	}
	return dst
}

// appendBack appends n bytes that begin distance bytes before the end of b. They
// may reach into what is being appended: then the bytes repeat.
func appendBack(b []byte, distance, n int) []byte {
	from := len(b) - distance
	for n > 0 {
		m := min(n, len(b)-from)
		b = append(b, b[from:from+m]...)
		n -= m
	}
	return b
}

// lzfStream checks an LZF stream of any size token by token. When sink is not
// nil it also decompresses, passing pieces that are valid during the call.
func (in *input) lzfStream(head stringHead, sink func([]byte)) error {
	at := in.offset()
	var out []byte // decompressed and still within reach of a reference, or not passed on yet
	var passed int // how much of out was passed on
	if sink != nil {
		out = make([]byte, 0, 8*lzfHistory)
	}
	flush := func() {
		sink(out[passed:])
		keep := min(len(out), lzfHistory)
		out = append(out[:0], out[len(out)-keep:]...)
		passed = keep
	}
	left, size := head.stored, uint64(0)
	for left > 0 {
		c, err := in.byte()
		if err != nil {
			return err
		}
		extra := 1
		switch {
		case c < lzfLiterals:
			extra = int(c) + 1
		case c >= 7<<5:
			extra = 2
		}
		if left--; left < uint64(extra) {
			return in.failLZF(at, head.size)
		}
		left -= uint64(extra)
		b, err := in.take(extra)
		if err != nil {
			return err
		}
		if sink != nil && cap(out)-len(out) < maxLZFReference {
			flush()
		}
		if c < lzfLiterals {
			size += uint64(len(b))
			if sink != nil {
				out = append(out, b...)
			}
			continue
		}
		token := [3]byte{c}
		copy(token[1:], b)
		_, yield, distance := lzfStep(&token)
		if uint64(distance) > size {
			return in.failLZF(at, head.size)
		}
		size += uint64(yield)
		if sink != nil {
			out = appendBack(out, distance, yield)
		}
	}
	if size != head.size {
		return in.failLZF(at, head.size)
	}
	if sink != nil {
		flush()
	}
	return nil
}

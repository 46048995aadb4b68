package aof

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/rdb"
)

// otherCuts is the hint where timestamps do not help.
const otherCuts = "cut by a number of commands, at an offset, or before a command"

// surveying is a survey in progress.
type surveying struct {
	log     Log
	cut     Cut
	options SurveyOptions
	result  Survey
	read    int64 // of the parts before

	part int // the current one
	// number counts the commands.
	number int64
	// unit is what is kept or dropped as a whole: a command, or a transaction. It began
	// at unitTime, if that is known, and holds Cut.Command.
	unit     tally
	unitTime time.Time
	holds    bool
	// before is where the unit begins, end is where the log is cut.
	before, end point
	// over is set once a unit was dropped, found once one held Cut.Command.
	over, found bool
	// timed is set once a unit with a time was kept, timestamps once there was any;
	// untimed counts the kept commands before.
	timed, timestamps bool
	untimed           int64
	// last is the last timestamp of the parts before, dated says that the RDB tells when
	// it was written.
	last  time.Time
	dated bool

	kept, dropped tally
}

// point is a place between two commands.
type point struct {
	part   int
	offset int64
	// annotations is how many bytes of the part before are annotations.
	annotations int64
}

// locate completes and checks a CutOffset.
func (s *surveying) locate() error {
	if s.cut.By != CutOffset {
		return nil
	}
	if s.cut.File == "" {
		var candidates []string
		for _, p := range s.log.Parts {
			if p.Part != Base {
				candidates = append(candidates, p.Name)
			}
		}
		if len(candidates) != 1 {
			return &CutError{Msg: "an offset alone does not tell in which of its files", Hint: "write FILE:BYTES; it has " + s.log.Names()}
		}
		s.cut.File = candidates[0]
	}
	if s.cutPart() < 0 {
		return &CutError{Msg: fmt.Sprintf("it has no file %.64q", s.cut.File), Hint: "it has " + s.log.Names()}
	}
	return nil
}

// cutPart is the part that a CutOffset is in.
func (s *surveying) cutPart() int {
	return slices.IndexFunc(s.log.Parts, func(p LogPart) bool { return p.Name == s.cut.File })
}

// walk reads the current part.
func (s *surveying) walk(ctx context.Context) error {
	part := s.log.Parts[s.part]
	file, err := part.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was read to its end, or the first error counts
	s.unit.reset()
	s.before = point{part: s.part}
	first := s.number
	source := &progressReader{Reader: file, done: s.read, report: s.options.Progress}
	summary, annotated, err := walk(ctx, source, Visitor{Begin: s.begin, Command: s.command}, s.options.Now)
	s.read += summary.Size
	found := PartSurvey{Name: part.Name, Size: summary.Size, slice: Slice{LogPart: part, Annotations: annotated}}
	if p := summary.Preamble; p != nil {
		found.slice.Preamble = p.Size
	}
	s.result.Parts = append(s.result.Parts, found)
	if s.cut.By == CutTime && s.timestamps && summary.From == nil && s.number > first && !s.over {
		s.result.Untimed = append(s.result.Untimed, part.Name)
	}
	if summary.Until != nil {
		s.timestamps, s.last = true, *summary.Until
	}
	if err == nil && summary.Truncated() > 0 {
		if s.part == len(s.log.Parts)-1 {
			s.result.Incomplete = summary.Truncated()
			return nil
		}
		err = &FormatError{Offset: summary.Complete, Command: summary.Complete, Msg: "the file ends within it, and another file follows"}
	}
	if !isDamage(err) {
		return err
	}
	damaged := &DamagedError{File: part.Name, Sound: summary.Complete, Err: err}
	if !s.complete(summary.Complete) {
		return damaged
	}
	s.result.Damage = damaged.Error()
	return nil
}

// complete reports whether all that is to be kept comes before a point of the current
// part up to which it is sound.
func (s *surveying) complete(sound int64) bool {
	switch {
	case s.over:
		return true
	case s.cut.By == CutOffset:
		return s.part == s.cutPart() && s.cut.Offset <= sound
	default:
		return s.cut.By == CutCommands && s.kept.commands == s.cut.Commands
	}
}

func isDamage(err error) bool {
	return errors.As(err, new(*FormatError)) || errors.As(err, new(*rdb.FormatError))
}

// begin is called before the first command of a part.
func (s *surveying) begin(preamble *rdb.Summary) error {
	if preamble != nil {
		if s.part > 0 {
			return &FormatError{Msg: "an RDB that does not come first"}
		}
		s.result.Preamble = preamble
		s.before.offset = preamble.Size
		at, ok := savedAt(preamble)
		if s.dated = ok; ok && s.cut.By == CutTime && s.cut.Time.Before(at) {
			return s.tooEarly(at)
		}
	}
	if s.cut.By == CutOffset {
		if s.part == s.cutPart() && s.cut.Offset < s.before.offset {
			return &CutError{Msg: fmt.Sprintf("%s can be cut from offset %d on: an RDB comes first", s.cut.File, s.before.offset)}
		}
		s.over = s.over || s.part > s.cutPart()
	}
	if !s.over {
		s.end = s.before
	}
	return nil
}

func (s *surveying) tooEarly(begin time.Time) error {
	return &CutError{
		Msg:  fmt.Sprintf("it begins with the data of %s: what there was at %s is not in it", inUTC(begin), inUTC(s.cut.Time)),
		Hint: "take an older backup",
	}
}

func inUTC(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// savedAt is when a server wrote an RDB.
func savedAt(r *rdb.Summary) (time.Time, bool) {
	seconds, err := strconv.ParseInt(r.Aux["ctime"], 10, 64)
	if err != nil || seconds <= 0 || seconds > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0), true
}

// command takes the next command.
func (s *surveying) command(c *Command) error {
	s.number++
	if s.unit.commands == 0 {
		s.unitTime, s.holds = c.Time, false
		if c.Time.IsZero() { // a new part need not begin with a timestamp
			s.unitTime = s.last
		}
	}
	s.holds = s.holds || s.cut.By == CutBefore && c.Name == s.cut.Command
	s.unit.add(sight{
		number: s.number, part: s.part, offset: c.Start, time: c.Time, db: c.DB, name: c.Name, key: c.Key,
	})
	if !c.Ends {
		return nil
	}
	if err := s.decide(c.End); err != nil {
		return err
	}
	s.before.offset, s.before.annotations = c.End, c.annotated
	if !s.over {
		s.end = s.before
	}
	s.unit.reset()
	return nil
}

// decide keeps or drops the unit that ends at an offset.
func (s *surveying) decide(end int64) error {
	if s.holds { // what was dropped so far comes before
		s.kept.merge(&s.dropped)
		s.dropped.reset()
		s.end, s.over, s.found = s.before, true, true
	}
	if !s.over {
		beyond, err := s.beyond(end)
		if err != nil {
			return err
		}
		s.over = beyond
	}
	if s.over {
		s.dropped.merge(&s.unit)
		return nil
	}
	s.timed = s.timed || !s.unitTime.IsZero()
	if !s.timed {
		s.untimed += s.unit.commands
	}
	s.kept.merge(&s.unit)
	return nil
}

// beyond reports whether the unit that ends at an offset is the first one behind the
// cut.
func (s *surveying) beyond(end int64) (bool, error) {
	switch s.cut.By {
	case CutTime:
		later := s.unitTime.After(s.cut.Time)
		if !later || s.timed || s.untimed == 0 {
			return later, nil
		}
		if !s.dated {
			return false, &CutError{
				Msg: fmt.Sprintf("its timestamps begin at %s: which of the %d commands before were executed by %s is not known",
					inUTC(s.unitTime), s.untimed, inUTC(s.cut.Time)),
				Hint: otherCuts,
			}
		}
		// A rewrite makes a new part, which begins without a timestamp if there was one
		// in the same second.
		s.result.Undated = s.untimed
		return true, nil
	case CutCommands:
		return s.kept.commands+s.unit.commands > s.cut.Commands, nil
	case CutOffset:
		return s.part == s.cutPart() && end > s.cut.Offset, nil
	default:
		return false, nil
	}
}

// finish completes the survey.
func (s *surveying) finish() (Survey, error) {
	for i := range s.result.Parts {
		p := &s.result.Parts[i]
		switch {
		case i < s.end.part:
			p.Kept = p.Size
		case i == s.end.part:
			p.Kept, p.slice.Annotations = s.end.offset, s.end.annotations
		}
	}
	s.result.Kept, s.result.Dropped = s.kept.result(s.log), s.dropped.result(s.log)
	s.result.names = s.kept.commandNames()
	return s.result, s.checkCut()
}

func (s *surveying) checkCut() error {
	switch {
	case s.cut.By == CutTime && !s.timestamps && s.number > 0:
		return &CutError{
			Msg:  "it has no timestamps: servers write them from 7.0 on, with aof-timestamp-enabled yes",
			Hint: otherCuts,
		}
	case s.cut.By == CutTime && s.result.Bytes() == 0 && s.result.Dropped.From != nil:
		return s.tooEarly(*s.result.Dropped.From)
	case s.cut.By == CutBefore && !s.found:
		return &CutError{
			Msg:  fmt.Sprintf("it has no command %.64q", s.cut.Command),
			Hint: "a rewrite of the append-only file leaves out what was overwritten; take an older backup",
		}
	case s.result.Bytes() == 0:
		return &CutError{Msg: "nothing comes before the cut"}
	default:
		return nil
	}
}

// progressReader reports how much was read.
type progressReader struct {
	io.Reader
	done   int64
	report func(bytes int64)
}

// Read implements io.Reader.
func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.done += int64(n)
	if p.report != nil {
		p.report(p.done)
	}
	return n, err
}

package aof

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/rdb"
)

// Cut says up to where a Log is kept. It is always cut behind a complete command or
// transaction. The zero value keeps everything.
type Cut struct {
	By CutBy
	// Time is for CutTime, to the second. What was executed in that second is kept.
	Time time.Time
	// Commands is for CutCommands: how many are kept at most, from the beginning and as
	// Summary.Commands counts them.
	Commands int64
	// File and Offset are for CutOffset: nothing behind this byte of this part is kept,
	// nor are later parts. File may be empty when only one part has commands.
	File   string
	Offset int64
	// Command is for CutBefore: what comes before the last command of this name is
	// kept, of its transaction if it is in one. Upper and lower case do not matter.
	Command string
}

// CutBy is what decides where a Log is cut.
type CutBy string

// The kinds of cuts.
const (
	CutNowhere  CutBy = ""
	CutTime     CutBy = "time"
	CutCommands CutBy = "commands"
	CutOffset   CutBy = "offset"
	CutBefore   CutBy = "before"
)

// CutError says why a Log cannot be cut as asked.
type CutError struct {
	Msg string
	// Hint is what may help; it may be empty.
	Hint string
}

func (e *CutError) Error() string { return e.Msg }

// DamagedError says that a part of a Log is damaged and that the cut does not come
// before. It matches ErrCorrupt or rdb.ErrCorrupt.
type DamagedError struct {
	// File is the part, Sound up to where it can be kept, in bytes.
	File  string
	Sound int64
	Err   error
}

func (e *DamagedError) Error() string { return e.File + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *DamagedError) Unwrap() error { return e.Err }

// Survey says what a Cut keeps of a Log, and what it drops. Its JSON form is part of
// redisctl's interface (docs/json-output.md).
type Survey struct {
	// Parts are the files in the order of loading.
	Parts []PartSurvey `json:"parts"`
	// Preamble is what the RDB holds that the log begins with; nil when it does not.
	Preamble *rdb.Summary `json:"-"`
	// Kept and Dropped are the commands behind it.
	Kept    Tally `json:"kept"`
	Dropped Tally `json:"dropped"`
	// Incomplete is how many bytes at the end of the last part are no complete command
	// or transaction. They are dropped, as servers do when they load such a file.
	Incomplete int64 `json:"incompleteBytes,omitempty"`
	// Undated counts commands that are kept because they come before the first
	// timestamp. They were executed after the RDB was written.
	Undated int64 `json:"undated,omitempty"`
	// Untimed are parts that are kept whole because no timestamp in them is later than
	// CutTime: they have commands and no timestamp at all.
	Untimed []string `json:"untimed,omitempty"`
	// Damage is what is wrong behind the cut, if anything is. What comes after it was
	// not read.
	Damage string `json:"damage,omitempty"`

	names []string // of all commands that are kept
}

// PartSurvey is one file of a Survey.
type PartSurvey struct {
	Name string `json:"name"`
	// Size is how much of it was read, Kept how much of it is kept, in bytes.
	Size int64 `json:"sizeBytes"`
	Kept int64 `json:"keptBytes"`

	slice Slice
}

// Tally counts commands.
type Tally struct {
	Commands int64 `json:"commands"`
	// From and Until are the first and the last timestamp, nil when there is none.
	From  *time.Time `json:"from,omitempty"`
	Until *time.Time `json:"until,omitempty"`
	// Names counts them by name, the most frequent first.
	Names []NameCount `json:"names"`
	// First and Last are some of them.
	First []Sighting `json:"first"`
	Last  []Sighting `json:"last"`
}

// NameCount is how many commands of a name there are.
type NameCount struct {
	Name  string `json:"name"`
	Count int64  `json:"count"`
}

// Sighting is a command that was seen, without its values.
type Sighting struct {
	// Number counts from 1 at the beginning of the log.
	Number int64 `json:"number"`
	// File and Offset are where it begins, in bytes.
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	// Time is the last timestamp before it, nil when there is none.
	Time *time.Time `json:"time,omitempty"`
	DB   int        `json:"db"`
	Name string     `json:"name"`
	// Key is its first key, where redisctl knows which argument that is.
	Key string `json:"key,omitempty"`
}

// Slices are what is kept: parts of which nothing is left are not among them.
func (s *Survey) Slices() []Slice {
	var kept []Slice
	for i := range s.Parts {
		if p := &s.Parts[i]; p.Kept > 0 {
			p.slice.Bytes = p.Kept
			kept = append(kept, p.slice)
		}
	}
	return kept
}

// Bytes is how much is kept, of all parts.
func (s *Survey) Bytes() int64 {
	var total int64
	for _, p := range s.Parts {
		total += p.Kept
	}
	return total
}

// CommandNames are the names of all commands that are kept, sorted.
func (s *Survey) CommandNames() []string { return s.names }

// End is where the log is cut: a part and the bytes that are kept of it.
func (s *Survey) End() (file string, offset int64) {
	for _, p := range slices.Backward(s.Parts) {
		if p.Kept > 0 {
			return p.Name, p.Kept
		}
	}
	return "", 0
}

// SurveyOptions are the options of Log.Survey.
type SurveyOptions struct {
	// Now is when expired keys of an RDB count as such.
	Now time.Time
	// Progress, if not nil, is called with the bytes read so far.
	Progress func(bytes int64)
}

// Survey reads the whole log, which verifies its format, and finds out what a cut keeps
// of it. Memory does not depend on the data.
//
// The error is a *CutError when the log cannot be cut like this, a *DamagedError when it
// is damaged before the cut, or that of reading it.
func (l Log) Survey(ctx context.Context, cut Cut, o SurveyOptions) (Survey, error) {
	s := surveying{cut: cut, options: o, log: l}
	s.cut.Command = strings.ToUpper(cut.Command)
	if err := s.locate(); err != nil {
		return Survey{}, err
	}
	for i := range l.Parts {
		s.part = i
		if err := s.walk(ctx); err != nil {
			return Survey{}, err
		}
		if s.result.Damage != "" {
			break
		}
	}
	return s.finish()
}

// Package logs reads what the containers of a release have printed: all pods in one order,
// by time, and through restarts of pods.
package logs

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/redact"
	"github.com/redisctl/redisctl/internal/redis"
)

// Level says how much a line matters.
type Level string

// The levels.
const (
	Info    Level = "info"
	Warning Level = "warning" // a replication link that was cut, as when a server restarts
	Error   Level = "error"   // what an operator should read, and crash reports
)

// Line is one line of a log. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Line struct {
	// Time is when the node received it.
	Time  time.Time `json:"time"`
	Pod   string    `json:"pod"`
	Level Level     `json:"level"`
	Text  string    `json:"text"`
}

// Request is one container's log.
type Request struct {
	Pod, Container string
	// Since is zero for all that the node has.
	Since time.Time
	// Tail is how many of the last lines; negative for all.
	Tail             int64
	Follow, Previous bool
}

// Source reads logs.
type Source interface {
	// StreamLog hands over the lines of one container, the oldest first, until there are no
	// more, or ctx ends. An error matching ErrNotYet says that it has none yet.
	StreamLog(ctx context.Context, d *operation.Deployment, r Request, line func(at time.Time, text string) error) error
}

// ErrNotYet matches the error of a container that has not begun.
var ErrNotYet = errors.New("the container has not started")

// Options of a run.
type Options struct {
	// Container is empty for the one that runs Redis.
	Container        string
	Since            time.Time
	Tail             int64
	Follow, Previous bool
	// Match keeps the lines that match; nil keeps all.
	Match *regexp.Regexp
	// Password is masked wherever it appears.
	Password string
	// Pods returns the names of the pods there are now, which is asked every Discover while
	// the logs are followed. Nil follows only those that there were at the beginning.
	Pods     func(context.Context) ([]string, error)
	Discover time.Duration
}

// quiet is how long a followed log may print nothing until the others are shown without
// waiting for it. again is how long to wait for a container that has ended.
const (
	quiet = 300 * time.Millisecond
	again = time.Second
)

// Run hands every line of the deployment's pods to show, by time. Reporter hears of pods
// whose log has ended while it is followed, and of new ones. The error of show ends it, and
// is returned; one pod's error does not hold up the others, and is returned at the end, of
// kind Partial when others could be read.
func Run(ctx context.Context, s Source, d *operation.Deployment, o Options, report operation.Reporter, show func(Line) error) error {
	ctx, cancel := context.WithCancel(ctx)
	r := &run{source: s, deployment: d, options: o, report: report, merger: merger{wake: make(chan struct{}, 1), follow: o.Follow}}
	defer r.readers.Wait()
	defer cancel()
	for _, i := range d.Instances {
		r.open(ctx, i.Name, o)
	}
	if o.Follow && o.Pods != nil {
		r.readers.Go(func() { r.discover(ctx) })
	}
	err := r.merger.run(ctx, func(l Line) error {
		if o.Match != nil && !o.Match.MatchString(l.Text) {
			return nil
		}
		return show(l)
	})
	cancel()
	r.readers.Wait()
	if err != nil {
		return err
	}
	return failure(r.errs)
}

// run is one run of Run.
type run struct {
	source     Source
	deployment *operation.Deployment
	options    Options
	report     operation.Reporter
	merger     merger
	readers    sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// open begins to read a pod's log.
func (r *run) open(ctx context.Context, pod string, o Options) {
	lines := r.merger.add()
	r.mu.Lock()
	n := len(r.errs)
	r.errs = append(r.errs, nil)
	r.mu.Unlock()
	r.readers.Go(func() {
		defer r.merger.poke()
		defer close(lines)
		err := read(ctx, r.source, r.deployment, pod, o, r.report, newJudge(o), func(l Line) error {
			select {
			case lines <- l:
				r.merger.poke()
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		r.mu.Lock()
		defer r.mu.Unlock()
		r.errs[n] = err
	})
}

// discover opens the logs of pods that are added, from their beginning. That the release
// cannot be looked up for a while keeps nobody from reading on.
func (r *run) discover(ctx context.Context) {
	known := make(map[string]bool)
	for _, i := range r.deployment.Instances {
		known[i.Name] = true
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(r.options.Discover):
		}
		pods, err := r.options.Pods(ctx)
		if err != nil {
			continue
		}
		for _, pod := range pods {
			if known[pod] {
				continue
			}
			known[pod] = true
			r.report.Note("%s is new", pod)
			whole := r.options
			whole.Since, whole.Tail = time.Time{}, -1
			r.open(ctx, pod, whole)
		}
	}
}

// failure sums up the pods' errors.
func failure(errs []error) error {
	var first error
	failed := 0
	for _, err := range errs {
		if err != nil {
			failed++
			if first == nil {
				first = err
			}
		}
	}
	if failed > 0 && failed < len(errs) {
		return operation.Errorf(operation.Partial, "the logs of %d of %d pods could not be read, the first: %w", failed, len(errs), first)
	}
	return first
}

// read reads one pod's log. Followed, it goes on with the next container, and the next pod
// of that name, where the last line ended.
func read(
	ctx context.Context, s Source, d *operation.Deployment, pod string, o Options, report operation.Reporter, j *judge, put func(Line) error,
) error {
	container := o.Container
	if container == "" {
		container = d.Workload.Container
	}
	r := Request{Pod: pod, Container: container, Since: o.Since, Tail: o.Tail, Follow: o.Follow, Previous: o.Previous}
	var last time.Time
	said := false
	for {
		err := s.StreamLog(ctx, d, r, func(at time.Time, text string) error {
			if !at.After(last) {
				return nil // read before the log was opened again
			}
			last, said = at, false
			level, text := j.judge(text)
			return put(Line{Time: at, Pod: pod, Level: level, Text: text})
		})
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // nobody reads on
		case !o.Follow:
			return err
		case err != nil && operation.KindOf(err) != operation.Failed && operation.KindOf(err) != operation.TimedOut:
			return err
		}
		if !said {
			said = true
			why := "its container has ended"
			if err != nil {
				why = err.Error()
			}
			report.Note("%s: %s; waiting for the next", pod, why)
		}
		if !last.IsZero() {
			r.Since, r.Tail = last, -1
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(again):
		}
	}
}

// judge tells how much the lines of one log matter, and takes secrets out of them.
type judge struct {
	reader redis.LogReader
	mask   redact.Mask
	report bool // within a crash report
	// quoted finds a line of redis.conf that a server quotes: >>> 'requirepass "..."'.
	quoted *regexp.Regexp
}

func newJudge(o Options) *judge {
	j := &judge{
		reader: redis.NewLogReader(),
		quoted: regexp.MustCompile(`(?i)\b((?:requirepass|masterauth|primaryauth|masteruser|user)\s+).*`),
	}
	j.mask.Learn(o.Password)
	return j
}

func (j *judge) judge(text string) (Level, string) {
	kind, said := j.reader.Judge(text)
	switch {
	case strings.Contains(said, "REDIS BUG REPORT START"), strings.Contains(said, "VALKEY BUG REPORT START"):
		j.report = true
	case strings.Contains(said, "REDIS BUG REPORT END"), strings.Contains(said, "VALKEY BUG REPORT END"):
		j.report = false
		kind = redis.LogTrouble
	}
	if strings.HasPrefix(text, ">>>") {
		text = j.quoted.ReplaceAllString(text, "${1}"+redact.Placeholder)
	}
	text = j.mask.Text(text)
	switch {
	case j.report, kind == redis.LogTrouble:
		return Error, text
	case kind == redis.LogLink:
		return Warning, text
	default:
		return Info, text
	}
}

// stream is one log on its way into the merge.
type stream struct {
	lines chan Line
	head  *Line
	ended bool
	// since is when it was last found to have nothing; zero while it has.
	since time.Time
}

// merger puts lines of several logs into one order.
type merger struct {
	wake   chan struct{}
	follow bool

	mu      sync.Mutex
	streams []*stream
}

// add makes room for one more log, whose lines come through the channel.
func (m *merger) add() chan<- Line {
	s := &stream{lines: make(chan Line, 256)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.streams = append(m.streams, s)
	return s.lines
}

func (m *merger) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run hands lines to show, the oldest first, until all logs have ended or ctx has. A
// followed log that is quiet holds nobody up.
func (m *merger) run(ctx context.Context, show func(Line) error) error {
	for {
		next, wait, live := m.next(time.Now())
		switch {
		case next != nil:
			line := *next.head
			next.head = nil
			if err := show(line); err != nil {
				return err
			}
			continue
		case !live:
			return nil
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		case <-timer:
		}
	}
}

// next returns the stream with the oldest line, or how long to wait for those that have
// none: 0 for as long as it takes.
func (m *merger) next(now time.Time) (oldest *stream, wait time.Duration, live bool) {
	ready := true
	m.mu.Lock()
	streams := m.streams
	m.mu.Unlock()
	for _, s := range streams {
		if s.head == nil && !s.ended {
			select {
			case line, ok := <-s.lines:
				if !ok {
					s.ended = true
				} else {
					s.head, s.since = &line, time.Time{}
				}
			default:
			}
		}
		switch {
		case s.head != nil:
			live = true
			if oldest == nil || s.head.Time.Before(oldest.head.Time) {
				oldest = s
			}
		case s.ended:
		default:
			live = true
			if s.since.IsZero() {
				s.since = now
			}
			if left := quiet - now.Sub(s.since); !m.follow || left > 0 {
				ready = false
				if m.follow && (wait == 0 || left < wait) {
					wait = left
				}
			}
		}
	}
	if !ready {
		return nil, wait, true
	}
	return oldest, 0, live
}

// ParseSince reads --since: a duration back from now, or a time.
func ParseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("--since %q: want a duration such as 10m, or a time such as 2026-11-23T22:00:00Z", text)
	}
	return at, nil
}

package bench_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// row is a line of the report.
type row struct{ what, ours, peer, ratio, aim, met string }

// section are the rows of one benchmark.
type section struct {
	name string
	rows []row
}

// report are the results of a run.
type report struct{ sections []*section }

// add adds a row to the section of the top-level benchmark that b belongs to.
func (r *report) add(b *testing.B, line row) {
	name, _, _ := strings.Cut(strings.SplitN(b.Name(), "-", 2)[0], "/")
	if n := len(r.sections); n == 0 || r.sections[n-1].name != name {
		r.sections = append(r.sections, &section{name: name})
	}
	s := r.sections[len(r.sections)-1]
	s.rows = append(s.rows, line)
}

// goal is a limit that a result should keep. The zero value is none.
type goal struct {
	text string
	met  bool
}

func (g goal) columns() (aim, met string) {
	switch {
	case g.text == "":
		return "", ""
	case g.met:
		return g.text, "yes"
	default:
		return g.text, "**no**"
	}
}

// slower says how many times as long as the peer ours takes, which should be at most
// limit (0: no aim).
func (r *report) slower(b *testing.B, what string, ours, peer series, limit float64) {
	ratio := ours.median().Seconds() / peer.median().Seconds()
	g := goal{}
	if limit > 0 {
		g = goal{fmt.Sprintf("at most %.2fx", limit), ratio <= limit}
	}
	r.compare(b, what, ours, peer, fmt.Sprintf("%.2fx", ratio), g)
}

// faster says how many times as fast as the peer ours is, which should be at least limit.
func (r *report) faster(b *testing.B, what string, ours, peer series, limit float64) {
	ratio := peer.median().Seconds() / ours.median().Seconds()
	g := goal{}
	if limit > 0 {
		g = goal{fmt.Sprintf("%.0f times as fast", limit), ratio >= limit}
	}
	r.compare(b, what, ours, peer, fmt.Sprintf("%.1f times as fast", ratio), g)
}

func (r *report) compare(b *testing.B, what string, ours, peer series, ratio string, g goal) {
	line := row{what: what, ours: ours.String(), peer: peer.String(), ratio: ratio}
	line.aim, line.met = g.columns()
	r.add(b, line)
}

// String is the median, the fastest run, and the memory.
func (s series) String() string {
	text := fmt.Sprintf("%.2f s (%.2f s)", s.median().Seconds(), s.fastest().Seconds())
	if p := s.peak(); p > 0 {
		text += fmt.Sprintf(", %s", mebibytes(p))
	}
	return text
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%d MiB", (bytes+1<<20-1)>>20) }

// String is what ends up in the document.
func (r *report) String() string {
	var b strings.Builder
	for _, s := range r.sections {
		fmt.Fprintf(&b, "\n%s\n\n%s", s.name, s)
	}
	return b.String()
}

// String is the section's table.
func (s *section) String() string {
	var b strings.Builder
	b.WriteString("| | redisctl | peer | ratio | aim | met |\n|---|---|---|---|---|---|\n")
	for _, l := range s.rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", l.what, l.ours, l.peer, l.ratio, l.aim, l.met)
	}
	fmt.Fprintf(&b, "\n%s\n", machine())
	return b.String()
}

// writeInto replaces what stands between <!-- Name --> and <!-- /Name --> by each section.
func (r *report) writeInto(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, s := range r.sections {
		begin, end := "<!-- "+s.name+" -->\n", "<!-- /"+s.name+" -->\n"
		before, rest, ok := bytes.Cut(text, []byte(begin))
		_, after, closed := bytes.Cut(rest, []byte(end))
		if !ok || !closed {
			return fmt.Errorf("%s has no place for %s: it needs the lines %q and %q", file, s.name, begin, end)
		}
		text = fmt.Appendf(nil, "%s%s%s%s%s", before, begin, s, end, after)
	}
	return os.WriteFile(file, text, 0o644)
}

// machine says when and where, in one line. The load is that of the last minutes: the
// benchmarks themselves make 2.
func machine() string {
	kernel, _ := exec.Command("uname", "-r").Output()
	load, _ := os.ReadFile("/proc/loadavg")
	_, load, _ = bytes.Cut(load, []byte(" "))
	load, _, _ = bytes.Cut(load, []byte(" "))
	return fmt.Sprintf("*%s, %d cores (%s), %s, Linux %s, %s, load average %s*", time.Now().UTC().Format(time.DateOnly),
		runtime.NumCPU(), field("/proc/cpuinfo", "model name"), memory(), strings.TrimSpace(string(kernel)), runtime.Version(), load)
}

func memory() string {
	var kib int64
	if _, err := fmt.Sscan(field("/proc/meminfo", "MemTotal"), &kib); err != nil {
		return "unknown memory"
	}
	return fmt.Sprintf("%d GiB", (kib+1<<20-1)>>20)
}

// field returns the first value of a name in a file of "name: value" lines.
func field(file, name string) string {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

package validate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/redis"
)

const (
	// logLimit bounds how much of one log is read, in bytes. A kubelet keeps 10 MiB by
	// default (containerLogMaxSize).
	logLimit = 16 << 20
	// logPatience bounds how long that may take.
	logPatience = time.Minute
	// logKinds bounds how many different lines of one log are told apart.
	logKinds = 1000
	// logShown is how many of them a finding shows.
	logShown = 3
	// logShownLength is how much of each, in bytes.
	logShownLength = 200
)

// logSummary is what is worth knowing of one server's log.
type logSummary struct {
	// lines counts all, links those of replication links that were cut.
	lines, links int
	// trouble counts lines by their text, and texts has them in order.
	trouble  map[string]int
	texts    []string
	total    int
	complete bool
	// file is where the server logs to, instead of the container's output.
	file string
	err  error
}

func (l *logSummary) add(r redis.LogReader, line string) {
	l.lines++
	switch kind, text := r.Judge(line); kind {
	case redis.LogLink:
		l.links++
	case redis.LogTrouble:
		l.total++
		if _, known := l.trouble[text]; !known && len(l.texts) < logKinds {
			l.texts = append(l.texts, text)
		}
		if len(l.trouble) < logKinds || l.trouble[text] > 0 {
			l.trouble[text]++
		}
	}
}

// logs reads what each server has printed since its start.
func (r *run) logs(ctx context.Context) {
	if r.Logs == nil {
		r.add("log", Skipped, nil, "the log of a plain address cannot be read")
		return
	}
	r.Reporter.Step("reading the logs")
	d := r.topology.Deployment
	ctx, cancel := context.WithTimeout(ctx, logPatience)
	defer cancel()
	found := make([]logSummary, len(d.Instances))
	files := r.logFiles(ctx)
	reader := redis.NewLogReader()
	var wg sync.WaitGroup
	for i, instance := range d.Instances {
		found[i] = logSummary{trouble: map[string]int{}, file: files[i]}
		if instance.Down() != nil {
			continue // health tells why
		}
		wg.Go(func() {
			l := &found[i]
			l.complete, l.err = r.Logs.ReadLog(ctx, d, instance, logLimit, func(line string) { l.add(reader, line) })
		})
	}
	wg.Wait()
	r.judgeLogs(found)
}

// logFiles asks where the servers log to; empty for their output, and when they do not
// tell.
func (r *run) logFiles(ctx context.Context) []string {
	answers := inspect.Each(ctx, r.Connector, r.topology.Deployment, r.o.Health.Timeout, func(ctx context.Context, s operation.Server) (string, error) {
		values, err := s.ConfigGet(ctx, "logfile")
		return values["logfile"], err
	})
	files := make([]string, len(answers))
	for i, a := range answers {
		files[i] = a.Value
	}
	return files
}

func (r *run) judgeLogs(found []logSummary) {
	var findings []operation.Finding
	read, lines, links := 0, 0, 0
	for i := range found {
		l, name := &found[i], r.topology.Members[i].Name
		f := operation.Finding{Code: "log-not-read", Severity: operation.Notice, Subject: name}
		switch {
		case l.err != nil:
			f.Severity, f.Message = operation.Warning, l.err.Error()
			findings = append(findings, f)
		case l.file != "":
			f.Message = "the server logs to " + l.file + ", which is not looked at"
			findings = append(findings, f)
		case l.lines > 0 && !l.complete:
			f.Message = fmt.Sprintf("only the first %s of its log were read", operation.Bytes(logLimit))
			findings = append(findings, f)
		}
		if l.lines > 0 {
			read++
		}
		lines += l.lines
		links += l.links
		findings = append(findings, trouble(name, l)...)
	}
	text := fmt.Sprintf("%s of %s since the servers' start", counted(lines, "line"), counted(read, "instance"))
	if links > 0 {
		text += fmt.Sprintf(", %d of them about replication links that were cut", links)
	}
	r.add("log", OK, findings, "%s", text)
}

// trouble makes a finding of the lines that an operator should read.
func trouble(name string, l *logSummary) []operation.Finding {
	if l.total == 0 {
		return nil
	}
	f := operation.Finding{
		Code: "log-errors", Severity: operation.Warning, Subject: name,
		Message: counted(l.total, "line") + " of its log tell of trouble:",
		Hint:    "kubectl logs shows them with their time",
	}
	for i, text := range l.texts {
		if i == logShown {
			f.Message += fmt.Sprintf("; and %d others", len(l.texts)-logShown)
			break
		}
		if len(text) > logShownLength {
			text = text[:logShownLength] + "…"
		}
		separator := " "
		if i > 0 {
			separator = "; "
		}
		f.Message += fmt.Sprintf("%s%q", separator, text)
		if n := l.trouble[l.texts[i]]; n > 1 {
			f.Message += fmt.Sprintf(" (%d times)", n)
		}
	}
	return []operation.Finding{f}
}

// backup takes a fresh one: that the upgraded release can be backed up is part of its
// being right.
func (r *run) backup(ctx context.Context) {
	switch {
	case r.o.Quick:
		r.add("backup", Skipped, nil, "left out (--quick)")
		return
	case r.Backups == nil:
		r.add("backup", Skipped, nil, "left out (--no-backup)")
		return
	}
	d := r.topology.Deployment
	names := []string{""}
	if r.topology.Independent() && len(d.Instances) > 1 {
		names = names[:0]
		for _, i := range d.Instances {
			names = append(names, i.Name)
		}
	}
	var findings []operation.Finding
	for _, name := range names {
		location, err := r.Backups.Backup(ctx, d, name)
		if location != "" {
			r.report.Backups = append(r.report.Backups, location)
		}
		if err == nil {
			continue
		}
		f := operation.Finding{Code: "backup-failed", Severity: operation.Critical, Subject: d.Name, Message: err.Error()}
		if name != "" {
			f.Subject = name
		}
		findings = append(findings, f)
	}
	text := "none was stored"
	if n := len(r.report.Backups); n > 0 {
		text = fmt.Sprintf("%s stored, verified on the way", counted(n, "backup"))
	}
	r.add("backup", OK, findings, "%s", text)
}

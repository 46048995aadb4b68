package redis

import (
	"regexp"
	"strings"
)

// LogKind is what a line of a server's log means to an operator.
type LogKind int

const (
	// LogHarmless is no news, or is told of by another check.
	LogHarmless LogKind = iota
	// LogLink tells of a replication link that was cut, or not there yet, as always when
	// a server restarts. Whether the links are up now is checked for itself.
	LogLink
	// LogTrouble is what an operator should read.
	LogTrouble
)

// logPrefix is how Redis and Valkey begin a line: process ID, role, time, and the level:
// "." debug, "-" verbose, "*" notice, "#" warning.
// https://github.com/redis/redis/blob/7.0/src/server.c (serverLogRaw)
//
//	1:M 23 Nov 2026 19:13:04.321 * Ready to accept connections
const logPrefix = `^\d+:[XCSM] \d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d(?:\.\d+)? ([.*#-]) `

// LogReader judges lines of a server's log. Make one with NewLogReader, for all lines: it
// is safe for concurrent use.
type LogReader struct{ prefix, logfmt, harmless, link, words *regexp.Regexp }

// NewLogReader returns a LogReader.
func NewLogReader() LogReader {
	return LogReader{
		prefix: regexp.MustCompile(logPrefix),
		// Valkey 8.1: log-format logfmt.
		logfmt: regexp.MustCompile(`^pid=\d+ role=\S+ timestamp=".*?" level=(\w+) message="(.*)"$`),
		// What servers print at level warning when they start, stop and change roles as told.
		// Redis 7.2 and Valkey have most of it at level notice.
		harmless: regexp.MustCompile(`^(?:` + strings.Join([]string{
			`oO0OoO0OoO0Oo`,
			`(?:Redis|Valkey) version=`,
			`Configuration loaded`,
			`Server initialized`,
			`Warning: no config file specified`,
			// Of the node, not of the server; it was there before the upgrade.
			`WARNING:? .*(?:TCP backlog|overcommit_memory|Memory overcommit|Transparent Huge Pages|THP|clocksource)`,
			`User requested shutdown`,
			`Received SIG(?:TERM|INT) scheduling shutdown`,
			`(?:Redis|Valkey) is now ready to exit`,
			`Setting secondary replication ID to `,
			`(?:Master|Primary|MASTER|PRIMARY) replication ID changed to `,
			`Diskless rdb transfer, done reading from pipe`,
			`Diskless rdb transfer, last replica dropped`,
			`Failover request received`,
			`FAILOVER requested`,
			`Failover target .* is synced`,
			`Failover aborted`,
			`(?:MASTER|PRIMARY) MODE enabled`,
			`DB saved on disk`,
			// A container's redis-server is process 1: it inherits what kubectl exec and probes leave.
			`Warning, (?:received|detected) child with unmatched pid`,
			`\(Non critical\)`,
		}, "|") + `)`),
		link: regexp.MustCompile(`^(?:` + strings.Join([]string{
			`Connection with (?:master|primary|replica|slave)(?: .*)? lost`,
			`Error condition on socket for SYNC`,
			`Error reply to PING from (?:master|primary): .*LOADING`,
			`(?:Unable|Failed) to connect to (?:MASTER|PRIMARY)`,
			`(?:Master|Primary|MASTER|PRIMARY) (?:is currently unable to PSYNC|does not support PSYNC|aborted replication)`,
			`(?:MASTER|PRIMARY) (?:timeout|time out)`,
			`Timeout (?:connecting to|receiving bulk data from) (?:MASTER|PRIMARY)`,
			`I/O error (?:reading|trying to sync|writing) .*(?:MASTER|PRIMARY|master|primary)`,
			`Failed to read response from the server`,
			`Connection reset by peer`,
			`Disconnecting timedout replica`,
		}, "|") + `)`),
		words: regexp.MustCompile(`(?i)\b(?:errors?|fatal|can't|cannot|bad|misconf|oom|out of memory|crashed|panic|failed|aborting)\b`),
	}
}

// Judge returns what a line means, and its text without process ID and time: lines that
// differ by those only are the same.
func (r LogReader) Judge(line string) (kind LogKind, text string) {
	level, text := r.split(strings.TrimSpace(line))
	switch {
	case r.harmless.MatchString(text):
		return LogHarmless, text
	case r.link.MatchString(text):
		return LogLink, text
	case level == "#", level != "." && level != "-" && r.words.MatchString(text):
		return LogTrouble, text
	default:
		return LogHarmless, text
	}
}

// split takes a line apart; the level of one that a server has not formatted is empty.
func (r LogReader) split(line string) (level, text string) {
	if found := r.prefix.FindStringSubmatch(line); found != nil {
		return found[1], line[len(found[0]):]
	}
	if found := r.logfmt.FindStringSubmatch(line); found != nil {
		switch found[1] {
		case "warning":
			return "#", found[2]
		case "notice":
			return "*", found[2]
		default:
			return ".", found[2]
		}
	}
	return "", line
}

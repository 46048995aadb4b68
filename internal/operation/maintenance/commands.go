package maintenance

import (
	"slices"
	"strings"
)

// Danger says why a command is not simply carried out.
type Danger struct {
	// Reason completes "it …".
	Reason string
	// Instead is what to use. Empty when there is nothing better.
	Instead string
	// Never is set for commands that a single request and reply cannot hold: they are
	// refused altogether. Others need consent.
	Never bool
}

// DangerOf returns why a command must not be carried out without consent, or at all; nil
// for one that may.
func DangerOf(c Command) *Danger {
	if len(c) == 0 {
		return nil
	}
	name, sub := strings.ToUpper(c[0]), ""
	if len(c) > 1 {
		sub = strings.ToUpper(c[1])
	}
	if waitsForever(name, c) {
		return &Danger{Reason: "waits until something happens, for ever if nothing does", Instead: "give it a time limit of less than --timeout, or: redisctl shell", Never: true}
	}
	return dangerNamed(name, sub)
}

// waitsForever reports whether a blocking command has no time limit. Where its time-out
// stands depends on the command.
func waitsForever(name string, c Command) bool {
	switch name {
	case "BLPOP", "BRPOP", "BZPOPMIN", "BZPOPMAX", "BRPOPLPUSH", "BLMOVE", "WAIT", "WAITAOF":
		return len(c) > 2 && isZero(c[len(c)-1])
	case "BLMPOP", "BZMPOP":
		return len(c) > 1 && isZero(c[1])
	case "XREAD", "XREADGROUP":
		at := slices.IndexFunc(c, func(word string) bool { return strings.EqualFold(word, "BLOCK") })
		return at > 0 && at+1 < len(c) && isZero(c[at+1])
	default:
		return false
	}
}

func isZero(word string) bool { return strings.Trim(word, "0.") == "" }

// dangerNamed is the table of commands that need care. sub is the first argument in
// upper case. One line each, so that it can be read.
func dangerNamed(name, sub string) *Danger { //nolint:gocyclo // a table
	const shell = "redisctl shell"
	switch name {
	case "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE":
		return &Danger{"listens until it is stopped", shell, true}
	case "MONITOR":
		return &Danger{"shows every command of every client until it is stopped", "redisctl maintenance monitor", true}
	case "SYNC", "PSYNC":
		return &Danger{"makes this connection a replica", "redisctl backup rdb", true}
	case "REPLCONF":
		return &Danger{"is what replicas say", "redisctl replication info", true}
	case "MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH":
		return &Danger{"needs other commands on the same connection", shell, true}
	case "SELECT":
		return &Danger{"holds only for this connection", "the flag --db", true}
	case "QUIT", "RESET", "HELLO", "AUTH", "ASKING", "READONLY", "READWRITE":
		return &Danger{"concerns only this connection", shell, true}
	case "FLUSHALL":
		return &Danger{"deletes everything, without a backup and without a check", "redisctl maintenance flushall", false}
	case "FLUSHDB":
		return &Danger{"deletes a database, without a backup and without a check", "redisctl maintenance flushdb", false}
	case "SWAPDB":
		return &Danger{"exchanges two databases under all clients", "", false}
	case "KEYS":
		return &Danger{"stops the server until it has looked at every key", "redisctl maintenance keys", false}
	case "SHUTDOWN":
		return &Danger{"stops the server; its pod then starts it again with what is on its volume", "", false}
	case "SAVE":
		return &Danger{"stops the server until everything is written", "redisctl maintenance bgsave", false}
	case "DEBUG":
		return &Danger{"can stop, crash or rewrite the server", "", false}
	case "REPLICAOF", "SLAVEOF":
		return &Danger{"changes who follows whom, and may discard data", "redisctl replication resync, or failover promote", false}
	case "FAILOVER":
		return &Danger{"hands the primary over without moving the Services", "redisctl failover promote", false}
	case "MIGRATE":
		return &Danger{"moves keys away, and stops both servers meanwhile", "", false}
	case "RESTORE", "RESTORE-ASKING":
		return &Danger{"loads a value that is not checked", "redisctl restore rdb --method live", false}
	case "BGREWRITEAOF", "BGSAVE":
		return nil
	case "EVAL", "EVALSHA", "FCALL":
		return &Danger{"runs a script, during which the server serves nobody else", "", false}
	case "SORT":
		return &Danger{"may write, and takes long for large collections", "", false}
	case "PFDEBUG", "PFSELFTEST":
		return &Danger{"is for tests of the server", "", false}
	case "MODULE":
		return only(sub, "loads or unloads code in the server", "LOAD", "LOADEX", "UNLOAD")
	case "CONFIG":
		return only(sub, "changes the running server until its restart", "SET", "REWRITE", "RESETSTAT")
	case "SCRIPT":
		return only(sub, "stops scripts, or makes clients' EVALSHA fail", "FLUSH", "KILL", "DEBUG")
	case "FUNCTION":
		return only(sub, "removes, replaces or stops functions", "FLUSH", "DELETE", "RESTORE", "KILL", "LOAD")
	case "CLIENT":
		return only(sub, "cuts or holds up other clients", "KILL", "PAUSE", "UNPAUSE", "NO-EVICT", "UNBLOCK")
	case "ACL":
		return only(sub, "changes who may do what", "SETUSER", "DELUSER", "LOAD", "SAVE")
	case "CLUSTER":
		return notOnly(sub, "changes the cluster", "INFO", "NODES", "SLOTS", "SHARDS", "MYID", "KEYSLOT", "COUNTKEYSINSLOT", "GETKEYSINSLOT", "HELP", "LINKS", "REPLICAS")
	case "SLOWLOG":
		return only(sub, "deletes what the server has noted", "RESET")
	case "LATENCY":
		return only(sub, "deletes what the server has noted", "RESET")
	case "MEMORY":
		return only(sub, "takes memory back while the server serves nobody else", "PURGE")
	case "XGROUP":
		return only(sub, "removes consumers or what they have yet to do", "DESTROY", "DELCONSUMER", "SETID")
	default:
		return nil
	}
}

func only(sub, reason string, subs ...string) *Danger {
	if slices.Contains(subs, sub) {
		return &Danger{Reason: reason}
	}
	return nil
}

func notOnly(sub, reason string, harmless ...string) *Danger {
	if slices.Contains(harmless, sub) {
		return nil
	}
	return &Danger{Reason: reason}
}

// Canonical returns a command under the name that Redis gave it, when it was typed by the
// name that the deployment gives it. renames maps the former to the latter.
func Canonical(c Command, renames map[string]string) Command {
	for original, renamed := range renames {
		if len(c) > 0 && renamed != "" && strings.EqualFold(renamed, c[0]) {
			return append(Command{original}, c[1:]...)
		}
	}
	return c
}

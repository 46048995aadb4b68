package config

import (
	"strings"
)

// renamed are the settings whose names have changed more than by a word.
func renamed(name string) string {
	switch name {
	case "lua-time-limit": // since 7.0
		return "busy-reply-threshold"
	case "slowlog-log-slower-than": // since Valkey 8.1
		return "commandlog-execution-slower-than"
	case "slowlog-max-len":
		return "commandlog-slow-execution-max-len"
	default:
		return name
	}
}

// canonical returns the newest name of a setting. CONFIG GET shows a setting under all of
// its names, and other versions know it under one of them only.
func canonical(name string) string {
	name = strings.ReplaceAll(renamed(name), "_", "-") // server_cpulist
	name = strings.Replace(name, "slaves", "replicas", 1)
	name = strings.Replace(name, "slave", "replica", 1)
	name = strings.Replace(name, "ziplist", "listpack", 1)
	switch name {
	case "masterauth", "masteruser":
		return strings.Replace(name, "master", "primary", 1)
	default:
		return name
	}
}

// canonicalKeys names the settings by their canonical names. names tells under which
// name the server knows each, the newest one if it knows several.
func canonicalKeys(settings map[string]string) (values, names map[string]string) {
	values, names = make(map[string]string, len(settings)), make(map[string]string, len(settings))
	for name, value := range settings {
		c := canonical(name)
		if known, ok := names[c]; ok && known == c {
			continue
		}
		values[c], names[c] = value, name
	}
	return values, names
}

// fate is what a setting allows.
type fate int

const (
	// changeable: CONFIG SET changes it.
	changeable fate = iota
	// startOnly: a server reads it when it starts.
	startOnly
	// own: it is about one server, its surroundings or its files.
	own
	// credential: a password that the release's Secret holds as well.
	credential
	// secret: any other one.
	secret
)

// fateOf sorts the settings of 6.0 to 8.0 and Valkey 8.1, by their canonical names. What
// is startOnly was found by setting each of them to its present value: the servers answer
// "can't set immutable config", and before 7.0 "Unsupported CONFIG parameter".
func fateOf(name string) fate {
	switch name {
	case "requirepass", "primaryauth":
		return credential
	case "tls-key-file-pass", "tls-client-key-file-pass":
		return secret
	case "bind", "bind-source-addr", "port", "unixsocket", "unixsocketperm", "unixsocketgroup",
		"dir", "dbfilename", "appendfilename", "appenddirname", "logfile", "pidfile", "aclfile", "primaryuser",
		"replicaof", "replica-announce-ip", "replica-announce-port", "replica-announced", "replica-priority",
		"daemonize", "supervised", "syslog-enabled", "syslog-facility", "syslog-ident", "always-show-logo",
		"oom-score-adj", "oom-score-adj-values", "disable-thp", "set-proc-title", "proc-title-template",
		"server-cpulist", "bio-cpulist", "aof-rewrite-cpulist", "bgsave-cpulist", "socket-mark-id", "availability-zone",
		"import-mode", "watchdog-period", "key-load-delay", "rdb-key-save-delay":
		return own
	case "databases", "io-threads", "io-threads-do-reads", "rdbchecksum", "tcp-backlog",
		"enable-debug-command", "enable-module-command", "enable-protected-configs":
		return startOnly
	}
	for _, prefix := range []string{"cluster-", "tls-", "rdma-"} {
		if strings.HasPrefix(name, prefix) {
			return own
		}
	}
	return changeable
}

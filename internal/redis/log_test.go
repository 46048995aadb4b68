package redis

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestJudge takes lines that Redis 6.0, 7.0, 8.0 and Valkey 8.1 have printed.
func TestJudge(t *testing.T) {
	r := NewLogReader()
	for line, want := range map[string]LogKind{
		// Starting and stopping, 6.0 and 7.0: at level warning.
		"16568:C 23 Nov 2026 19:13:04.321 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo":                                                                                                                 LogHarmless,
		"16568:C 23 Nov 2026 19:13:04.321 # Redis version=6.0.16, bits=64, commit=00000000, modified=0, pid=16568, just started":                                                                           LogHarmless,
		"17282:C 23 Nov 2026 19:13:26.385 # Configuration loaded":                                                                                                                                          LogHarmless,
		"17282:S 23 Nov 2026 19:13:26.386 # Server initialized":                                                                                                                                            LogHarmless,
		"16568:M 23 Nov 2026 19:13:11.187 # User requested shutdown...":                                                                                                                                    LogHarmless,
		"32472:signal-handler (1795460361) Received SIGTERM scheduling shutdown...":                                                                                                                        LogHarmless,
		"17399:S 23 Nov 2026 19:13:38.522 # Redis is now ready to exit, bye bye...":                                                                                                                        LogHarmless,
		"17775:S 23 Nov 2026 19:13:52.220 # Valkey is now ready to exit, bye bye...":                                                                                                                       LogHarmless,
		"17775:M 23 Nov 2026 19:13:45.321 # WARNING: The TCP backlog setting of 100000 cannot be enforced because /proc/sys/net/core/somaxconn is set to the lower value of 4096.":                         LogHarmless,
		"1:M 23 Nov 2026 19:13:45.321 # WARNING overcommit_memory is set to 0! Background save may fail under low memory condition.":                                                                       LogHarmless,
		"1:M 23 Nov 2026 19:13:45.321 # WARNING Memory overcommit must be enabled! Without it, a background save or replication may fail under low memory condition.":                                      LogHarmless,
		"1:M 23 Nov 2026 19:13:45.321 # WARNING you have Transparent Huge Pages (THP) support enabled in your kernel.":                                                                                     LogHarmless,
		"17282:M 23 Nov 2026 19:13:28.391 # Setting secondary replication ID to 4af1e4b8fc960d278433feaf74c0edd8e6386099, valid up to offset: 65. New replication ID is bb1fca506aa9b23979e05c611c26e4c8f": LogHarmless,
		"32473:S 23 Nov 2026 19:00:20.391 # Master replication ID changed to 5d87f025b60b5699b36a571a90dafa04bab9a81f":                                                                                     LogHarmless,
		"32473:M 23 Nov 2026 19:00:20.391 # Diskless rdb transfer, done reading from pipe, 1 replicas still up.":                                                                                           LogHarmless,
		"32473:M 23 Nov 2026 19:00:20.391 * FAILOVER requested to 127.0.0.1:7802.":                                                                                                                         LogHarmless,
		"1:M 23 Nov 2026 19:00:20.391 * MASTER MODE enabled (failover request from 'id=6 addr=127.0.0.1:41618 name= error=0')":                                                                             LogHarmless,
		"1:M 23 Nov 2026 19:00:20.391 * Background saving terminated with success":                                                                                                                         LogHarmless,
		"1:M 23 Nov 2026 19:00:20.391 - Error writing to client: Connection reset by peer":                                                                                                                 LogHarmless,
		`pid=1 role=primary timestamp="23 Nov 2026 19:13:45.321" level=notice message="Ready to accept connections tcp"`:                                                                                   LogHarmless,
		"": LogHarmless,

		// What the restart of another server brings about.
		"17282:M 23 Nov 2026 19:13:28.391 # Connection with master lost.":                                   LogLink,
		"17282:M 23 Nov 2026 19:13:28.391 # Connection with replica 127.0.0.1:7802 lost.":                   LogLink,
		"17979:S 23 Nov 2026 19:13:57.789 # Error condition on socket for SYNC: Connection refused":         LogLink,
		"1:S 23 Nov 2026 19:13:57.789 # Unable to connect to MASTER: Resource temporarily unavailable":      LogLink,
		"1:S 23 Nov 2026 19:13:57.789 # MASTER timeout: no data nor PING received...":                       LogLink,
		"1:M 23 Nov 2026 19:13:57.789 # Disconnecting timedout replica (streaming sync): 10.0.0.11:6379":    LogLink,
		"1:S 23 Nov 2026 19:13:57.789 * I/O error reading bulk count from MASTER: Connection reset by peer": LogLink,

		// Trouble.
		"17759:M 23 Nov 2026 19:13:45.208 # Wrong signature trying to load DB from file":                                                                           LogTrouble,
		"17112:M 23 Nov 2026 19:13:17.872 # Fatal error loading the DB: Invalid argument. Exiting.":                                                                LogTrouble,
		"18451:M 23 Nov 2026 19:13:58.968 # Can't handle RDB format version 99":                                                                                    LogTrouble,
		"17734:C 23 Nov 2026 19:13:44.078 # Error moving temp DB file temp-17734.rdb on the final destination dump.rdb (in server root dir /data): Is a directory": LogTrouble,
		"17589:M 23 Nov 2026 19:13:44.094 # Background saving error":                                                                                               LogTrouble,
		"17772:M 23 Nov 2026 19:13:45.242 # Module Configuration detected without loadmodule directive or no ApplyConfig call: aborting":                           LogTrouble,
		"*** FATAL CONFIG FILE ERROR (Redis 6.0.16) ***":                                                                                                           LogTrouble,
		"*** FATAL CONFIG FILE ERROR (Version 8.1.1) ***":                                                                                                          LogTrouble,
		"Bad directive or wrong number of arguments":                                                                                                               LogTrouble,
		"16568:M 23 Nov 2026 19:13:04.322 * Error loading cjson library":                                                                                           LogTrouble,
		"1:M 23 Nov 2026 19:13:04.322 # Can't save in background: fork: Cannot allocate memory":                                                                    LogTrouble,
		"1:S 23 Nov 2026 19:13:04.322 # Failed trying to load the MASTER synchronization DB from disk, check server logs.":                                         LogTrouble,
		"1:M 23 Nov 2026 19:13:04.322 # Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis.":                     LogTrouble,
		`pid=1 role=primary timestamp="23 Nov 2026 19:13:45.321" level=warning message="Background saving error"`:                                                  LogTrouble,
	} {
		kind, _ := r.Judge(line)
		assert.Equal(t, want, kind, line)
	}
	_, one := r.Judge("17589:M 23 Nov 2026 19:13:44.094 # Background saving error")
	_, two := r.Judge("17589:M 23 Nov 2026 19:14:44.094 # Background saving error\r")
	assert.Equal(t, one, two, "the same but for the time")
}

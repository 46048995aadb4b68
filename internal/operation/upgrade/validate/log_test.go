package validate

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestJudge takes lines that Redis 6.0, 7.0, 8.0 and Valkey 8.1 have printed.
func TestJudge(t *testing.T) {
	r := newLogReader()
	for line, want := range map[string]lineKind{
		// Starting and stopping, 6.0 and 7.0: at level warning.
		"16568:C 23 Nov 2026 19:13:04.321 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo":                                                                                                                 lineHarmless,
		"16568:C 23 Nov 2026 19:13:04.321 # Redis version=6.0.16, bits=64, commit=00000000, modified=0, pid=16568, just started":                                                                           lineHarmless,
		"17282:C 23 Nov 2026 19:13:26.385 # Configuration loaded":                                                                                                                                          lineHarmless,
		"17282:S 23 Nov 2026 19:13:26.386 # Server initialized":                                                                                                                                            lineHarmless,
		"16568:M 23 Nov 2026 19:13:11.187 # User requested shutdown...":                                                                                                                                    lineHarmless,
		"32472:signal-handler (1795460361) Received SIGTERM scheduling shutdown...":                                                                                                                        lineHarmless,
		"17399:S 23 Nov 2026 19:13:38.522 # Redis is now ready to exit, bye bye...":                                                                                                                        lineHarmless,
		"17775:S 23 Nov 2026 19:13:52.220 # Valkey is now ready to exit, bye bye...":                                                                                                                       lineHarmless,
		"17775:M 23 Nov 2026 19:13:45.321 # WARNING: The TCP backlog setting of 100000 cannot be enforced because /proc/sys/net/core/somaxconn is set to the lower value of 4096.":                         lineHarmless,
		"1:M 23 Nov 2026 19:13:45.321 # WARNING overcommit_memory is set to 0! Background save may fail under low memory condition.":                                                                       lineHarmless,
		"1:M 23 Nov 2026 19:13:45.321 # WARNING Memory overcommit must be enabled! Without it, a background save or replication may fail under low memory condition.":                                      lineHarmless,
		"1:M 23 Nov 2026 19:13:45.321 # WARNING you have Transparent Huge Pages (THP) support enabled in your kernel.":                                                                                     lineHarmless,
		"17282:M 23 Nov 2026 19:13:28.391 # Setting secondary replication ID to 4af1e4b8fc960d278433feaf74c0edd8e6386099, valid up to offset: 65. New replication ID is bb1fca506aa9b23979e05c611c26e4c8f": lineHarmless,
		"32473:S 23 Nov 2026 19:00:20.391 # Master replication ID changed to 5d87f025b60b5699b36a571a90dafa04bab9a81f":                                                                                     lineHarmless,
		"32473:M 23 Nov 2026 19:00:20.391 # Diskless rdb transfer, done reading from pipe, 1 replicas still up.":                                                                                           lineHarmless,
		"32473:M 23 Nov 2026 19:00:20.391 * FAILOVER requested to 127.0.0.1:7802.":                                                                                                                         lineHarmless,
		"1:M 23 Nov 2026 19:00:20.391 * MASTER MODE enabled (failover request from 'id=6 addr=127.0.0.1:41618 name= error=0')":                                                                             lineHarmless,
		"1:M 23 Nov 2026 19:00:20.391 * Background saving terminated with success":                                                                                                                         lineHarmless,
		"1:M 23 Nov 2026 19:00:20.391 - Error writing to client: Connection reset by peer":                                                                                                                 lineHarmless,
		`pid=1 role=primary timestamp="23 Nov 2026 19:13:45.321" level=notice message="Ready to accept connections tcp"`:                                                                                   lineHarmless,
		"": lineHarmless,

		// What the restart of another server brings about.
		"17282:M 23 Nov 2026 19:13:28.391 # Connection with master lost.":                                   lineLink,
		"17282:M 23 Nov 2026 19:13:28.391 # Connection with replica 127.0.0.1:7802 lost.":                   lineLink,
		"17979:S 23 Nov 2026 19:13:57.789 # Error condition on socket for SYNC: Connection refused":         lineLink,
		"1:S 23 Nov 2026 19:13:57.789 # Unable to connect to MASTER: Resource temporarily unavailable":      lineLink,
		"1:S 23 Nov 2026 19:13:57.789 # MASTER timeout: no data nor PING received...":                       lineLink,
		"1:M 23 Nov 2026 19:13:57.789 # Disconnecting timedout replica (streaming sync): 10.0.0.11:6379":    lineLink,
		"1:S 23 Nov 2026 19:13:57.789 * I/O error reading bulk count from MASTER: Connection reset by peer": lineLink,

		// Trouble.
		"17759:M 23 Nov 2026 19:13:45.208 # Wrong signature trying to load DB from file":                                                                           lineTrouble,
		"17112:M 23 Nov 2026 19:13:17.872 # Fatal error loading the DB: Invalid argument. Exiting.":                                                                lineTrouble,
		"18451:M 23 Nov 2026 19:13:58.968 # Can't handle RDB format version 99":                                                                                    lineTrouble,
		"17734:C 23 Nov 2026 19:13:44.078 # Error moving temp DB file temp-17734.rdb on the final destination dump.rdb (in server root dir /data): Is a directory": lineTrouble,
		"17589:M 23 Nov 2026 19:13:44.094 # Background saving error":                                                                                               lineTrouble,
		"17772:M 23 Nov 2026 19:13:45.242 # Module Configuration detected without loadmodule directive or no ApplyConfig call: aborting":                           lineTrouble,
		"*** FATAL CONFIG FILE ERROR (Redis 6.0.16) ***":                                                                                                           lineTrouble,
		"*** FATAL CONFIG FILE ERROR (Version 8.1.1) ***":                                                                                                          lineTrouble,
		"Bad directive or wrong number of arguments":                                                                                                               lineTrouble,
		"16568:M 23 Nov 2026 19:13:04.322 * Error loading cjson library":                                                                                           lineTrouble,
		"1:M 23 Nov 2026 19:13:04.322 # Can't save in background: fork: Cannot allocate memory":                                                                    lineTrouble,
		"1:S 23 Nov 2026 19:13:04.322 # Failed trying to load the MASTER synchronization DB from disk, check server logs.":                                         lineTrouble,
		"1:M 23 Nov 2026 19:13:04.322 # Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis.":                     lineTrouble,
		`pid=1 role=primary timestamp="23 Nov 2026 19:13:45.321" level=warning message="Background saving error"`:                                                  lineTrouble,
	} {
		kind, _ := r.judge(line)
		assert.Equal(t, want, kind, line)
	}
	_, one := r.judge("17589:M 23 Nov 2026 19:13:44.094 # Background saving error")
	_, two := r.judge("17589:M 23 Nov 2026 19:14:44.094 # Background saving error\r")
	assert.Equal(t, one, two, "the same but for the time")
}

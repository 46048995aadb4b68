package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/redis"
)

// checkPath compares the two versions, and what is known to change between them with what
// the release uses.
func (k *checking) checkPath(context.Context) {
	target := k.report.Target
	switch {
	case target == nil:
		return
	case !k.facts.Answered:
		k.unknown(k.d.Name, fmt.Errorf("no server answers: what changes on the way to %s depends on its version", target.Image))
		return
	case target.Version == nil:
		k.unknown(target.Image, errors.New("its tag holds no version: what changes on the way to it is not known"))
		return
	}
	to := *target.Version
	for _, f := range compareVersions(k.facts.Version, to, k.writes(), k.o.Overrides) {
		f.Subject = k.d.Name
		k.add(f)
	}
	for _, c := range changes() {
		if !c.crossed(k.facts.Version, to) {
			continue
		}
		if concerned := c.concerns(&k.facts); concerned != "" {
			k.add(operation.Finding{
				Code: c.code, Severity: c.severity, Subject: k.d.Name, Message: concerned + ": " + c.message, Hint: c.hint,
			})
		}
	}
}

// writes returns the RDB version that the target writes: as observed, or as its version
// tells.
func (k *checking) writes() int {
	if k.report.Trial != nil && k.report.Trial.RDBVersion > 0 {
		return k.report.Trial.RDBVersion
	}
	return k.report.Target.Version.RDBVersion()
}

// written describes the files that servers of version v write. Valkey writes the format
// of Redis 7.2 until it begins a count of its own.
func written(v redis.Version) *rdb.Summary {
	s := &rdb.Summary{Version: v.RDBVersion(), Origin: rdb.OriginRedis}
	if s.Version >= firstValkeyRDB {
		s.Origin = rdb.OriginValkey
	}
	return s
}

// firstValkeyRDB is where Valkey's own count of RDB versions begins (rdb.h of Valkey 9.0).
const firstValkeyRDB = 80

// compareVersions judges the way from one version to another. writes is the RDB version
// that the target writes.
func compareVersions(from, to redis.Version, writes int, o Overrides) []operation.Finding {
	var found []operation.Finding
	add := func(code string, severity operation.Severity, message, hint string) {
		found = append(found, operation.Finding{Code: code, Severity: severity, Message: message, Hint: hint})
	}
	older := from.Product == to.Product && to.Compare(from) < 0
	switch {
	case !restore.Readable(to, written(from)):
		// Servers end with "Can't handle RDB format version" (rdb.c), and the pod restarts
		// for ever.
		found = append(found, operation.Finding{
			Code: "data-unreadable", Severity: operation.Critical,
			Message:  fmt.Sprintf("%s cannot read the data: %s writes RDB version %d, it reads up to %d", to, from, from.RDBVersion(), readable(from, to)),
			Hint:     "the data has to be moved with redisctl restore rdb --method live, which restores what the older server understands",
			Override: "--allow-downgrade", Overridden: o.Downgrade,
		})
	case older:
		add("downgrade", operation.Warning, fmt.Sprintf("%s is older than %s: servers are not meant to replicate from newer ones", to, from), "")
	}
	if writes > from.RDBVersion() || to.Product != from.Product && !restore.Readable(from, &rdb.Summary{Version: writes, Origin: written(to).Origin}) {
		add("way-back-needs-backup", operation.Notice,
			fmt.Sprintf("%s writes RDB version %d, %s reads up to %d: once the primary is upgraded, going back needs the backup", to, writes, from, from.RDBVersion()), "")
	}
	if from.Product != to.Product {
		add("product-changes", operation.Notice,
			fmt.Sprintf("%s takes the place of %s: clients that read the product's name or version from INFO or HELLO find another one", to, from), "")
	}
	if skipped := level(to).Major - level(from).Major; skipped > 1 {
		add("skips-major", operation.Notice,
			fmt.Sprintf("the way from %s to %s skips a major version: what both have changed comes at once", from, to),
			"the server reads the older data all the same")
	}
	return found
}

// readable is the newest RDB version of from's product that to reads.
func readable(from, to redis.Version) int {
	if from.Product != to.Product {
		return min(from.RDBVersion(), to.RDBVersion(), redis.Version{Product: "redis", Major: 7, Minor: 2}.RDBVersion())
	}
	return to.RDBVersion()
}

// level returns the version of Redis whose behaviour v has: Valkey was forked from Redis
// 7.2.4 (https://valkey.io/topics/migration/).
func level(v redis.Version) redis.Version {
	if v.Product == "valkey" {
		return redis.Version{Product: "redis", Major: 7, Minor: 2, Patch: 4}
	}
	return v
}

// change is something that a version does in another way than those before it.
type change struct {
	// since is the version of Redis that brought it. Those before it, and what has forked
	// from them, do not have it.
	since redis.Version
	// redisOnly says that Valkey has not got it, whatever its version is compared with.
	redisOnly bool
	code      string
	severity  operation.Severity
	// concerns returns what of the release is concerned, "" when nothing is.
	concerns func(*facts) string
	// message says what changes for it.
	message, hint string
}

// crossed reports whether the way from one version to the other leads over the change.
func (c change) crossed(from, to redis.Version) bool {
	if c.redisOnly && to.Product != "redis" {
		return false
	}
	return level(from).Compare(c.since) < 0 && level(to).Compare(c.since) >= 0
}

// changes returns what is known to break, by the release notes of each version
// (00-RELEASENOTES in the sources, "breaking" or "behavior changes").
func changes() []change {
	v := func(major, minor int) redis.Version {
		return redis.Version{Product: "redis", Major: major, Minor: minor}
	}
	return []change{
		{
			// 7.0: "acl-pubsub-default: the default is now resetchannels".
			since: v(7, 0), code: "acl-channels", severity: operation.Warning, concerns: aclWithoutChannels,
			message: "since 7.0 users that no rule gives channels to may use none (acl-pubsub-default resetchannels)",
			hint:    "give those that publish or subscribe &channel rules, or set acl-pubsub-default allchannels (known since 6.2)",
		},
		{
			// 7.0: "AOF: multi-part AOF", appenddirname.
			since: v(7, 0), code: "aof-layout", severity: operation.Notice, concerns: appendOnly,
			message: "since 7.0 it is a folder of files (appendonlydir), made of the present file at the first start; an older server does not look there",
			hint:    "going back needs the backup; whatever copies appendonly.aof by name must learn the new layout",
		},
		{
			// 7.0: "SCRIPT LOAD and EVAL are no longer propagated to replicas and AOF".
			since: v(7, 0), code: "scripts-stay", severity: operation.Notice, concerns: cachedScripts,
			message: "since 7.0 they are neither replicated nor kept: after each hand-over and restart EVALSHA answers NOSCRIPT until a client loads its script again",
			hint:    "clients must answer NOSCRIPT with EVAL; most libraries do",
		},
		{
			// 7.0: enable-debug-command and enable-module-command, off by default.
			since: v(7, 0), code: "protected-commands", severity: operation.Warning, concerns: called("debug", "module"),
			message: "since 7.0 DEBUG and MODULE are refused by default",
			hint:    "set enable-debug-command or enable-module-command to local or yes, if these clients need them",
		},
		{
			// 7.2: "XREADGROUP and X[AUTO]CLAIM create the consumer regardless of whether it
			// was able to perform some reading/claiming".
			since: v(7, 2), code: "stream-consumers", severity: operation.Notice, concerns: called("xreadgroup", "xclaim", "xautoclaim"),
			message: "since 7.2 they create the consumer also when there is nothing to read or to claim",
		},
		{
			// 7.2: "Freeze time sampling during command execution and scripts".
			since: v(7, 2), code: "script-time", severity: operation.Notice, concerns: called("eval", "evalsha", "fcall"),
			message: "since 7.2 time stands still while a script runs: TIME and expiry in it do not advance",
		},
		{
			// 7.4: from BSD to RSALv2 or SSPLv1; 8.0 adds AGPLv3 (LICENSE.txt).
			since: v(7, 4), redisOnly: true, code: "licence", severity: operation.Notice, concerns: everybody,
			message: "since 7.4 Redis is under RSALv2 or SSPLv1 (since 8.0 also AGPLv3) instead of the BSD licence",
		},
		{
			// 8.0: "Extension to the existing ACL categories"
			// (https://redis.io/docs/latest/embeds/redis8-breaking-changes-acl).
			since: v(8, 0), redisOnly: true, code: "acl-categories", severity: operation.Notice, concerns: aclRules,
			message: "since 8.0 categories such as @read and @write hold the commands of the new data types as well (JSON, search, time series, ...)",
			hint:    "look at rules with +@... and -@...",
		},
		{
			// 8.0: "Stand alone RediSearch, RedisJSON, RedisTimeSeries, and RedisBloom are no
			// longer needed as they are now part of Redis".
			since: v(8, 0), redisOnly: true, code: "modules-included", severity: operation.Warning, concerns: includedModules,
			message: "since 8.0 they are a part of Redis; the separate modules are not meant to be loaded any more",
			hint:    "remove these loadmodule lines",
		},
	}
}

// everybody is concerned.
func everybody(f *facts) string { return f.Version.String() }

func appendOnly(f *facts) string {
	if !f.Info.Persistence().AOFEnabled {
		return ""
	}
	return "the append-only file is on"
}

func cachedScripts(f *facts) string {
	if n := f.Info.Int("number_of_cached_scripts"); n > 0 {
		return fmt.Sprintf("%d scripts are cached", n)
	}
	return ""
}

// called is about commands that clients have sent.
func called(names ...string) func(*facts) string {
	return func(f *facts) string {
		var said []string
		for _, name := range names {
			if calls := f.Commands[name]; calls > 0 {
				said = append(said, fmt.Sprintf("%s was called %d times", strings.ToUpper(name), calls))
			}
		}
		return strings.Join(said, ", ")
	}
}

// aclRules names where ACL rules stand, besides those of the default user.
func aclRules(f *facts) string {
	if file := aclFile(f); file != "" {
		return "rules of the ACL file " + file
	}
	return users(f, func([]string) bool { return true })
}

// aclWithoutChannels names where rules stand that may give no channels.
func aclWithoutChannels(f *facts) string {
	if value, ok := f.Config.Get("acl-pubsub-default"); ok && value == "allchannels" {
		return ""
	}
	if file := aclFile(f); file != "" {
		return "users of the ACL file " + file
	}
	return users(f, func(rules []string) bool {
		return !slices.ContainsFunc(rules, func(rule string) bool {
			return strings.HasPrefix(rule, "&") || rule == "allchannels" || rule == "resetchannels"
		})
	})
}

func aclFile(f *facts) string {
	file, _ := f.Config.Get("aclfile")
	return cmp.Or(f.Settings["aclfile"], file)
}

// users names those of redis.conf whose rules are concerned.
func users(f *facts, concerned func(rules []string) bool) string {
	var names []string
	for _, d := range f.Config.Directives() {
		if d.Name == "user" && len(d.Args) > 0 && concerned(d.Args[1:]) && !slices.Contains(names, d.Args[0]) {
			names = append(names, d.Args[0])
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "user " + strings.Join(names, ", ") + " of redis.conf"
}

// includedModules names the loaded modules that Redis 8 has built in.
func includedModules(f *facts) string {
	included := []string{"rejson", "redisearch", "redistimeseries", "redisbloom"}
	var names []string
	for _, d := range f.Config.Directives() {
		if d.Name != "loadmodule" || len(d.Args) == 0 {
			continue
		}
		file := d.Args[0][strings.LastIndexByte(d.Args[0], '/')+1:]
		name, _, _ := strings.Cut(file, ".")
		if slices.Contains(included, strings.ToLower(name)) {
			names = append(names, file)
		}
	}
	return strings.Join(names, ", ")
}

// commandCalls reads INFO commandstats: "cmdstat_get:calls=12,usec=...". Subcommands,
// which servers since 7.0 count by themselves ("config|get"), count for their command.
func commandCalls(info redis.Info) map[string]int64 {
	calls := make(map[string]int64)
	for _, section := range info.Sections() {
		for _, f := range section.Fields {
			name, counted := strings.CutPrefix(f.Name, "cmdstat_")
			if !counted {
				continue
			}
			name, _, _ = strings.Cut(strings.ToLower(name), "|")
			var n int64
			if _, err := fmt.Sscanf(f.Value, "calls=%d", &n); err == nil {
				calls[name] += n
			}
		}
	}
	return calls
}

package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/bundle"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/operation/resync"
	"github.com/redisctl/redisctl/internal/operation/upgrade/check"
	"github.com/redisctl/redisctl/internal/operation/upgrade/green"
	"github.com/redisctl/redisctl/internal/operation/upgrade/roll"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot/retention"
)

// invocation is what a command line means: which command, with what.
type invocation struct {
	command string
	options any
	args    []string
	globals globals
}

// parse reads a command line up to the point where the command's body would run.
func parse(t *testing.T, env map[string]string, line ...string) (invocation, error) {
	t.Helper()
	var out bytes.Buffer
	a := newApp(System{
		In: strings.NewReader(""), Out: &out, Err: &out, Now: time.Now,
		LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	})
	a.backend = func(*app) (*backend, error) { return nil, errors.New("a parsed command was run") }
	var got invocation
	a.invoke = func(options any, args []string, _ func() error) error {
		got.options, got.args, got.globals = options, args, a.globals
		return nil
	}
	root := a.newRootCommand()
	root.SetArgs(line)
	cmd, err := root.ExecuteContextC(context.Background())
	got.command = cmd.CommandPath()
	got.globals.format = render.Format{} // tested in package render
	return got, err
}

// defaults are the global flags of a command line without any.
func defaults(change func(*globals)) globals {
	g := globals{output: "table", timeout: 5 * time.Second, color: "auto"}
	if change != nil {
		change(&g)
	}
	return g
}

const store = "tmp/redis-backups" // the default of --backup-dir, below ./

// TestOptions compares all that a command gets with what its flags are documented to
// set.
func TestOptions(t *testing.T) {
	thresholds := health.Options{
		Timeout: 5 * time.Second, MaxLagBytes: 16 << 20, MaxSilence: 30 * time.Second,
		MaxMemory: 0.9, MaxSaveAge: 24 * time.Hour,
	}
	changed := thresholds
	changed.MaxLagBytes, changed.MaxSilence = 5, 7*time.Second
	fleet := thresholds
	fleet.MaxMemory, fleet.MaxSaveAge = 0.5, time.Hour
	defaultStore := storeOptions{dir: "./" + store}
	noEncoding := encodingOptions{compress: "none"}
	defaultRoll := rollOptions{
		roll: roll.Options{BackupAge: time.Hour, Limits: roll.DefaultLimits()}, check: check.DefaultOptions(),
		store: defaultStore, encoding: noEncoding,
	}
	oneFleet := fleetOptions{parallel: defaultParallel}
	volumeDefaults := volumeOptions{stop: 2 * time.Minute, start: 5 * time.Minute, hold: 2 * time.Minute}
	stream := backup.Options{Stall: 15 * time.Second}
	limits := failover.Limits{Timeout: failover.DefaultLimits().Timeout, Pause: time.Second, Settle: 2 * time.Second}

	cases := []struct {
		line    string
		options any
		args    []string
		globals func(*globals)
	}{
		{"maintenance dbsize", noOptions{}, nil, nil},
		{"keys", keysOptions{scan: scanOptions{count: 500, duty: 100}}, nil, nil},
		{
			"maintenance keys a* --db 2 --type hash --count 7 --duty 50 --limit 9 -l --ttl --size",
			keysOptions{scan: scanOptions{db: 2, typ: "hash", count: 7, duty: 50}, limit: 9, long: true, showTTL: true, size: true}, []string{"a*"}, nil,
		},
		{"maintenance bigkeys", bigKeysOptions{scan: scanOptions{db: -1, count: 500, duty: 25}, top: 10, samples: 5}, nil, nil},
		{
			"maintenance bigkeys --db 1 --type set --match b* --top 3 --samples 0 --count 8 --duty 9",
			bigKeysOptions{scan: scanOptions{db: 1, typ: "set", count: 8, duty: 9}, match: "b*", top: 3}, nil, nil,
		},
		{"maintenance flushall", flushOptions{db: -1, settle: 30 * time.Second, store: defaultStore, encoding: noEncoding}, nil, nil},
		{
			"maintenance flushdb --db 4 --no-backup --settle 1s --to a --compress zstd --encrypt-to k --dry-run -y",
			flushOptions{
				db: 4, noBackup: true, settle: time.Second, store: storeOptions{dir: "./" + store, urls: []string{"a"}},
				encoding: encodingOptions{compress: "zstd", encryptTo: []string{"k"}}, dryRun: true, yes: true,
			},
			nil, nil,
		},
		{"maintenance slowlog", slowlogOptions{maintenance.SlowlogOptions{Limit: 25}}, nil, nil},
		{"maintenance slowlog --limit 3 --show-values --reset", slowlogOptions{maintenance.SlowlogOptions{Limit: 3, ShowValues: true, Reset: true}}, nil, nil},
		{"maintenance latency", latencyOptions{maintenance.ProbeOptions{For: 5 * time.Second, Interval: 50 * time.Millisecond}}, nil, nil},
		{"maintenance latency --for 1m --interval 1s", latencyOptions{maintenance.ProbeOptions{For: time.Minute, Interval: time.Second}}, nil, nil},
		{"maintenance latency history fork", noOptions{}, []string{"fork"}, nil},
		{"maintenance latency histogram get set", noOptions{}, []string{"get", "set"}, nil},
		{"maintenance save -y", saveOptions{yes: true}, nil, nil},
		{"maintenance exec --db 1 --all-pods -y -- SET a -1", execOptions{db: 1, allPods: true, yes: true}, []string{"SET", "a", "-1"}, nil},
		{"maintenance exec LRANGE a 0 -1", execOptions{}, []string{"LRANGE", "a", "0", "-1"}, nil},
		{"maintenance monitor", monitorOptions{maintenance.MonitorOptions{For: 10 * time.Second, Limit: 1000}}, nil, nil},
		{
			"maintenance monitor --for 1s --limit 2 --show-values --command get,set",
			monitorOptions{maintenance.MonitorOptions{For: time.Second, Limit: 2, ShowValues: true, Match: []string{"get", "set"}}}, nil, nil,
		},
		{"upgrade validate", upgradeValidateOptions{checks: health.DefaultOptions(), store: defaultStore, encoding: noEncoding}, nil, nil},
		{
			"upgrade validate --quick --no-backup --to a,s3://b --compress zstd --encrypt-to k --max-bytes 5 --max-seconds 7s",
			upgradeValidateOptions{
				checks: func() health.Options {
					o := health.DefaultOptions()
					o.MaxLagBytes, o.MaxSilence = 5, 7*time.Second
					return o
				}(),
				store:    storeOptions{dir: "./" + store, urls: []string{"a", "s3://b"}},
				encoding: encodingOptions{compress: "zstd", encryptTo: []string{"k"}}, quick: true, noBackup: true,
			},
			nil, nil,
		},
		{"restore config latest", restoreConfigOptions{source: sourceOptions{store: defaultStore}}, []string{"latest"}, nil},
		{
			"restore config f --only a*,b --include-secrets --values v --allow-other-release --ignore-memory --allow-managed --dry-run -y -i k",
			restoreConfigOptions{
				source:    sourceOptions{store: defaultStore, keys: keyOptions{identities: []string{"k"}}},
				overrides: restore.Overrides{OtherRelease: true, Memory: true, Managed: true},
				only:      []string{"a*", "b"}, secrets: true, values: "v", dryRun: true, yes: true,
			},
			[]string{"f"}, nil,
		},
		{
			"restore rdb latest", restoreRDBOptions{
				source: sourceOptions{store: defaultStore}, proof: proofOptions{verify: "sample"},
				volume: volumeOptions{stop: 2 * time.Minute, start: 5 * time.Minute, hold: 2 * time.Minute},
				live:   liveOptions{expiry: "any", maxPayload: 64 << 20, pace: paceOptions{connections: 2, maxLag: 128 << 20, stall: 30 * time.Second}},
				method: "auto",
			},
			[]string{"latest"}, nil,
		},
		{
			"restore rdb f --method live --db 1,2 --match a* --match b* --exclude c* --type set,hash --min-size 1 --max-size 2 --expiry set " +
				"--min-ttl 1s --max-ttl 2s --map-db 1=3 --skip-existing --skip-unsupported --no-functions --max-payload 70000 --connections 3 " +
				"--max-lag 4 --stall-timeout 5s",
			restoreRDBOptions{
				source: sourceOptions{store: defaultStore}, proof: proofOptions{verify: "sample"},
				volume: volumeOptions{stop: 2 * time.Minute, start: 5 * time.Minute, hold: 2 * time.Minute},
				live: liveOptions{
					filter: live.Filter{
						InDBs: []int{1, 2}, Match: []string{"a*", "b*"}, Exclude: []string{"c*"}, Types: []string{"set", "hash"},
						MinSize: 1, MaxSize: 2, MinTTL: time.Second, MaxTTL: 2 * time.Second,
					},
					expiry: "set", mapDB: []string{"1=3"}, skipExisting: true, skipUnsupported: true, noFunctions: true, maxPayload: 70000,
					pace: paceOptions{connections: 3, maxLag: 4, stall: 5 * time.Second},
				},
				method: "live",
			},
			[]string{"f"}, nil,
		},
		{
			"restore aof latest --before FLUSHALL", restoreAOFOptions{
				source: sourceOptions{store: defaultStore}, cut: cutOptions{before: "FLUSHALL"}, proof: proofOptions{verify: "sample"}, volume: volumeDefaults,
			},
			[]string{"latest"}, nil,
		},
		{
			"restore aof f --until 10m --to t --verify full --stop-timeout 1s --start-timeout 2s --hold 3s --replace --no-safety-backup --dry-run -y --ignore-space",
			restoreAOFOptions{
				source: sourceOptions{store: defaultStore}, cut: cutOptions{until: "10m"}, proof: proofOptions{verify: "full"},
				volume: volumeOptions{stop: time.Second, start: 2 * time.Second, hold: 3 * time.Second}, safety: safetyOptions{urls: []string{"t"}},
				overrides: restore.Overrides{Space: true}, replace: true, noSafety: true, dryRun: true, yes: true,
			},
			[]string{"f"}, nil,
		},
		{
			"restore aof f --until-command 12", restoreAOFOptions{
				source: sourceOptions{store: defaultStore}, cut: cutOptions{commands: "12"}, proof: proofOptions{verify: "sample"}, volume: volumeDefaults,
			},
			[]string{"f"}, nil,
		},
		{
			"restore aof f --until-offset a.aof:12", restoreAOFOptions{
				source: sourceOptions{store: defaultStore}, cut: cutOptions{offset: "a.aof:12"}, proof: proofOptions{verify: "sample"}, volume: volumeDefaults,
			},
			[]string{"f"}, nil,
		},
		{
			"restore full latest --into dr", restoreFullOptions{
				source: sourceOptions{store: defaultStore}, proof: proofOptions{verify: "sample"}, volume: volumeDefaults, into: "dr", rto: time.Hour,
			},
			[]string{"latest"}, nil,
		},
		{
			"restore full f --into dr --create-namespace --adopt --replace --accept-differences --storage-class c --password-file p --generate-password --secret-from-file s " +
				"--values v --rto 5m --allow-unverified --ignore-memory --ignore-space --dry-run -y --verify full --stop-timeout 1s --start-timeout 2s --hold 3s",
			restoreFullOptions{
				source: sourceOptions{store: defaultStore}, proof: proofOptions{verify: "full"},
				volume:    volumeOptions{stop: time.Second, start: 2 * time.Second, hold: 3 * time.Second},
				overrides: restore.Overrides{Unverified: true, Memory: true, Space: true},
				into:      "dr", createNamespace: true, adopt: true, replace: true, accept: true, storageClass: "c", passwordFile: "p", generate: true,
				secretFile: "s", values: "v", rto: 5 * time.Minute, dryRun: true, yes: true,
			},
			[]string{"f"}, nil,
		},
		{
			"restore test latest", restoreTestOptions{
				source: sourceOptions{store: defaultStore}, proof: proofOptions{verify: verifyFull}, where: inAuto, start: 5 * time.Minute, maxTime: time.Hour,
			},
			[]string{"latest"}, nil,
		},
		{
			"restore test ID --in pod --image i --memory 4Gi --verify sample --start-timeout 1s --max-time 2h --server s", restoreTestOptions{
				source: sourceOptions{store: defaultStore}, proof: proofOptions{verify: verifySample}, where: inPod, server: "s",
				pod: drillPodOptions{image: "i", memory: "4Gi"}, start: time.Second, maxTime: 2 * time.Hour,
			},
			[]string{"ID"}, nil,
		},
		{
			"upgrade apply --to 8.0.2 --strategy rolling --failback --set a=b -f v.yaml --backup-to f --start-timeout 1m --pull-timeout 1s --recreate-workload --no-trial --yes",
			func() upgradeApplyOptions {
				o := upgradeApplyOptions{
					target: targetImage{to: "8.0.2"}, strategy: "rolling",
					values: valueOptions{files: []string{"v.yaml"}, set: []string{"a=b"}},
				}
				o.rollOptions = defaultRoll
				o.store.urls = []string{"f"}
				o.roll.Failback, o.check.Overrides.Recreate, o.noTrial, o.yes = true, true, true, true
				o.roll.Limits.Start, o.roll.Limits.Pull = time.Minute, time.Second
				return o
			}(), nil, nil,
		},
		{
			"upgrade apply --strategy blue-green --green g --dry-run",
			func() upgradeApplyOptions {
				o := upgradeApplyOptions{strategy: "blue-green", green: "g", rollOptions: defaultRoll}
				o.dryRun = true
				return o
			}(), nil, nil,
		},
		{"upgrade cutover", upgradeSwitchOptions{green: green.SwitchOptions{Options: failover.DefaultOptions()}, store: defaultStore}, nil, nil},
		{
			"upgrade failback --pause 1s --copy-pause 2m --backup-to s --max-bytes 5 --allow-lag --dry-run --yes",
			func() upgradeSwitchOptions {
				o := upgradeSwitchOptions{green: green.SwitchOptions{Options: failover.DefaultOptions(), Back: true}, dryRun: true, yes: true}
				o.store, o.green.CopyPause = storeOptions{dir: "./" + store, urls: []string{"s"}}, 2*time.Minute
				o.green.Pause, o.green.MaxLag, o.green.AllowLag = time.Second, 5, true
				return o
			}(), nil, nil,
		},
		{"upgrade finish --dry-run --yes", upgradeFinishOptions{dryRun: true, yes: true}, nil, nil},
		{"upgrade rollback --list", upgradeRollbackOptions{rollOptions: defaultRoll, list: true}, nil, nil},
		{"upgrade resume --yes", upgradeResumeOptions{limits: roll.DefaultLimits(), store: defaultStore, yes: true}, nil, nil},
		{"upgrade abort --forget", upgradeResumeOptions{limits: roll.DefaultLimits(), forget: true}, nil, nil},
		{"upgrade check", upgradeCheckOptions{store: defaultStore, trial: 5 * time.Minute, maxAge: 24 * time.Hour}, nil, nil},
		{
			"upgrade check --to 8.0.2 --image i -f v.yaml --set a=b --from f --no-trial --trial-timeout 1s --max-backup-age 2h",
			upgradeCheckOptions{
				target: targetImage{to: "8.0.2", image: "i"}, values: valueOptions{files: []string{"v.yaml"}, set: []string{"a=b"}}, store: storeOptions{dir: "./" + store, urls: []string{"f"}},
				noTrial: true, trial: time.Second, maxAge: 2 * time.Hour,
			},
			nil, nil,
		},
		{"version", noOptions{}, nil, nil},
		{"version -o json -v", noOptions{}, nil, func(g *globals) { g.output, g.verbose = "json", true }},
		{"completion zsh", noOptions{}, []string{"zsh"}, nil},

		{"health", healthOptions{checks: thresholds}, nil, nil},
		{
			"health -n prod -r cache --pod cache-redis-1 --context c --kubeconfig k --timeout 2s --no-color -o wide",
			healthOptions{checks: thresholds}, nil,
			func(g *globals) {
				g.target = operation.Target{Namespace: "prod", Release: "cache", Pod: "cache-redis-1"}
				g.context, g.kubeconfig, g.timeout, g.noColor, g.output = "c", "k", 2*time.Second, true, "wide"
			},
		},
		{
			"health -A --max-memory 0.5 --max-save-age 1h",
			healthOptions{checks: fleet, allNamespaces: true}, nil, nil,
		},
		{"health --max-bytes 5 --max-seconds 7s", healthOptions{checks: changed}, nil, nil},
		{
			"health --address a:1,b:2 --address c:3 --username u --ask-password --tls --tls-ca ca --tls-cert crt --tls-key key --tls-server-name s --tls-insecure",
			healthOptions{checks: thresholds}, nil,
			func(g *globals) {
				g.target.Addresses = []string{"a:1", "b:2", "c:3"}
				g.addresses = addressOptions{
					username: "u", askPassword: true, tls: true, tlsCA: "ca", tlsCert: "crt", tlsKey: "key",
					tlsName: "s", tlsInsecure: true,
				}
			},
		},
		{"health ping", noOptions{}, nil, nil},
		{"health version --namespace prod", noOptions{}, nil, func(g *globals) { g.target.Namespace = "prod" }},

		{"info", noOptions{}, nil, nil},
		{"info server memory", noOptions{}, []string{"server", "memory"}, nil},
		{"info memory server", noOptions{}, []string{"server"}, nil},
		{"info stats", infoStatsOptions{interval: time.Second}, nil, nil},
		{
			"info stats -w --interval 2s --for 1m", infoStatsOptions{watch: true, interval: 2 * time.Second, bound: time.Minute}, nil, nil,
		},
		{"info clients", inspect.ClientOptions{Sort: "count", Limit: 20}, nil, nil},
		{"info clients --sort age --limit 3", inspect.ClientOptions{Sort: "age", Limit: 3}, nil, nil},
		{"info config", infoConfigOptions{}, nil, nil},
		{"info config max* --diff", infoConfigOptions{diff: true}, []string{"max*"}, nil},
		{"info metrics", infoMetricsOptions{port: 9121}, nil, nil},
		{"info metrics --port 1 --grep x", infoMetricsOptions{port: 1, grep: "x"}, nil, nil},
		{"support-bundle", supportBundleOptions{bundle: bundle.DefaultOptions()}, nil, nil},
		{
			"support-bundle --to f.tar.gz --log-lines 3 --max-time 1s --dry-run",
			func() supportBundleOptions {
				o := supportBundleOptions{bundle: bundle.DefaultOptions(), to: "f.tar.gz", dryRun: true}
				o.bundle.LogLines, o.bundle.MaxTime = 3, time.Second
				return o
			}(), nil, nil,
		},
		{
			"rbac backup rdb, health -A --name watch --bind user:anna --bind group:sre",
			rbacOptions{everywhere: true, name: "watch", bind: []string{"user:anna", "group:sre"}},
			[]string{"backup", "rdb,", "health"}, nil,
		},
		{"rbac --all -n redis-prod", rbacOptions{all: true}, nil, func(g *globals) { g.target.Namespace = "redis-prod" }},
		{"config view --all", configViewOptions{all: true}, nil, nil},
		{"config path", noOptions{}, nil, nil},
		{"config check --color never", noOptions{}, nil, func(g *globals) { g.color = "never" }},

		{"replication info --max-bytes 5 --max-seconds 7s", changed, nil, nil},
		{"replication primary", noOptions{}, nil, nil},
		{"replication role cache-redis-1", noOptions{}, []string{"cache-redis-1"}, nil},
		{"shell --pod cache-redis-1 -- GET k", shellOptions{}, []string{"GET", "k"}, func(g *globals) { g.target.Pod = "cache-redis-1" }},
		{"maintenance shell --bash", shellOptions{bash: true}, nil, nil},
		{
			"logs -f -c metrics --since 10m --tail 5 --grep OOM",
			logsOptions{container: "metrics", since: "10m", grep: "OOM", tail: 5, follow: true}, nil, nil,
		},
		{"maintenance logs --previous", logsOptions{tail: -1, previous: true}, nil, nil},
		{"events -w --warnings --since 5m", eventsOptions{since: "5m", warnings: true, watch: true}, nil, nil},
		{"top", topOptions{interval: 2 * time.Second}, nil, nil},
		{"maintenance top -A --once --interval 1s", topOptions{allNamespaces: true, once: true, interval: time.Second}, nil, nil},
		{
			"port-forward 0 --to replica --bind ::1 --port metrics",
			portForwardOptions{to: "replica", bind: "::1", port: "metrics"}, []string{"0"}, nil,
		},
		{"replication lag", lagOptions{health: thresholds, interval: time.Second}, nil, nil},
		{
			"replication lag -w --interval 3s --for 1m --max-bytes 5 --max-seconds 7s",
			lagOptions{health: changed, watch: true, interval: 3 * time.Second, bound: time.Minute}, nil, nil,
		},
		{"replication resync cache-redis-1", resyncOptions{resync: resync.DefaultOptions()}, []string{"cache-redis-1"}, nil},
		{
			"replication resync cache-redis-1 --full --stall-timeout 3s --allow-data-loss --dry-run -y",
			resyncOptions{
				resync: resync.Options{Full: true, AllowDataLoss: true, Timeout: 5 * time.Second, Stall: 3 * time.Second},
				dryRun: true, yes: true,
			}, []string{"cache-redis-1"}, nil,
		},
		{"replication check", thresholds, nil, nil},

		{"backup rdb", backupRDBOptions{backup: stream, store: defaultStore, fleet: fleetOptions{parallel: 4}, method: "stream", transfer: "auto", encoding: noEncoding}, nil, nil},
		{
			"backup rdb --method bgsave --transfer disk --stall-timeout 3s --allow-stale --ignore-space --dry-run --backup-dir /b",
			backupRDBOptions{
				backup: backup.Options{Stall: 3 * time.Second, AllowStale: true, IgnoreSpace: true},
				store:  storeOptions{dir: "/b"}, method: "bgsave", transfer: "disk", dryRun: true, encoding: noEncoding,
				fleet: fleetOptions{parallel: 4},
			}, nil, nil,
		},
		{
			"backup rdb -A --all-releases --parallel 2",
			backupRDBOptions{
				backup: stream, store: defaultStore, method: "stream", transfer: "auto", encoding: noEncoding,
				fleet: fleetOptions{allNamespaces: true, allReleases: true, parallel: 2},
			}, nil, nil,
		},
		{
			"backup rdb --compress zstd:3 --encrypt-to age1a --encrypt-to age1b --recipients-file r --passphrase-file p --ask-passphrase",
			backupRDBOptions{
				backup: stream, store: defaultStore, method: "stream", transfer: "auto", fleet: fleetOptions{parallel: 4},
				encoding: encodingOptions{
					compress: "zstd:3", encryptTo: []string{"age1a", "age1b"}, recipientsFile: []string{"r"},
					passphrase: passphraseOptions{file: "p"}, askPassphrase: true,
				},
			}, nil, nil,
		},
		{"backup aof", backupAOFOptions{backup: backup.AOFOptions{Stall: 15 * time.Second}, store: defaultStore, encoding: noEncoding, fleet: oneFleet}, nil, nil},
		{
			"backup aof --stall-timeout 3s --allow-stale --ignore-space --dry-run -A --parallel 2",
			backupAOFOptions{
				backup: backup.AOFOptions{Stall: 3 * time.Second, AllowStale: true, IgnoreSpace: true},
				store:  defaultStore, dryRun: true, encoding: noEncoding, fleet: fleetOptions{allNamespaces: true, parallel: 2},
			}, nil, nil,
		},
		{"backup config", backupSetOptions{store: defaultStore, encoding: noEncoding, fleet: oneFleet}, nil, nil},
		{
			"backup resources --include-secrets --backup-dir /b --all-releases",
			backupSetOptions{
				backup: backup.SetOptions{Secrets: true}, store: storeOptions{dir: "/b"}, encoding: noEncoding,
				fleet: fleetOptions{allReleases: true, parallel: 4},
			}, nil, nil,
		},
		{"backup full", backupFullOptions{backup: backup.Options{Stall: 15 * time.Second}, store: defaultStore, encoding: noEncoding, fleet: oneFleet}, nil, nil},
		{
			"backup full --include-secrets --stall-timeout 3s --allow-stale --ignore-space --dry-run",
			backupFullOptions{
				backup: backup.Options{Stall: 3 * time.Second, AllowStale: true, IgnoreSpace: true},
				set:    backup.SetOptions{Secrets: true}, store: defaultStore, dryRun: true, encoding: noEncoding, fleet: oneFleet,
			}, nil, nil,
		},
		{"backup volume", backupVolumeOptions{backup: backup.VolumeOptions{Ready: 10 * time.Minute}}, nil, nil},
		{
			"backup volume --all-claims --snapshot-class c --name n --ready-timeout 3s --as-is --allow-stale --ignore-space --dry-run",
			backupVolumeOptions{
				backup: backup.VolumeOptions{
					All: true, Class: "c", Name: "n", Ready: 3 * time.Second, AsIs: true, AllowStale: true, IgnoreSpace: true,
				},
				dryRun: true,
			}, nil, nil,
		},
		{"failover promote", promoteOptions{failover: failover.DefaultOptions()}, nil, nil},
		{
			"promote cache-redis-1 --pause 1s --settle 2s --max-bytes 3 --allow-lag --allow-unreachable --allow-priority-zero --allow-older --allow-no-persistence --dry-run -y",
			promoteOptions{
				failover: failover.Options{
					Limits: limits, MaxLag: 3,
					AllowLag: true, AllowUnreachable: true, AllowPriorityZero: true, AllowOlder: true, AllowNoPersistence: true,
				},
				dryRun: true, yes: true,
			}, []string{"cache-redis-1"}, nil,
		},
		{"failover failback", promoteOptions{failover: failover.DefaultOptions()}, nil, nil},
		{"failover force", forceOptions{force: failover.DefaultForceOptions(), keep: keepOptions{defaultStore, noEncoding}}, nil, nil},
		{
			"failover force cache-redis-2 --pause 1s --settle 2s --return 0 --keep-pod --no-backup --allow-alive --allow-less-data --allow-diverged --allow-priority-zero --backup-dir /b --to s3://b/p --compress zstd --encrypt-to age1x --dry-run -y",
			forceOptions{
				force: failover.ForceOptions{
					Limits: limits, KeepPod: true, NoBackup: true,
					AllowAlive: true, AllowLessData: true, AllowDiverged: true, AllowPriorityZero: true,
				},
				keep:   keepOptions{storeOptions{dir: "/b", urls: []string{"s3://b/p"}}, encodingOptions{compress: "zstd", encryptTo: []string{"age1x"}}},
				dryRun: true, yes: true,
			}, []string{"cache-redis-2"}, nil,
		},
		{"failover status", noOptions{}, nil, nil},
		{"failover resume", noOptions{}, nil, nil},
		{"failover abort --allow-unreachable", failover.AbortOptions{Limits: failover.DefaultLimits(), AllowUnreachable: true}, nil, nil},
		{"failover guard install", guardInstallOptions{replicas: 2, watch: defaultGuardWatch(), settle: guardSettle}, nil, nil},
		{
			"failover guard install --image i:1 --replicas 3 --promote --promote-after 1m --interval 3s --settle 2s --manifests --dry-run -y",
			guardInstallOptions{
				image: "i:1", replicas: 3, settle: 2 * time.Second, manifests: true, dryRun: true, yes: true,
				watch: guardWatchOptions{promote: true, promoteAfter: time.Minute, interval: 3 * time.Second},
			}, nil, nil,
		},
		{"failover guard remove --settle 2s --dry-run -y", guardRemoveOptions{settle: 2 * time.Second, dryRun: true, yes: true}, nil, nil},
		{"failover guard status", noOptions{}, nil, nil},
		{
			"failover guard run --workload w --password-file p --promote --promote-after 1m --interval 3s",
			guardRunOptions{
				workload: "w", passwordFile: "p",
				watch: guardWatchOptions{promote: true, promoteAfter: time.Minute, interval: 3 * time.Second},
			}, nil, nil,
		},
		{"replication heal", healOptions{watch: failover.DefaultWatchOptions(), keep: keepOptions{defaultStore, noEncoding}}, nil, nil},
		{
			"replication heal --keep cache-redis-1 --no-compare --no-backup --allow-unreachable --pause 1s --settle 2s --interval 3s -w --dry-run -y",
			healOptions{
				watch: failover.WatchOptions{
					Heal: failover.HealOptions{
						Limits: limits, Keep: "cache-redis-1", NoCompare: true, NoBackup: true, AllowUnreachable: true,
					},
					Interval: 3 * time.Second, Steady: failover.DefaultWatchOptions().Steady, PromoteAfter: failover.DefaultWatchOptions().PromoteAfter,
				},
				keep: keepOptions{defaultStore, noEncoding}, watching: true, dryRun: true, yes: true,
			}, nil, nil,
		},

		{"backup list", backupListOptions{store: defaultStore}, nil, nil},
		{"backup list --volumes", backupListOptions{store: defaultStore, volumes: true}, nil, nil},
		{
			"backup list --since 24h --until 2h --instance p --method stream --state damaged,incomplete --limit 3 --backup-dir /b",
			backupListOptions{
				store: storeOptions{dir: "/b"}, limit: 3,
				filter: backupFilter{since: "24h", until: "2h", instance: "p", method: "stream", states: []string{"damaged", "incomplete"}},
			}, nil, nil,
		},
		{"backup show latest", defaultStore, []string{"latest"}, nil},
		{
			"backup show latest --from s3://b/p --s3-endpoint http://h:1 --s3-region r --s3-profile p --s3-ca c --s3-addressing path",
			storeOptions{
				dir: "./" + store, urls: []string{"s3://b/p"},
				s3: s3Options{endpoint: "http://h:1", region: "r", profile: "p", ca: "c", addressing: "path"},
			}, []string{"latest"}, nil,
		},
		{
			"backup copy latest --from /a --to s3://b/p,/c --to file:///d",
			backupCopyOptions{
				source: storeOptions{dir: "./" + store, urls: []string{"/a"}}, to: []string{"s3://b/p", "/c", "file:///d"},
			}, []string{"latest"}, nil,
		},
		{"backup verify x.rdb", backupVerifyOptions{store: defaultStore, parallel: 4}, []string{"x.rdb"}, nil},
		{
			"backup diff a.rdb latest",
			backupDiffOptions{store: defaultStore, examples: 5, prefixes: 10, delimiter: ":", depth: 1}, []string{"a.rdb", "latest"}, nil,
		},
		{
			"backup diff a b --examples 1 --prefixes 2 --delimiter . --depth 3 --sample 1/4 --exit-code --backup-dir /b",
			backupDiffOptions{
				store: storeOptions{dir: "/b"}, examples: 1, prefixes: 2, delimiter: ".", depth: 3, sample: "1/4", exitCode: true,
			}, []string{"a", "b"}, nil,
		},
		{
			"backup verify --outer -i a,b --identity c --passphrase-file p latest",
			backupVerifyOptions{
				store: defaultStore, outer: true, parallel: 4,
				keys: keyOptions{identities: []string{"a", "b", "c"}, passphrase: passphraseOptions{file: "p"}},
			}, []string{"latest"}, nil,
		},
		{"backup verify --deep latest", backupVerifyOptions{store: defaultStore, deep: true, parallel: 4}, []string{"latest"}, nil},
		{
			"backup analyze x.rdb",
			backupAnalyzeOptions{store: defaultStore, top: 10, prefixes: 15, delimiter: ":", depth: 1}, []string{"x.rdb"}, nil,
		},
		{
			"backup analyze x --top 1 --prefixes 2 --delimiter . --depth 3 --html p.html --backup-dir /b",
			backupAnalyzeOptions{
				store: storeOptions{dir: "/b"}, top: 1, prefixes: 2, delimiter: ".", depth: 3, html: "p.html",
			}, []string{"x"}, nil,
		},
		{"backup prune", backupPruneOptions{store: defaultStore}, nil, nil},
		{
			"backup prune --keep-last 1 --keep-hourly 2 --keep-daily 3 --keep-weekly 4 --keep-monthly 5 --keep-yearly 6 --keep-within 7d --damaged --kind rdb --dry-run -y --backup-dir /b",
			backupPruneOptions{
				store: storeOptions{dir: "/b"}, within: "7d", kind: "rdb", dryRun: true, yes: true,
				policy: retention.Policy{Last: 1, Hourly: 2, Daily: 3, Weekly: 4, Monthly: 5, Yearly: 6, Damaged: true},
			}, nil, nil,
		},
		{
			"backup verify --all --parallel 2 --since 7d --state intact",
			backupVerifyOptions{
				store: defaultStore, all: true, parallel: 2, filter: backupFilter{since: "7d", states: []string{"intact"}},
			}, nil, nil,
		},
	}
	for _, c := range cases {
		t.Run(c.line, func(t *testing.T) {
			words := strings.Fields(c.line)
			got, err := parse(t, nil, words...)
			require.NoError(t, err)
			if c.args == nil {
				c.args = []string{}
			}
			assert.Equal(t, invocation{
				command: got.command, options: c.options, args: c.args, globals: defaults(c.globals),
			}, got)
			assert.True(t, strings.HasPrefix("redisctl "+c.line, got.command), "%s ran", got.command)
		})
	}
}

// TestOptionsOfTheOperation: what `backup rdb` hands to its operation.
func TestOptionsOfTheOperation(t *testing.T) {
	o := backupRDBOptions{method: "bgsave", transfer: "disk", backup: backup.Options{Stall: time.Second}}
	g := defaults(func(g *globals) { g.target.Pod = "cache-redis-1" })
	require.NoError(t, o.complete(g))
	assert.Equal(t, backup.Options{
		Method: backup.MethodBgsave, Instance: "cache-redis-1", DiskBased: true,
		Timeout: 5 * time.Second, Stall: time.Second,
	}, o.backup)
}

// TestPrecedence: flag, then environment, then file, then default; for values and for
// which target is meant.
func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte("timeout: 1s\nmax-bytes: 1\nnamespace: from-file\noutput: yaml\n"), 0o600))
	env := map[string]string{
		"REDISCTL_CONFIG": file, "REDISCTL_TIMEOUT": "2s", "REDISCTL_MAX_BYTES": "2", "REDISCTL_RELEASE": "from-env",
		"REDISCTL_NO_COLOR": "true",
	}
	got, err := parse(t, env, "health", "--timeout", "3s")
	require.NoError(t, err)
	assert.Equal(t, defaults(func(g *globals) {
		g.timeout, g.output, g.noColor = 3*time.Second, "yaml", true
		g.target = operation.Target{Namespace: "from-file", Release: "from-env"}
	}), got.globals)
	assert.Equal(t, int64(2), got.options.(healthOptions).checks.MaxLagBytes)

	got, err = parse(t, env, "health", "--address", "a:1")
	require.NoError(t, err)
	assert.Equal(t, operation.Target{Addresses: []string{"a:1"}}, got.globals.target, "a typed address wins over a configured release")

	env["REDISCTL_ADDRESS"] = "a:1,b:2"
	got, err = parse(t, env, "health", "-n", "typed")
	require.NoError(t, err)
	assert.Equal(t, operation.Target{Namespace: "typed", Release: "from-env"}, got.globals.target)

	_, err = parse(t, env, "health")
	require.Error(t, err, "two configured targets contradict each other")
	_, err = parse(t, nil, "health", "-A", "--address", "a:1")
	require.Error(t, err)
}

// TestExamplesAreRight parses the examples of every command, so that none goes stale.
func TestExamplesAreRight(t *testing.T) {
	examples := 0
	eachCommand(func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Example) {
			line, isExample := strings.CutPrefix(strings.TrimSpace(line), "redisctl ")
			if !isExample {
				continue
			}
			examples++
			_, err := parse(t, nil, shellWords(line)...)
			assert.NoError(t, err, "the example of %s: redisctl %s", cmd.CommandPath(), line)
		}
	})
	assert.Greater(t, examples, 20)
}

// shellWords splits a line of an example up to the first shell operator.
func shellWords(line string) []string {
	for _, operator := range []string{" && ", " | ", " > "} {
		line, _, _ = strings.Cut(line, operator)
	}
	var words []string
	apart := true // the next word begins here
	for n, part := range strings.Split(line, "'") {
		fields := strings.Fields(part)
		if n%2 == 1 {
			fields = []string{part}
		}
		if len(fields) > 0 && !apart && !strings.HasPrefix(part, " ") {
			words[len(words)-1] += fields[0]
			fields = fields[1:]
		}
		words = append(words, fields...)
		apart = n%2 == 0 && strings.HasSuffix(part, " ")
	}
	return words
}

// TestEveryCommandIsDocumented: what --help and the reference show.
func TestEveryCommandIsDocumented(t *testing.T) {
	eachCommand(func(cmd *cobra.Command) {
		name := cmd.CommandPath()
		assert.NotEmpty(t, cmd.Short, name)
		assert.NotEmpty(t, cmd.Long, "%s: Long says what can go wrong", name)
		if !cmd.HasSubCommands() {
			assert.NotEmpty(t, cmd.Example, name)
		}
		for line := range strings.Lines(cmd.Long) {
			assert.LessOrEqual(t, len([]rune(strings.TrimSpace(line))), 92, "%s: a line too long for a terminal: %s", name, line)
		}
	})
}

func eachCommand(visit func(*cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		visit(cmd)
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newApp(System{LookupEnv: func(string) (string, bool) { return "", false }, Now: time.Now}).newRootCommand())
}

// TestConsentIsNotConfigurable: no command may take --yes or --dry-run from anywhere
// but the command line.
func TestConsentIsNotConfigurable(t *testing.T) {
	root := newApp(System{LookupEnv: func(string) (string, bool) { return "", false }, Now: time.Now}).newRootCommand()
	names := flagNames(root)
	for _, flag := range []string{"yes", "dry-run", "help", "config", "allow-stale", "ignore-space"} {
		assert.NotContains(t, names, flag)
	}
	assert.True(t, slices.Contains(names, "backup-dir") && slices.Contains(names, "max-bytes"), "%v", names)
	got, err := parse(t, map[string]string{"REDISCTL_DRY_RUN": "true", "REDISCTL_YES": "true"}, "backup", "rdb")
	require.NoError(t, err)
	assert.False(t, got.options.(backupRDBOptions).dryRun)
}

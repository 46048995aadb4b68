package cli

import (
	"bytes"
	"encoding"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/aof"
	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/access"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/bundle"
	"github.com/redisctl/redisctl/internal/operation/dashboard"
	"github.com/redisctl/redisctl/internal/operation/describe"
	"github.com/redisctl/redisctl/internal/operation/events"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/guard"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/operation/logs"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
	"github.com/redisctl/redisctl/internal/operation/metrics"
	"github.com/redisctl/redisctl/internal/operation/prune"
	"github.com/redisctl/redisctl/internal/operation/replication"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/config"
	"github.com/redisctl/redisctl/internal/operation/restore/drill"
	"github.com/redisctl/redisctl/internal/operation/restore/full"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/operation/resync"
	"github.com/redisctl/redisctl/internal/operation/settings"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/operation/upgrade/check"
	"github.com/redisctl/redisctl/internal/operation/upgrade/green"
	"github.com/redisctl/redisctl/internal/operation/upgrade/roll"
	"github.com/redisctl/redisctl/internal/operation/upgrade/validate"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/analyze"
	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// documented maps the sections of docs/json-output.md to what they describe. A new
// command adds its result here, and its section there.
func documented() map[string]reflect.Type {
	return map[string]reflect.Type{
		"Analyzed":            reflect.TypeFor[analyzeResult](),
		"AnalyzedAmount":      reflect.TypeFor[analyze.Amount](),
		"AnalyzedDB":          reflect.TypeFor[analyze.DB](),
		"AnalyzedKey":         reflect.TypeFor[analyze.Key](),
		"AnalyzedReport":      reflect.TypeFor[analyze.Report](),
		"AnalyzedShare":       reflect.TypeFor[analyze.Share](),
		"BundledFile":         reflect.TypeFor[bundle.File](),
		"BundleMissing":       reflect.TypeFor[bundle.Missing](),
		"ClientGroup":         reflect.TypeFor[inspect.ClientGroup](),
		"Clients":             reflect.TypeFor[inspect.Clients](),
		"ConfigChecked":       reflect.TypeFor[configChecked](),
		"ConfigPath":          reflect.TypeFor[configPath](),
		"ConfigSetting":       reflect.TypeFor[configSetting](),
		"ConfigView":          reflect.TypeFor[configView](),
		"MemoryInfo":          reflect.TypeFor[memoryResult](),
		"Metric":              reflect.TypeFor[metrics.Family](),
		"MetricSample":        reflect.TypeFor[metrics.Sample](),
		"Metrics":             reflect.TypeFor[metrics.Page](),
		"SettingsAnswer":      reflect.TypeFor[inspect.Answer[map[string]string]](),
		"SettingDriftsAnswer": reflect.TypeFor[inspect.Answer[settings.InstanceDrift]](),
		"SettingDrift":        reflect.TypeFor[settings.Drift](),
		"SettingDrifts":       reflect.TypeFor[settings.InstanceDrift](),
		"Settings":            reflect.TypeFor[settings.Report](),
		"SettingsDrift":       reflect.TypeFor[settings.DriftReport](),
		"Rates":               reflect.TypeFor[inspect.Rates](),
		"StatsInstance":       reflect.TypeFor[inspect.StatsInstance](),
		"StatsSample":         reflect.TypeFor[inspect.StatsSample](),
		"RBACRoleRef":         reflect.TypeFor[access.RoleRef](),
		"RBACList":            reflect.TypeFor[rbacList](),
		"RBACMetadata":        reflect.TypeFor[access.Metadata](),
		"RBACObject":          reflect.TypeFor[access.Object](),
		"RBACRule":            reflect.TypeFor[access.PolicyRule](),
		"RBACSubject":         reflect.TypeFor[access.Subject](),
		"SupportBundle":       reflect.TypeFor[supportBundleResult](),
		"SupportManifest":     reflect.TypeFor[bundle.Manifest](),
		"AOF":                 reflect.TypeFor[aof.Summary](),
		"AOFPlan":             reflect.TypeFor[backup.AOFPlan](),
		"FullPlan":            reflect.TypeFor[backup.FullPlan](),
		"ConfigBackup":        reflect.TypeFor[configResult](),
		"Config":              reflect.TypeFor[backup.ConfigDocument](),
		"ConfigDifference":    reflect.TypeFor[backup.Difference](),
		"HelmRelease":         reflect.TypeFor[backup.HelmRelease](),
		"InstanceConfig":      reflect.TypeFor[backup.InstanceConfig](),
		"Answer":              reflect.TypeFor[inspect.Answer[any]](),
		"Answers":             reflect.TypeFor[answersResult[any]](),
		"Backup":              reflect.TypeFor[backupResult](),
		"BackupFleet":         reflect.TypeFor[backupFleet[backup.Plan]](),
		"BackupFleetItem":     reflect.TypeFor[backupFleetItem[backup.Plan]](),
		"BackupShown":         reflect.TypeFor[shown](),
		"BackupItem":          reflect.TypeFor[listItem](),
		"BackupPlan":          reflect.TypeFor[backup.Plan](),
		"Backups":             reflect.TypeFor[listResult](),
		"Build":               reflect.TypeFor[Build](),
		"DiffAmount":          reflect.TypeFor[rdbdiff.Amount](),
		"DiffCounts":          reflect.TypeFor[rdbdiff.Counts](),
		"DiffDB":              reflect.TypeFor[rdbdiff.DBCounts](),
		"DiffExample":         reflect.TypeFor[rdbdiff.Example](),
		"DiffExamples":        reflect.TypeFor[rdbdiff.Examples](),
		"DiffFunctions":       reflect.TypeFor[rdbdiff.Functions](),
		"DiffKey":             reflect.TypeFor[rdbdiff.KeyState](),
		"DiffPrefix":          reflect.TypeFor[rdbdiff.PrefixCounts](),
		"DiffType":            reflect.TypeFor[rdbdiff.TypeCounts](),
		"Difference":          reflect.TypeFor[rdbdiff.Difference](),
		"FilesDifference":     reflect.TypeFor[diffResult](),
		"Check":               reflect.TypeFor[checkResult](),
		"Copied":              reflect.TypeFor[copyResult](),
		"CopiedTo":            reflect.TypeFor[copied](),
		"DB":                  reflect.TypeFor[rdb.DBSummary](),
		"Durations":           reflect.TypeFor[snapshot.Durations](),
		"Encoding":            reflect.TypeFor[snapshot.Encoding](),
		"File":                reflect.TypeFor[snapshot.File](),
		"Finding":             reflect.TypeFor[operation.Finding](),
		"Fleet":               reflect.TypeFor[healthFleet](),
		"FleetItem":           reflect.TypeFor[fleetItem](),
		"GuardObject":         reflect.TypeFor[guard.Object](),
		"GuardObservation":    reflect.TypeFor[guard.Observation](),
		"GuardPlan":           reflect.TypeFor[guard.Plan](),
		"GuardRemoved":        reflect.TypeFor[guard.Removed](),
		"GuardStatus":         reflect.TypeFor[guard.Status](),
		"Health":              reflect.TypeFor[health.Report](),
		"HealthAnswer":        reflect.TypeFor[health.Answer](),
		"HealthInstance":      reflect.TypeFor[health.Instance](),
		"LagSample":           reflect.TypeFor[replication.Sample](),
		"Latency":             reflect.TypeFor[latency](),
		"Manifest":            reflect.TypeFor[snapshot.Manifest](),
		"Plan":                reflect.TypeFor[operation.Plan](),
		"Primary":             reflect.TypeFor[primaryResult](),
		"PruneGroup":          reflect.TypeFor[prune.Group](),
		"PruneItem":           reflect.TypeFor[prune.Item](),
		"PrunePlan":           reflect.TypeFor[prune.Plan](),
		"Pruned":              reflect.TypeFor[prune.Result](),
		"PrunedItem":          reflect.TypeFor[prune.Removed](),
		"RDB":                 reflect.TypeFor[rdb.Summary](),
		"Replica":             reflect.TypeFor[replication.Replica](),
		"Replication":         reflect.TypeFor[replication.Report](),
		"ReplicationInstance": reflect.TypeFor[replication.Instance](),
		"Resync":              reflect.TypeFor[resync.Result](),
		"ResyncPlan":          reflect.TypeFor[resync.Plan](),
		"Resumed":             reflect.TypeFor[resumeResult](),
		"Service":             reflect.TypeFor[replication.Service](),
		"Source":              reflect.TypeFor[snapshot.Source](),
		"Stored":              reflect.TypeFor[storedAt](),
		"Step":                reflect.TypeFor[operation.Step](),
		"Bound":               reflect.TypeFor[failover.Bound](),
		"Forced":              reflect.TypeFor[failover.ForceResult](),
		"ForcePlan":           reflect.TypeFor[failover.ForcePlan](),
		"Healed":              reflect.TypeFor[failover.HealResult](),
		"HealPlan":            reflect.TypeFor[failover.HealPlan](),
		"Loss":                reflect.TypeFor[failover.Loss](),
		"Missing":             reflect.TypeFor[failover.Difference](),
		"Move":                reflect.TypeFor[failover.Move](),
		"ServiceWrite":        reflect.TypeFor[failover.ServiceWrite](),
		"Settled":             reflect.TypeFor[failover.Settled](),
		"WatchEvent":          reflect.TypeFor[failover.Event](),
		"ComparedDB":          reflect.TypeFor[restore.DBComparison](),
		"ComparedKey":         reflect.TypeFor[restore.Example](),
		"Comparison":          reflect.TypeFor[restore.Comparison](),
		"AOFCommand":          reflect.TypeFor[aof.Sighting](),
		"AOFCommandCount":     reflect.TypeFor[aof.NameCount](),
		"AOFCut":              reflect.TypeFor[aof.Survey](),
		"AOFCutPart":          reflect.TypeFor[aof.PartSurvey](),
		"AOFRestorePlan":      reflect.TypeFor[aofPlan](),
		"AOFTally":            reflect.TypeFor[aof.Tally](),
		"KeptFiles":           reflect.TypeFor[volume.Kept](),
		"ConfigRestorePlan":   reflect.TypeFor[config.Plan](),
		"ConfigRestored":      reflect.TypeFor[config.Result](),
		"FullInstance":        reflect.TypeFor[full.Instance](),
		"FullRestored":        reflect.TypeFor[full.Result](),
		"FullRestorePlan":     reflect.TypeFor[full.Plan](),
		"FullService":         reflect.TypeFor[full.Service](),
		"ObjectChange":        reflect.TypeFor[full.Change](),
		"PlannedObject":       reflect.TypeFor[full.Planned](),
		"RunningSetting":      reflect.TypeFor[config.Running](),
		"Setting":             reflect.TypeFor[config.Setting](),
		"SettingOutcome":      reflect.TypeFor[config.Outcome](),
		"TimedStep":           reflect.TypeFor[full.Timed](),
		"LiveFilter":          reflect.TypeFor[live.Filter](),
		"LiveRestoreAborted":  reflect.TypeFor[liveAbort](),
		"LiveRestorePlan":     reflect.TypeFor[live.Plan](),
		"LiveRestoreRecord":   reflect.TypeFor[live.Record](),
		"LiveRestored":        reflect.TypeFor[live.Result](),
		"LiveSelection":       reflect.TypeFor[live.Selection](),
		"RestoreCleanup":      reflect.TypeFor[volume.CleanupPlan](),
		"Restored":            reflect.TypeFor[volume.Result](),
		"RestoreDurations":    reflect.TypeFor[volume.Durations](),
		"RestoreOrigin":       reflect.TypeFor[volume.Origin](),
		"RestorePlan":         reflect.TypeFor[volume.Plan](),
		"RestoreRecord":       reflect.TypeFor[volume.Record](),
		"RestoreStatus":       reflect.TypeFor[restoreStatus](),
		"RestoreTest":         reflect.TypeFor[drill.Result](),
		"RestoreTestDB":       reflect.TypeFor[drill.FoundDB](),
		"RestoreTestSeconds":  reflect.TypeFor[drill.Seconds](),
		"RestoreTestServer":   reflect.TypeFor[drill.ServerInfo](),
		"RestoreSwap":         reflect.TypeFor[volume.Swap](),
		"Switch":              reflect.TypeFor[failover.Result](),
		"SwitchPlan":          reflect.TypeFor[failover.Plan](),
		"SwitchRecord":        reflect.TypeFor[failover.Record](),
		"SwitchStatus":        reflect.TypeFor[failover.Status](),
		"SecondRelease":       reflect.TypeFor[green.Result](),
		"SecondReleasePlan":   reflect.TypeFor[green.Plan](),
		"SecondReleaseRecord": reflect.TypeFor[green.Record](),
		"SecondReleaseServer": reflect.TypeFor[green.Server](),
		"SecondReleaseStatus": reflect.TypeFor[green.Status](),
		"MovedService":        reflect.TypeFor[green.Route](),
		"DataCopy":            reflect.TypeFor[green.Copied](),
		"HelmRevision":        reflect.TypeFor[upgrade.Revision](),
		"UpgradeBackup":       reflect.TypeFor[check.Backup](),
		"TopFrame":            reflect.TypeFor[dashboard.Frame](),
		"TopRelease":          reflect.TypeFor[dashboard.Release](),
		"TopInstance":         reflect.TypeFor[dashboard.Instance](),
		"TopRates":            reflect.TypeFor[dashboard.Rates](),
		"TopSlow":             reflect.TypeFor[dashboard.Slow](),
		"LogLine":             reflect.TypeFor[logs.Line](),
		"Event":               reflect.TypeFor[events.Event](),
		"Events":              reflect.TypeFor[eventsResult](),
		"Forwarded":           reflect.TypeFor[forwarded](),
		"Description":         reflect.TypeFor[describe.Report](),
		"DescribedContainer":  reflect.TypeFor[describe.Container](),
		"DescribedProbe":      reflect.TypeFor[describe.Probe](),
		"DescribedClaim":      reflect.TypeFor[describe.Claim](),
		"DescribedPod":        reflect.TypeFor[describe.Pod](),
		"DescribedService":    reflect.TypeFor[describe.Service](),
		"DescribedBudget":     reflect.TypeFor[describe.Budget](),
		"DescribedGap":        reflect.TypeFor[describe.Gap](),
		"UpgradeCheck":        reflect.TypeFor[check.Report](),
		"UpgradeHistory":      reflect.TypeFor[upgradeHistory](),
		"UpgradePlan":         reflect.TypeFor[roll.Plan](),
		"UpgradeRecord":       reflect.TypeFor[roll.Record](),
		"UpgradeStatus":       reflect.TypeFor[upgradeStatus](),
		"Upgraded":            reflect.TypeFor[roll.Result](),
		"UpgradedPod":         reflect.TypeFor[roll.Replaced](),
		"UpgradingPod":        reflect.TypeFor[upgradedPod](),
		"HandOver":            reflect.TypeFor[roll.HandOver](),
		"UpgradeCommand":      reflect.TypeFor[check.UsedCommand](),
		"UpgradeFrom":         reflect.TypeFor[check.From](),
		"UpgradeInstance":     reflect.TypeFor[check.Instance](),
		"UpgradeObject":       reflect.TypeFor[upgrade.ObjectChange](),
		"UpgradePreview":      reflect.TypeFor[upgrade.Preview](),
		"UpgradeSetting":      reflect.TypeFor[check.SettingChange](),
		"UpgradeTarget":       reflect.TypeFor[check.Target](),
		"UpgradeTrial":        reflect.TypeFor[check.Trial](),
		"UpgradeVolume":       reflect.TypeFor[check.Volume](),
		"Verification":        reflect.TypeFor[snapshot.Verification](),
		"PrunedStores":        reflect.TypeFor[prunedStores](),
		"PrunedStore":         reflect.TypeFor[prunedStore](),
		"StoreProblem":        reflect.TypeFor[storeProblem](),
		"VerificationRecord":  reflect.TypeFor[snapshot.VerificationRecord](),
		"Verified":            reflect.TypeFor[verifyResult](),
		"VerifiedAll":         reflect.TypeFor[verifiedAll](),
		"VerifiedItem":        reflect.TypeFor[verifiedItem](),
		"VerifyReport":        reflect.TypeFor[snapshot.Report](),
		"VerifyCheck":         reflect.TypeFor[snapshot.Check](),
		"DBSize":              reflect.TypeFor[maintenance.DBSize](),
		"InstanceSize":        reflect.TypeFor[maintenance.InstanceSize](),
		"SizedDB":             reflect.TypeFor[maintenance.DBKeys](),
		"ListedKey":           reflect.TypeFor[listedKey](),
		"BigKeys":             reflect.TypeFor[maintenance.BigKeys](),
		"TypeUse":             reflect.TypeFor[maintenance.TypeUse](),
		"BigKey":              reflect.TypeFor[maintenance.BigKey](),
		"OnInstance":          reflect.TypeFor[maintenance.Named](),
		"FlushPlan":           reflect.TypeFor[maintenance.FlushPlan](),
		"Flushed":             reflect.TypeFor[maintenance.Flushed](),
		"FlushedReplica":      reflect.TypeFor[maintenance.FlushedReplica](),
		"Slowlog":             reflect.TypeFor[maintenance.Slowlog](),
		"InstanceSlowlog":     reflect.TypeFor[maintenance.InstanceSlowlog](),
		"SlowCommand":         reflect.TypeFor[maintenance.SlowCommand](),
		"Latencies":           reflect.TypeFor[maintenance.Latencies](),
		"InstanceLatency":     reflect.TypeFor[maintenance.InstanceTime](),
		"Doctor":              reflect.TypeFor[maintenance.Doctor](),
		"Spikes":              reflect.TypeFor[maintenance.Spikes](),
		"SpikeKind":           reflect.TypeFor[maintenance.SpikeKind](),
		"Spike":               reflect.TypeFor[maintenance.Spike](),
		"Histograms":          reflect.TypeFor[maintenance.Histograms](),
		"Histogram":           reflect.TypeFor[maintenance.Histogram](),
		"HistogramBucket":     reflect.TypeFor[maintenance.Bucket](),
		"MemoryUse":           reflect.TypeFor[maintenance.MemoryUse](),
		"MemoryPart":          reflect.TypeFor[maintenance.MemoryPart](),
		"SavedState":          reflect.TypeFor[maintenance.SavedState](),
		"Written":             reflect.TypeFor[maintenance.Written](),
		"Executed":            reflect.TypeFor[maintenance.Executed](),
		"ExecutedAll":         reflect.TypeFor[executedAll](),
		"SeenCommand":         reflect.TypeFor[maintenance.Seen](),
		"Versions":            reflect.TypeFor[versions](),
		"PlannedSnapshot":     reflect.TypeFor[backup.PlannedSnapshot](),
		"VolumeContents":      reflect.TypeFor[backup.VolumeContents](),
		"VolumeKeys":          reflect.TypeFor[redis.DBKeys](),
		"VolumePlan":          reflect.TypeFor[backup.VolumePlan](),
		"VolumeSnapshot":      reflect.TypeFor[backup.VolumeSnapshot](),
		"VolumeSnapshots":     reflect.TypeFor[volumesResult](),
		"Baseline":            reflect.TypeFor[upgrade.Baseline](),
		"BaselineData":        reflect.TypeFor[upgrade.BaselineData](),
		"BaselineInstance":    reflect.TypeFor[upgrade.BaselineInstance](),
		"BaselineLatency":     reflect.TypeFor[upgrade.Latency](),
		"Validation":          reflect.TypeFor[validate.Report](),
		"ValidationCheck":     reflect.TypeFor[validate.Check](),
	}
}

// TestJSONIsDocumented compares docs/json-output.md with the results' types: every
// field, whether it is optional, and what it holds.
func TestJSONIsDocumented(t *testing.T) {
	sections := readSections(t)
	types := documented()
	names := make(map[reflect.Type]string, len(types))
	for name, typ := range types {
		names[typ] = name
	}
	for name, typ := range types {
		assert.Equal(t, describeFields(t, typ, names), sections[name], "section %s of docs/json-output.md", name)
	}
	for name := range sections {
		assert.Contains(t, types, name, "a section of docs/json-output.md that describes nothing")
	}
}

// field is what the page says of a field of a result.
type field struct {
	optional bool
	link     string // the section that describes its contents
}

// embedded is the name of the field that stands for all fields of another section.
const embedded = "…"

// describe lists the fields of a struct as the page should.
func describeFields(t *testing.T, typ reflect.Type, names map[reflect.Type]string) map[string]field {
	t.Helper()
	fields := make(map[string]field)
	for i := range typ.NumField() {
		f := typ.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		contents := elementOf(f.Type)
		switch {
		case f.Anonymous && tag == "":
			fields[embedded] = field{link: names[contents]}
		case !f.IsExported() || tag == "-":
		case tag == "":
			t.Errorf("%s.%s has no name in JSON", typ, f.Name)
		default:
			d := field{optional: strings.Contains(options, "omit"), link: names[contents]}
			if d.link == "" && contents.Kind() == reflect.Struct && !isScalar(contents) {
				t.Errorf("%s.%s: %s has no section in docs/json-output.md", typ, f.Name, contents)
			}
			fields[tag] = d
		}
	}
	return fields
}

// elementOf strips pointers, lists and maps.
func elementOf(typ reflect.Type) reflect.Type {
	for slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Slice, reflect.Map}, typ.Kind()) {
		typ = typ.Elem()
	}
	return typ
}

// isScalar reports whether a struct is one value in JSON.
func isScalar(typ reflect.Type) bool {
	return typ == reflect.TypeFor[time.Time]() ||
		typ.Implements(reflect.TypeFor[json.Marshaler]()) || typ.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

// readSections reads the tables of fields. A row may name several fields.
func readSections(t *testing.T) map[string]map[string]field {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "json-output.md"))
	require.NoError(t, err)
	sections := make(map[string]map[string]field)
	link := regexp.MustCompile(`\[(\w+)\]\(#(\w+)\)`)
	name := ""
	for line := range strings.Lines(string(text)) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			name = strings.TrimSpace(heading)
			sections[name] = make(map[string]field)
			continue
		}
		cells := strings.Split(line, "|")
		if name == "" || len(cells) < 4 || cells[1] == " Field " || strings.HasPrefix(cells[1], "---") {
			continue
		}
		linked := ""
		if found := link.FindStringSubmatch(cells[2]); found != nil {
			require.Equal(t, strings.ToLower(found[1]), found[2], "a link that leads elsewhere")
			linked = found[1]
		}
		tags := regexp.MustCompile("`(\\w+)`|"+embedded).FindAllStringSubmatch(cells[1], -1)
		require.NotEmpty(t, tags, "a row without a field: %s", line)
		for n, tag := range tags {
			d := field{link: linked, optional: strings.Contains(cells[2], "optional")}
			if kind := strings.Split(cells[2], ";"); len(kind) > 1 {
				// "number; string, optional" or "number; the last one optional"
				d.optional = strings.Contains(kind[1], "optional") &&
					(strings.TrimSpace(kind[1]) == "optional" || n == len(tags)-1)
			}
			key := tag[1]
			if key == "" {
				key = embedded
			}
			sections[name][key] = d
		}
	}
	return sections
}

// TestListsAreNeverNull: an empty list is [] in all results.
func TestListsAreNeverNull(t *testing.T) {
	for name, typ := range documented() {
		var out bytes.Buffer
		format, err := render.ParseFormat("json")
		require.NoError(t, err)
		require.NoError(t, render.Printer{Out: &out, Format: format}.Print(render.Document{Value: reflect.Zero(typ).Interface()}))
		var fields map[string]any
		require.NoError(t, json.Unmarshal(out.Bytes(), &fields), name)
		for i := range typ.NumField() {
			f := typ.Field(i)
			tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Type.Kind() == reflect.Slice && f.IsExported() && tag != "-" && !strings.Contains(options, "omit") {
				assert.NotNil(t, fields[tag], "%s.%s", name, tag)
			}
		}
	}
}

// TestDocumentedCommandsExist: the table of commands at the top of the page.
func TestDocumentedCommandsExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "json-output.md"))
	require.NoError(t, err)
	rows := regexp.MustCompile("(?m)^\\| `redisctl ([^`]+)` \\|").FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, rows)
	for _, row := range rows {
		line := append(strings.Fields(row[1]), "-o", "json")
		if strings.Contains(row[1], "show") || strings.HasSuffix(row[1], "verify") || strings.Contains(row[1], "resync") ||
			strings.Contains(row[1], "analyze") {
			line = append(line, "latest")
		}
		if strings.HasPrefix(row[1], "backup diff") {
			line = append(line, "a.rdb", "b.rdb")
		}
		_, err := parse(t, nil, line...)
		assert.NoError(t, err, row[1])
	}
}

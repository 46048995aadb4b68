package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/operation/replication"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/folder"
)

// widthProblems draws a document on terminals of several widths, with and without colours,
// and says which lines do not fit, and what is lost by fitting.
func widthProblems(d render.Document) []string {
	// What is to be copied, or read by a program, is not wrapped.
	d.Blocks = slices.DeleteFunc(slices.Clone(d.Blocks), func(b render.Block) bool {
		_, verbatim := b.(render.Verbatim)
		return verbatim
	})
	// A column without values has no title in records.
	titles := make(map[string]bool)
	for _, b := range d.Blocks {
		if t, isTable := b.(render.Table); isTable {
			for _, c := range t.Columns {
				for word := range wordsOf(c.Title) {
					titles[word] = true
				}
			}
		}
	}
	var problems []string
	for _, format := range []string{"table", "wide"} {
		whole := wordsOf(drawnAt(d, format, render.Look{}))
		for _, width := range []int{40, 80, 200} {
			plain := drawnAt(d, format, render.Look{Width: width})
			colored := drawnAt(d, format, render.Look{Width: width, Color: true})
			if strings.Contains(plain, "\x1b") {
				problems = append(problems, fmt.Sprintf("-o %s at %d columns has colours without being asked for them", format, width))
			}
			if uncolored(colored) != plain {
				problems = append(problems, fmt.Sprintf("-o %s at %d columns differs with colours:\n%s\n%s", format, width, plain, uncolored(colored)))
			}
			for line := range strings.Lines(plain) {
				if line = strings.TrimRight(line, "\n"); utf8.RuneCountInString(line) > width && !unbreakable(line) {
					problems = append(problems, fmt.Sprintf("-o %s at %d columns: %q", format, width, line))
				}
			}
			for word, count := range whole {
				if left := wordsOf(plain)[word]; left < count && !titles[word] {
					problems = append(problems, fmt.Sprintf("-o %s at %d columns: of %d %q %d are left", format, width, count, word, left))
				}
			}
		}
	}
	return problems
}

func drawnAt(d render.Document, format string, look render.Look) string {
	f, err := render.ParseFormat(format)
	if err != nil {
		panic(err)
	}
	var out bytes.Buffer
	if err := (render.Printer{Out: &out, Format: f, Look: look}).Print(d); err != nil {
		panic(err)
	}
	return out.String()
}

func uncolored(text string) string {
	lines := strings.Split(regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(text, ""), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

// unbreakable says whether a line is too long for its last word alone, which stands as far
// to the left as it can: a path, a digest or a key, left to the terminal to be copied.
func unbreakable(line string) bool {
	at := strings.LastIndex(line, " ") + 1
	before := line[:at]
	trimmed := strings.TrimLeft(before, " │├└─")
	return trimmed == "" || strings.HasSuffix(before, "  ") || len([]rune(trimmed)) <= 3 // a mark or a number
}

// wordsOf counts words. Lines, bars and plots are not among them.
func wordsOf(text string) map[string]int {
	words := make(map[string]int)
	for _, word := range strings.Fields(text) {
		if strings.ContainsFunc(word, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
			words[word]++
		}
	}
	return words
}

// views are the functions that turn a result into a document.
func views() map[string]any {
	return map[string]any{
		"analyzeDocument": analyzeDocument, "diffDocument": diffDocument, "prunePlanDocument": prunePlanDocument,
		"pruneDocument": pruneDocument, "setDocument": setDocument, "configDocument": configDocument, "planDocument": planDocument,
		"backupDocument": backupDocument, "listDocument": listDocument, "showDocument": showDocument, "verifyDocument": verifyDocument,
		"volumesDocument": volumesDocument, "volumeListDocument": volumeListDocument, "configViewDocument": configViewDocument,
		"describeDocument": describeDocument, "guardPlanDocument": guardPlanDocument, "guardStatusDocument": guardStatusDocument,
		"guardRemovedDocument": guardRemovedDocument, "promoteDocument": promoteDocument, "forceDocument": forceDocument,
		"healDocument": healDocument, "resumeDocument": resumeDocument, "failoverStatusDocument": failoverStatusDocument,
		"healthDocument": healthDocument, "pingDocument": pingDocument, "versionsDocument": func(d *operation.Deployment, answers []inspect.Answer[redis.Info]) render.Document {
			for i := range answers {
				answers[i].Instance = d.Instances[i].Name // answers are those of the deployment's instances
			}
			return versionsDocument(d, answers)
		}, "infoDocument": infoDocument,
		"clientsDocument": clientsDocument, "settingsDocument": settingsDocument, "driftDocument": driftDocument,
		"infoMemoryDocument": infoMemoryDocument, "metricsDocument": metricsDocument, "execDocument": execDocument,
		"executedDocument": executedDocument, "flushedDocument": flushedDocument, "dbsizeDocument": dbsizeDocument,
		"bigKeysDocument": bigKeysDocument, "latencyDocument": latencyDocument, "doctorDocument": doctorDocument,
		"spikesDocument": spikesDocument, "histogramDocument": histogramDocument, "memoryDocument": memoryDocument,
		"writtenDocument": writtenDocument, "lastSaveDocument": lastSaveDocument, "slowlogDocument": slowlogDocument,
		"rbacDocument": rbacDocument, "eventDocument": eventDocument, "resyncPlanDocument": resyncPlanDocument,
		"resyncDocument": resyncDocument, "replicationDocument": replicationDocument,
		"primaryDocument": func(r replication.Report) render.Document { return primaryDocument(r, r.Instances[0].Name) },
		"roleDocument":    roleDocument, "lagDocument": lagDocument, "checkDocument": checkDocument, "aofPlanDocument": aofPlanDocument,
		"cleanupDocument": cleanupDocument, "configPlanDocument": configPlanDocument, "configResultDocument": configResultDocument,
		"drillDocument": drillDocument, "fullPlanDocument": fullPlanDocument, "fullDocument": fullDocument, "liveDocument": liveDocument,
		"liveRecordDocument": liveRecordDocument, "liveAbortDocument": liveAbortDocument, "volumePlanDocument": volumePlanDocument,
		"volumeDocument": volumeDocument, "volumeRecordDocument": volumeRecordDocument, "supportBundleDocument": supportBundleDocument,
		"upgradeCheckDocument": upgradeCheckDocument, "greenDocument": greenDocument, "greenStatusDocument": greenStatusDocument,
		"historyDocument": historyDocument, "upgradeStatusDocument": upgradeStatusDocument, "rollDocument": rollDocument,
		"validationDocument": validationDocument,
		"configChecked":      configChecked.document, "prunedStores": (*prunedStores).document, "verifiedAll": (*verifiedAll).document,
		"healthFleet": healthFleet.document, "backupFleet": (*backupFleet[*backup.Plan]).document,
		"eventTable": eventTable, "eventLine": eventLine, "lagLine": lagLine, "statsLine": statsLine,
	}
}

// TestEveryViewFits draws what every command prints with values as long as they can
// reasonably be: no line longer than the terminal, and nothing lost.
func TestEveryViewFits(t *testing.T) {
	for name, view := range views() {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("it panics: %v\n%s", r, debug.Stack())
				}
			}()
			for round := range 4 {
				d := filled(view, round)
				require.NotEmpty(t, drawnAt(d, "table", render.Look{}))
				for _, problem := range widthProblems(d) {
					t.Errorf("round %d: %s", round, problem)
				}
			}
		})
	}
}

// filled calls a view with filled arguments.
func filled(view any, round int) render.Document {
	args := make([]reflect.Value, reflect.TypeOf(view).NumIn())
	for i := range args {
		args[i] = reflect.New(reflect.TypeOf(view).In(i)).Elem()
		(&filler{round: round}).fill(args[i], 0)
	}
	switch result := reflect.ValueOf(view).Call(args)[0].Interface().(type) {
	case render.Document:
		return result
	case render.Block:
		return render.Document{Blocks: []render.Block{result}}
	default:
		panic(reflect.TypeOf(result).String() + " is no view's")
	}
}

// TestNoViewIsForgotten finds functions that make documents by their names.
func TestNoViewIsForgotten(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	known := views()
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, found := range regexp.MustCompile(`(?m)^func (\w+Document)\(`).FindAllStringSubmatch(string(text), -1) {
			assert.Contains(t, known, found[1], "%s: add it to views", file)
		}
	}
}

// filler fills in every field of a value, texts as long as they can reasonably be.
type filler struct {
	round, texts int
}

func (f *filler) text() string {
	texts := []string{
		"checkout-sessions-redis-replicas-2",
		"nothing heard or acknowledged for 11s, which is more than the limit of 10s: the primary may have been stopped, or the network is down",
		"ok",
		"shopping-cart-production-eu-central-1/checkout-sessions",
		"/home/operator/backups/redis/shopping-cart-production/checkout-sessions/rdb-20261123T224501Z-abcd.rdb.zst.age",
		"rename-command",
		"dial tcp 10.244.13.201:6379: i/o timeout while waiting for the answer to PING of the server",
	}
	f.texts++
	return texts[(f.texts+f.round)%len(texts)]
}

const fillDepth = 12

func (f *filler) fill(v reflect.Value, depth int) {
	if depth > fillDepth {
		return
	}
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2026, 11, 23, 22, 45, 1, 0, time.UTC)))
		return
	case reflect.TypeFor[time.Duration]():
		v.SetInt(int64(26*time.Hour + 59*time.Minute + 59*time.Second))
		return
	case reflect.TypeFor[error]():
		if f.round == 0 {
			return
		}
		v.Set(reflect.ValueOf(operation.Errorf(operation.Failed, "%s", f.text())))
		return
	case reflect.TypeFor[storage.Store]():
		v.Set(reflect.ValueOf(folder.New("/home/operator/backups")))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(f.text())
	case reflect.Bool:
		v.SetBool(f.round%2 == 0)
	case reflect.Int, reflect.Int64:
		v.SetInt([]int64{1 << 40, 7, -1, 0}[f.round])
	case reflect.Int32, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Int8, reflect.Int16:
		v.Set(reflect.ValueOf(3).Convert(v.Type()))
	case reflect.Float64:
		v.SetFloat(1234.5678)
	case reflect.Interface:
		if v.NumMethod() == 0 {
			v.Set(reflect.ValueOf(f.text()))
		}
	default:
		f.fillParts(v, depth)
	}
}

func (f *filler) fillParts(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem(), depth+1)
	case reflect.Slice:
		if depth+2 > fillDepth {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			f.fill(v.Index(i), depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			f.fill(v.Index(i), depth+1)
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		f.fill(key, depth+1)
		f.fill(value, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; f.round == 0 && (name == "Error" || name == "Problem") {
				continue // everything goes well in the first round
			}
			// What is not exported can be reached as well where it is this package's own.
			field := reflect.NewAt(v.Field(i).Type(), v.Field(i).Addr().UnsafePointer()).Elem()
			f.fill(field, depth+1)
		}
	}
}

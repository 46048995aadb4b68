package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// CheckName names one check of a Report.
type CheckName string

// The checks, in the order of a Report.
const (
	// CheckManifest: the manifest is there, valid, unchanged since it was written,
	// and belongs to this snapshot.
	CheckManifest CheckName = "manifest"
	// CheckSize and CheckSHA256: what is stored has the size and the digest that the
	// manifest states. That needs no key.
	CheckSize   CheckName = "size"
	CheckSHA256 CheckName = "sha256"
	// CheckEncoding: the data is encoded as the manifest states, complete, and (if
	// it is encrypted) unaltered. CheckContents: what is inside has the size and the
	// digest that the manifest states. Both are there only for encoded data.
	CheckEncoding CheckName = "encoding"
	CheckContents CheckName = "contents"
	// CheckStructure: the data is a complete RDB file and nothing else.
	CheckStructure CheckName = "structure"
	// CheckCRC64: the checksum inside the RDB file is that of its bytes.
	CheckCRC64 CheckName = "crc64"
	// CheckKeys: the file holds what the manifest states, per database and type.
	CheckKeys CheckName = "keys"
)

// Result is the outcome of a check.
type Result string

// The results. A check is skipped when there is nothing to compare with, which
// its Detail explains: that alone does not make a verification fail.
const (
	OK      Result = "ok"
	Failed  Result = "failed"
	Skipped Result = "skipped"
)

// Check is one line of a Report.
type Check struct {
	Name   CheckName `json:"name"`
	Result Result    `json:"result"`
	// Detail says what was compared, or why the check failed or was skipped.
	Detail string `json:"detail,omitempty"`
}

// Report is the outcome of a verification.
type Report struct {
	// ID of the snapshot, or the name of a bare file; Location of its data.
	ID       string `json:"id"`
	Location string `json:"location"`
	// Verified is set if no check failed and the contents were checked, which they
	// are not with VerifyOptions.Outer.
	Verified bool    `json:"verified"`
	Checks   []Check `json:"checks"`
	// Size in bytes and SHA256 of what is stored, as it was read.
	Size   int64  `json:"sizeBytes"`
	SHA256 string `json:"sha256,omitempty"`
	// Codecs are what was done to the contents, as found; ContentSize in bytes and
	// ContentSHA256 are those of the contents. Empty for data that is not encoded.
	Codecs        []string `json:"codecs,omitempty"`
	ContentSize   int64    `json:"contentBytes,omitempty"`
	ContentSHA256 string   `json:"contentSha256,omitempty"`
	// RDB is what the data holds, as far as it could be read. Expired keys are
	// counted as of the backup, and for a bare file as of now.
	RDB *rdb.Summary `json:"rdb,omitempty"`
	// Duration is in seconds, Throughput in bytes per second.
	Duration   float64 `json:"durationSeconds"`
	Throughput float64 `json:"bytesPerSecond"`
}

func (r *Report) add(name CheckName, result Result, format string, args ...any) {
	r.Checks = append(r.Checks, Check{Name: name, Result: result, Detail: fmt.Sprintf(format, args...)})
}

// compare adds a check of what was found against what the manifest states.
func (r *Report) compare(name CheckName, found, stated string) {
	if found == stated {
		r.add(name, OK, "%s", found)
	} else {
		r.add(name, Failed, "%s, the manifest says %s", found, stated)
	}
}

// VerifyOptions are the options of Verify.
type VerifyOptions struct {
	// Deep also checks compressed values from the inside, see rdb.Options. It is
	// slower, and finds nothing more in data whose SHA-256 is right; it is always
	// done for a file that has neither a manifest nor a checksum.
	Deep bool
	// Keys open encrypted data. Nil opens none.
	Keys *codec.Keys
	// Outer checks only what is stored, against the manifest's size and digest, and
	// nothing inside. It needs no key.
	Outer bool
	// Progress, if not nil, is called after each piece with the bytes checked so
	// far and the size of the data.
	Progress func(bytes, total int64)
	// Visitor, if not nil, is told what the RDB file holds while it is read. It is
	// called anew if the file is read a second time, which forgets the first.
	Visitor func() rdb.Visitor
	// Now is time.Now unless set.
	Now func() time.Time
}

// visitor returns the caller's visitor for one pass.
func (o VerifyOptions) visitor() rdb.Visitor {
	if o.Visitor == nil {
		return rdb.Visitor{}
	}
	return o.Visitor()
}

// Verify reads everything that is stored of a snapshot and compares it with its
// manifest and with the RDB format. A bare RDB file (see FindFile) has no
// manifest: only its structure and its own checksum can be checked, and the
// report says so.
//
// Encoded data is decoded on the way. What is stored is checked in any case: an
// error matching codec.ErrKey says that it is as the manifest states, and that
// opts.Keys do not open it.
//
// The report is filled in as far as possible also when there is an error. The
// error is nil if and only if Report.Verified, except that with opts.Outer it only
// says that no check failed. It matches ErrCorrupt if a check failed,
// codec.ErrKey if nothing else failed, ErrUnsupported if the data is too new to
// tell and nothing else failed, and else it is that of the store or of ctx.
func Verify(ctx context.Context, store storage.Store, entry Entry, opts VerifyOptions) (Report, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	begun := opts.Now()
	v := verification{
		store: store, entry: entry, opts: opts,
		report: Report{ID: entry.ID, Location: store.Location(entry.DataName)},
	}
	err := v.run(ctx)
	v.report.Verified = err == nil && !opts.Outer
	took := opts.Now().Sub(begun)
	v.report.Duration = seconds(took)
	if took > 0 {
		v.report.Throughput = math.Round(float64(v.report.Size) / took.Seconds())
	}
	return v.report, err
}

type verification struct {
	store  storage.Store
	entry  Entry
	opts   VerifyOptions
	report Report

	manifest *Manifest // nil if there is none to compare with
	unjudged error     // why something could not be judged: ErrUnsupported or codec.ErrKey
}

func (v *verification) run(ctx context.Context) error {
	if err := v.readManifest(ctx); err != nil {
		return err
	}
	if v.manifest != nil {
		switch v.manifest.Kind {
		case KindRDB:
		case KindAOF, KindConfig, KindResources, KindFull:
			return v.runSet(ctx)
		default:
			return unsupported("%s is of kind %q, which this redisctl does not know", v.entry.ID, v.manifest.Kind)
		}
	}
	if v.manifest == nil && v.opts.Outer {
		return fmt.Errorf("%s has no manifest that what is stored could be compared with", v.report.Location)
	}
	got, err := v.readData(ctx, v.opts.Deep)
	if err == nil && !v.opts.Outer && !v.opts.Deep && v.manifest == nil && got.err == nil && got.summary.Checksum != rdb.ChecksumOK {
		// Nothing but its structure speaks for this file: look at it closely.
		got, err = v.readData(ctx, true)
	}
	switch {
	case err == nil:
		v.judge(got)
	case errors.Is(err, fs.ErrNotExist) && v.manifest != nil:
		v.report.add(CheckSize, Failed, "the file is missing")
	default:
		return err
	}
	return v.verdict()
}

// verdict sums up the checks.
func (v *verification) verdict() error {
	var faults []string
	for _, check := range v.report.Checks {
		if check.Result == Failed {
			faults = append(faults, fmt.Sprintf("%s: %s", check.Name, check.Detail))
		}
	}
	if len(faults) > 0 {
		return corrupt("%s failed verification: %s", v.report.Location, strings.Join(faults, "; "))
	}
	return v.unjudged
}

// readManifest fails only if there is a manifest that cannot be judged.
func (v *verification) readManifest(ctx context.Context) error {
	if v.entry.ManifestName == "" {
		v.report.add(CheckManifest, Skipped, "there is none")
		return nil
	}
	m, err := readManifest(ctx, v.store, &v.entry)
	switch {
	case err == nil:
		v.manifest = m
		v.report.add(CheckManifest, OK, "%s by redisctl %s", m.CreatedAt.Format(time.RFC3339), m.CreatedBy)
	case errors.Is(err, fs.ErrNotExist):
		v.report.add(CheckManifest, Skipped, "there is none")
	case errors.Is(err, ErrCorrupt):
		v.report.add(CheckManifest, Failed, "%v", err)
	default:
		return err
	}
	return nil
}

// data is what was found in the data file.
type data struct {
	size   int64 // of what is stored
	sha256 string

	codecs        []string
	contentSize   int64
	contentSHA256 string

	summary rdb.Summary
	// err says what is wrong with the contents or with their encoding: a
	// *rdb.FormatError or a *codec.Error.
	err error
}

// readData reads the file to its end, also when it turns out not to be sound.
func (v *verification) readData(ctx context.Context, deep bool) (data, error) {
	file, info, err := v.store.Open(ctx, v.entry.DataName)
	if err != nil {
		return data{}, err
	}
	defer file.Close()
	digest := newDigester()
	defer digest.close()
	source := &meter{r: file, now: v.opts.Now}
	if v.opts.Progress != nil {
		source.progress = func(bytes int64) { v.opts.Progress(bytes, info.Size) }
	}
	stored := io.TeeReader(source, digest)
	var got data
	if !v.opts.Outer {
		err := v.readContents(ctx, stored, &got, deep)
		if !isVerdict(err) {
			return data{}, err
		}
		got.err = err
	}
	// What is stored is digested as a whole, whatever its contents are.
	if _, err := io.CopyBuffer(io.Discard, &interruptible{ctx, stored}, make([]byte, digestBuffer)); err != nil {
		return data{}, err
	}
	got.size, got.sha256 = source.bytes, digest.sum()
	return got, nil
}

// readContents decodes and scans what r yields. Its error may be a verdict.
func (v *verification) readContents(ctx context.Context, r io.Reader, got *data, deep bool) error {
	decoded, err := codec.NewReader(r, v.opts.Keys)
	if err != nil {
		return err
	}
	defer decoded.Close()
	opts := rdb.Options{Deep: deep, Now: v.opts.Now()}
	if v.manifest != nil {
		opts.Now = v.manifest.CreatedAt // counts expired keys like Create did
	}
	got.codecs = decoded.Codecs()
	if len(got.codecs) == 0 { // the digest of what is stored is that of the contents
		got.summary, err = rdb.Scan(ctx, decoded, v.opts.visitor(), opts)
		return err
	}
	contents := &countingDigest{digester: newDigester()}
	defer contents.close()
	tee := io.TeeReader(decoded, contents)
	got.summary, err = rdb.Scan(ctx, tee, v.opts.visitor(), opts)
	if fault := (*rdb.FormatError)(nil); errors.As(err, &fault) {
		// The contents are no RDB file; whether they are what was stored is another
		// question.
		if _, end := io.CopyBuffer(io.Discard, &interruptible{ctx, tee}, make([]byte, digestBuffer)); end != nil {
			err = end
		}
	}
	got.contentSize, got.contentSHA256 = contents.bytes, contents.sum()
	return err
}

// isVerdict reports whether err is nil or about the data, and not about reading it.
func isVerdict(err error) bool {
	return err == nil || errors.As(err, new(*rdb.FormatError)) || errors.As(err, new(*codec.Error))
}

// interruptible is a reader that ends with its context.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}

// Why a check was skipped.
const (
	noManifest = "no manifest to compare with"
	noEnd      = "the file could not be read to its end"
	noKey      = "that needs the key"
	outerOnly  = "not asked for"
)

// judge adds all checks of the data to the report.
func (v *verification) judge(got data) {
	v.report.Size, v.report.SHA256 = got.size, got.sha256
	v.report.Codecs, v.report.ContentSize, v.report.ContentSHA256 = got.codecs, got.contentSize, got.contentSHA256
	var want *File
	if v.manifest != nil {
		want = v.manifest.RDB()
	}
	if want == nil {
		v.report.add(CheckSize, Skipped, noManifest)
		v.report.add(CheckSHA256, Skipped, noManifest)
	} else {
		v.report.compare(CheckSize, fmt.Sprintf("%d bytes", got.size), fmt.Sprintf("%d bytes", want.Size))
		v.report.compare(CheckSHA256, got.sha256, want.SHA256)
	}
	if v.opts.Outer {
		v.skipContents(outerOnly)
		return
	}
	if fault := (*codec.Error)(nil); errors.As(got.err, &fault) {
		v.judgeFault(fault)
		why := noEnd
		if errors.Is(fault, codec.ErrKey) {
			why = noKey
		}
		v.skipContents(why)
		return
	}
	v.judgeEncoding(got, want)
	v.report.RDB = &got.summary
	v.judgeStructure(got)
	v.judgeKeys(got, want)
}

// skipContents adds the checks that need the contents.
func (v *verification) skipContents(why string) {
	for _, name := range []CheckName{CheckStructure, CheckCRC64, CheckKeys} {
		v.report.add(name, Skipped, "%s", why)
	}
}

// judgeFault adds what is wrong with the encoding.
func (v *verification) judgeFault(fault *codec.Error) {
	result := Skipped
	switch {
	case errors.Is(fault, codec.ErrKey):
		v.unjudged = fmt.Errorf("the contents of %s were not verified: %w", v.report.Location, fault)
	case errors.Is(fault, codec.ErrUnsupported):
		v.unjudged = unsupported("%s cannot be verified: %w", v.report.Location, fault)
	default:
		result = Failed
	}
	v.report.add(CheckEncoding, result, "%v", fault)
}

// judgeEncoding adds the checks of data that was decoded. There are none when it
// was not, and should not have been, encoded.
func (v *verification) judgeEncoding(got data, want *File) {
	if len(got.codecs) == 0 && (want == nil || want.Encoding == nil) {
		return
	}
	found := codecsText(got.codecs)
	if want == nil {
		v.report.add(CheckEncoding, OK, "%s", found)
		v.report.add(CheckContents, Skipped, noManifest)
		return
	}
	var stated []string
	if want.Encoding != nil {
		stated = want.Encoding.Codecs
	}
	v.report.compare(CheckEncoding, found, codecsText(stated))
	if len(got.codecs) == 0 {
		v.report.add(CheckContents, Skipped, "they are not encoded")
		return
	}
	v.report.compare(CheckContents,
		contentsText(got.contentSize, got.contentSHA256), contentsText(want.ContentSize(), want.ContentSHA256()))
}

func codecsText(codecs []string) string {
	if len(codecs) == 0 {
		return "none"
	}
	return strings.Join(codecs, ", then ")
}

func contentsText(size int64, sha256 string) string {
	return fmt.Sprintf("%d bytes, SHA-256 %s", size, sha256)
}

// judgeStructure adds what the RDB format says of the data.
func (v *verification) judgeStructure(got data) {
	switch {
	case got.err == nil || errors.Is(got.err, rdb.ErrChecksum):
		v.report.add(CheckStructure, OK, "RDB version %d", got.summary.Version)
	case errors.Is(got.err, rdb.ErrUnsupported):
		v.report.add(CheckStructure, Skipped, "%v", got.err)
		v.unjudged = unsupported("%s cannot be verified: %w", v.report.Location, got.err)
	default:
		v.report.add(CheckStructure, Failed, "%v", got.err)
	}

	switch got.summary.Checksum {
	case rdb.ChecksumOK:
		v.report.add(CheckCRC64, OK, "%s", got.summary.StoredCRC)
	case rdb.ChecksumMismatch:
		v.report.add(CheckCRC64, Failed, "%s, the file says %s", got.summary.ComputedCRC, got.summary.StoredCRC)
	case rdb.ChecksumDisabled:
		v.report.add(CheckCRC64, Skipped, "the server wrote none (rdbchecksum no)")
	case rdb.ChecksumAbsent:
		v.report.add(CheckCRC64, Skipped, "RDB version %d has none", got.summary.Version)
	default:
		v.report.add(CheckCRC64, Skipped, noEnd)
	}
}

// judgeKeys compares what the data holds with what the manifest states.
func (v *verification) judgeKeys(got data, want *File) {
	switch {
	case want == nil:
		v.report.add(CheckKeys, Skipped, noManifest)
	case got.summary.Checksum == "":
		v.report.add(CheckKeys, Skipped, noEnd)
	default:
		if differences := compareContents(want.RDB, &got.summary); len(differences) > 0 {
			v.report.add(CheckKeys, Failed, "%s", strings.Join(differences, ", "))
		} else {
			v.report.add(CheckKeys, OK, "%d keys", got.summary.Keys)
		}
	}
}

// compareContents says where what was found differs from what was stated.
func compareContents(stated, found *rdb.Summary) []string {
	var differences []string
	differ := func(what string, found, stated any) {
		differences = append(differences, fmt.Sprintf("%s: %v, the manifest says %v", what, found, stated))
	}
	if stated.Origin != found.Origin || stated.Version != found.Version {
		differ("format", fmt.Sprintf("%s %d", found.Origin, found.Version), fmt.Sprintf("%s %d", stated.Origin, stated.Version))
	}
	if stated.Checksum != found.Checksum || stated.StoredCRC != found.StoredCRC {
		differ("CRC64", fmt.Sprintf("%s %s", found.StoredCRC, found.Checksum), fmt.Sprintf("%s %s", stated.StoredCRC, stated.Checksum))
	}
	wants, gots := counts(stated), counts(found)
	all := maps.Clone(wants)
	maps.Copy(all, gots)
	for _, what := range slices.Sorted(maps.Keys(all)) {
		if gots[what] != wants[what] {
			differ(what, gots[what], wants[what])
		}
	}
	return differences
}

// counts lists everything that a summary counts, under the words that messages
// use for it.
func counts(s *rdb.Summary) map[string]int64 {
	c := map[string]int64{"function libraries": s.Functions, "Lua scripts": s.LuaScripts, "module records": s.ModuleAux}
	for _, db := range s.DBs {
		in := fmt.Sprintf(" in db%d", db.DB)
		c["keys"+in] += db.Keys
		c["keys with an expiry"+in] += db.Expires
		c["expired keys"+in] += db.Expired
		c["empty keys"+in] += db.EmptyKeys
		for kind, n := range db.Types {
			c["keys of type "+kind+in] += n
		}
	}
	return c
}

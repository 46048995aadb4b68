package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	strictjson "sigs.k8s.io/json"

	"github.com/redisctl/redisctl/internal/aof"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// APIVersion is the manifest format that every redisctl reads. A new optional
// field raises the minor version: readers of any v1 accept it and ignore fields
// they do not know. A change of meaning raises the major version, which older
// readers refuse with ErrUnsupported.
const (
	APIVersion = "redisctl/v1"
	// apiVersionSets added encodings and sets of files. A manifest without these is
	// still written as APIVersion, for older readers.
	apiVersionSets = "redisctl/v1.1"
	// apiVersionPurpose added Manifest.Purpose.
	apiVersionPurpose = "redisctl/v1.2"

	apiMajor = 1
	apiMinor = 2
)

// apiVersion is the oldest format that has everything m states.
func (m *Manifest) apiVersion() string {
	if m.Purpose != "" {
		return apiVersionPurpose
	}
	if m.Kind != KindRDB || slices.ContainsFunc(m.Files, func(f File) bool { return f.Encoding != nil }) {
		return apiVersionSets
	}
	return APIVersion
}

// MaxManifestSize is the longest manifest that is read or written, in bytes.
const MaxManifestSize = 1 << 20

// Manifest describes one snapshot. It never holds a secret. It is written once,
// and not changed by later verifications: a stored snapshot is immutable.
type Manifest struct {
	// APIVersion is the format: "redisctl/v<major>[.<minor>]".
	APIVersion string `json:"apiVersion"`
	// Kind is what the snapshot holds.
	Kind Kind `json:"kind"`
	// ID is the snapshot's name, see ParseID. The objects are named after it.
	ID string `json:"id"`
	// CreatedAt is when the backup began, CompletedAt when its data was complete;
	// both in UTC. The data is from a moment in between.
	CreatedAt   time.Time `json:"createdAt"`
	CompletedAt time.Time `json:"completedAt"`
	// CreatedBy is the version of redisctl that made the snapshot.
	CreatedBy string `json:"createdBy"`
	// Purpose is empty for a backup that was asked for (since v1.2).
	Purpose Purpose `json:"purpose,omitempty"`
	// Source is where the data came from.
	Source Source `json:"source"`
	// Files are the snapshot's data; for KindRDB exactly one.
	Files []File `json:"files"`
	// Durations say how long it took.
	Durations Durations `json:"durations"`
	// Verification is the check that the data passed on its way to the storage.
	Verification Verification `json:"verification"`
	// Digest is "sha256:" and the SHA-256, in lower-case hexadecimal, of the
	// manifest's own bytes with these 64 digits replaced by zeros. It is the last
	// field. Decode checks it, Encode computes it.
	Digest string `json:"digest"`
}

// Purpose is why a snapshot was made.
type Purpose string

// PurposeSafety marks the copy of data that an operation was about to replace. Latest is
// never one: whoever restores wants what was before the accident.
const PurposeSafety Purpose = "safety"

// Source is the server that a snapshot was taken from.
type Source struct {
	// Namespace and Release are empty for a plain address.
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	// Instance is the pod's name, or the address.
	Instance string `json:"instance"`
	// Address is the host:port that the server listens on.
	Address string `json:"address,omitempty"`
	// Role is the server's role at that time: "primary" or "replica".
	Role string `json:"role"`
	// Product is "redis" or "valkey", Version the server's version.
	Product string `json:"product"`
	Version string `json:"version"`
	// RunID identifies the server process (run_id of INFO server).
	RunID string `json:"runId,omitempty"`
	// ReplicationID and ReplicationOffset are the point in the replication stream
	// that the data is from, as the server stated it. An empty ReplicationID means
	// that it is not known; the offset then means nothing.
	ReplicationID     string `json:"replicationId,omitempty"`
	ReplicationOffset int64  `json:"replicationOffset,omitempty"`
	// Method is how the snapshot was made: "stream" (over the replication
	// protocol), "bgsave" (BGSAVE, then a copy of the file), or "aof" (copies of the
	// files); empty for what has no data.
	Method string `json:"method"`
	// Transfer is how the end of the data was marked: "eof" (a random marker,
	// diskless), "length" (announced in advance) or "file" (in-band length and
	// digest of a copied file).
	Transfer string `json:"transfer,omitempty"`
}

// FileKind is what one file of a set is.
type FileKind string

// The kinds of files. The empty kind means FileRDB.
const (
	FileRDB FileKind = "rdb"
	// FileAOF is the single append-only file of servers before 7.0; later ones have
	// a manifest, a base (an RDB or commands) and incremental files.
	FileAOF            FileKind = "aof"
	FileAOFManifest    FileKind = "aof-manifest"
	FileAOFBase        FileKind = "aof-base"
	FileAOFIncremental FileKind = "aof-incremental"
	// FileConfig is JSON, see package backup. FileResources is a stream of YAML
	// documents.
	FileConfig    FileKind = "config"
	FileResources FileKind = "resources"
)

// File is one object of a snapshot.
type File struct {
	// Name is in the same folder as the manifest: it has no slash. It is the
	// snapshot's id, a dot, and what tells the file from the others of a set.
	Name string `json:"name"`
	// Kind is what the file is, Path where the server had it below its folder
	// ("appendonlydir/appendonly.aof.manifest"). Both are empty for KindRDB.
	Kind FileKind `json:"kind,omitempty"`
	Path string   `json:"path,omitempty"`
	// Size in bytes of what is stored.
	Size int64 `json:"sizeBytes"`
	// SHA256 of what is stored in 64 lower-case hexadecimal digits. It can be
	// checked without a key.
	SHA256 string `json:"sha256"`
	// Encoding is nil when the contents are stored as they are.
	Encoding *Encoding `json:"encoding,omitempty"`
	// RDB is what the file holds, if it is an RDB file: version, CRC64 and its
	// status, keys per database. Expired keys are counted as of CreatedAt.
	RDB *rdb.Summary `json:"rdb,omitempty"`
	// AOF is what the file holds, if it has commands.
	AOF *aof.Summary `json:"aof,omitempty"`
	// CutBytes is how much the server had behind the last complete command, which was
	// left out, in bytes.
	CutBytes int64 `json:"cutBytes,omitempty"`
}

// Encoding is how a file's contents became what is stored (since v1.1).
type Encoding struct {
	// Codecs are codec.Zstd and codec.Age, in the order in which they were applied.
	Codecs []string `json:"codecs"`
	// Level of the compression.
	Level codec.Level `json:"level,omitempty"`
	// Recipients are the public keys that the file is encrypted to, or "passphrase".
	// They are there for the day on which somebody has to find the key that opens
	// this file among many; they are no secret, though they do tell whoever reads
	// the manifest which backups have a reader in common.
	Recipients []string `json:"recipients,omitempty"`
	// ContentSize in bytes and ContentSHA256 are of the contents.
	ContentSize   int64  `json:"contentBytes"`
	ContentSHA256 string `json:"contentSha256"`
}

// ContentSize returns the size of the contents in bytes, which is that of what is
// stored unless the file is encoded.
func (f *File) ContentSize() int64 {
	if f.Encoding != nil {
		return f.Encoding.ContentSize
	}
	return f.Size
}

// ContentSHA256 returns the SHA-256 of the contents.
func (f *File) ContentSHA256() string {
	if f.Encoding != nil {
		return f.Encoding.ContentSHA256
	}
	return f.SHA256
}

// suffix is what the codecs add to the file's name.
func (f *File) suffix() string {
	if f.Encoding == nil {
		return ""
	}
	suffix, _ := codec.Suffix(f.Encoding.Codecs) // validated
	return suffix
}

// Durations are in seconds.
type Durations struct {
	// Wait is the time until the first byte of data: the server forks, and with
	// diskless replication waits for more replicas first.
	Wait float64 `json:"waitSeconds"`
	// Transfer is the time from the first to the last byte.
	Transfer float64 `json:"transferSeconds"`
	// Store is the time to make the data durable after the last byte.
	Store float64 `json:"storeSeconds"`
}

// Verification is a check that found no fault.
type Verification struct {
	At time.Time `json:"at"`
	// By is the version of redisctl.
	By string `json:"by"`
	// Result is VerifiedInTransit.
	Result string `json:"result"`
}

// VerifiedInTransit is the result of the check that every snapshot passes before
// it is stored: the source declared the data complete, and its structure and
// CRC64 are sound.
const VerifiedInTransit = "verified-in-transit"

// RDB returns the RDB file of the snapshot, nil if it has none.
func (m *Manifest) RDB() *File {
	for i := range m.Files {
		if m.Files[i].RDB != nil {
			return &m.Files[i]
		}
	}
	return nil
}

const digestPrefix = "sha256:"

// noDigest stands in the place of the digest while it is computed.
const noDigest = digestPrefix + "0000000000000000000000000000000000000000000000000000000000000000"

// Encode sets m.APIVersion and m.Digest and returns the manifest as indented
// JSON with a newline at its end. It refuses what Decode would not accept.
func (m *Manifest) Encode() ([]byte, error) {
	m.APIVersion = m.apiVersion()
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("encoding the manifest: %w", err)
	}
	zeroed := *m
	zeroed.Digest = noDigest
	data, err := json.MarshalIndent(&zeroed, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the manifest: %w", err)
	}
	data = append(data, '\n')
	if len(data) > MaxManifestSize {
		return nil, fmt.Errorf("the manifest has %d bytes, the limit is %d", len(data), MaxManifestSize)
	}
	m.Digest = digestOf(data)
	copy(data[bytes.LastIndex(data, []byte(noDigest)):], m.Digest)
	return data, nil
}

// Decode reads and checks a manifest. What it returns is consistent in itself;
// its names are local and its numbers in range. Errors match ErrCorrupt,
// ErrUnsupported (a newer major version) or are those of r.
func Decode(r io.Reader) (*Manifest, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxManifestSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the manifest: %w", err)
	}
	m, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("the manifest is not valid: %w", err)
	}
	return m, nil
}

func decode(data []byte) (*Manifest, error) {
	if len(data) > MaxManifestSize {
		return nil, corrupt("it is longer than %d bytes", MaxManifestSize)
	}
	// A newer major version may have nothing else in common with this one.
	var head struct {
		APIVersion string `json:"apiVersion"`
	}
	if err := strictjson.UnmarshalCaseSensitivePreserveInts(data, &head); err != nil {
		return nil, corrupt("%w", err)
	}
	minor, err := parseAPIVersion(head.APIVersion)
	if err != nil {
		return nil, err
	}
	strictness := []strictjson.StrictOption{strictjson.DisallowDuplicateFields}
	if minor <= apiMinor {
		strictness = append(strictness, strictjson.DisallowUnknownFields)
	}
	var m Manifest
	strictErrs, err := strictjson.UnmarshalStrict(data, &m, strictness...)
	if err == nil && len(strictErrs) > 0 {
		err = strictErrs[0]
	}
	if err != nil {
		return nil, corrupt("%w", err)
	}
	// Before the digest: it is the better message for a manifest that somebody
	// wrote by hand.
	if err := m.validate(); err != nil {
		return nil, corrupt("%w", err)
	}
	i := bytes.LastIndex(data, []byte(m.Digest))
	if i < 0 || len(m.Digest) != len(noDigest) {
		return nil, corrupt("it has no digest of itself")
	}
	copy(data[i:], noDigest)
	if want := digestOf(data); m.Digest != want {
		return nil, corrupt("it was changed after it was written: its digest is %s, it says %s", want, m.Digest)
	}
	return &m, nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return digestPrefix + hex.EncodeToString(sum[:])
}

var apiVersionPattern = regexp.MustCompile(`^redisctl/v([1-9][0-9]{0,5})(?:\.(0|[1-9][0-9]{0,5}))?$`)

// parseAPIVersion returns the minor version of a supported version.
func parseAPIVersion(version string) (minor int, err error) {
	parts := apiVersionPattern.FindStringSubmatch(version)
	if parts == nil {
		return 0, corrupt("apiVersion %q", version)
	}
	if major, err := strconv.Atoi(parts[1]); err != nil || major > apiMajor {
		return 0, unsupported("apiVersion %q: this redisctl reads %s", version, apiVersionSets)
	}
	if parts[2] != "" {
		minor, err = strconv.Atoi(parts[2])
	}
	return minor, err
}

var (
	fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	hex256   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// maxFileName is the longest name, in bytes, that common file systems take. It is not a
// repetition in the pattern, which would take a millisecond of every command's start.
const maxFileName = 255

// maxFiles bounds what a manifest can make a reader do.
const maxFiles = 4096

// validate checks everything but the version and the digest.
func (m *Manifest) validate() error {
	kind, start, ok := ParseID(m.ID)
	switch {
	case !ok:
		return fmt.Errorf("id %q", m.ID)
	case kind != m.Kind:
		return fmt.Errorf("kind %q does not go with id %q", m.Kind, m.ID)
	case !start.Equal(m.CreatedAt.Truncate(time.Second)):
		return fmt.Errorf("createdAt %s does not go with id %q", m.CreatedAt.Format(time.RFC3339), m.ID)
	case m.CompletedAt.Before(m.CreatedAt):
		return errors.New("completedAt is before createdAt")
	case len(m.Files) == 0 || len(m.Files) > maxFiles:
		return fmt.Errorf("%d files", len(m.Files))
	}
	for _, seconds := range []float64{m.Durations.Wait, m.Durations.Transfer, m.Durations.Store} {
		if seconds < 0 || math.IsNaN(seconds) || math.IsInf(seconds, 0) {
			return fmt.Errorf("a duration of %v s", seconds)
		}
	}
	if err := m.validateText(); err != nil {
		return err
	}
	if m.Source.ReplicationOffset < 0 {
		return fmt.Errorf("replicationOffset %d", m.Source.ReplicationOffset)
	}
	names := make(map[string]bool)
	for _, f := range m.Files {
		if err := f.validate(); err != nil {
			return err
		}
		// Some file systems do not tell upper from lower case.
		name := strings.ToLower(f.Name)
		if names[name] {
			return fmt.Errorf("two files are named %q", f.Name)
		}
		names[name] = true
		if m.Kind != KindRDB && !strings.HasPrefix(f.Name, m.ID+".") {
			return fmt.Errorf("%q is not named after the snapshot", f.Name)
		}
	}
	if m.Kind == KindRDB && (len(m.Files) != 1 || m.Files[0].RDB == nil || m.Files[0].Name != m.ID+rdbSuffix+m.Files[0].suffix()) {
		return fmt.Errorf("a snapshot of kind %s has one file, %s, and says what it holds", KindRDB, m.ID+rdbSuffix+m.Files[0].suffix())
	}
	return nil
}

// validateText refuses what could act on a terminal.
func (m *Manifest) validateText() error {
	s := m.Source
	for _, text := range []string{
		m.CreatedBy, m.Verification.By, m.Verification.Result, s.Namespace, s.Release, s.Instance, s.Address,
		s.Role, s.Product, s.Version, s.RunID, s.ReplicationID, s.Method, s.Transfer,
	} {
		if len(text) > 1024 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("text that cannot be printed: %.64q", text)
		}
	}
	return nil
}

func (f *File) validate() error {
	switch {
	case len(f.Name) > maxFileName || !fileName.MatchString(f.Name):
		return fmt.Errorf("a file named %.64q", f.Name)
	case f.Size < 0:
		return fmt.Errorf("%s has a size of %d", f.Name, f.Size)
	case !hex256.MatchString(f.SHA256):
		return fmt.Errorf("%s has a SHA-256 of %.80q", f.Name, f.SHA256)
	case f.Path != "" && storage.CheckName(f.Path) != nil:
		return fmt.Errorf("%s is from %.64q", f.Name, f.Path)
	}
	if err := f.Encoding.validate(); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	switch {
	case f.RDB == nil:
		return nil
	case f.RDB.Size != f.ContentSize():
		return fmt.Errorf("%s has %d bytes and an RDB of %d", f.Name, f.ContentSize(), f.RDB.Size)
	}
	var total rdb.Summary
	for _, db := range f.RDB.DBs {
		if db.DB < 0 || db.Keys < 0 || db.Expires < 0 || db.Expired < 0 || db.EmptyKeys < 0 {
			return fmt.Errorf("%s has a negative count in database %d", f.Name, db.DB)
		}
		total.Keys += db.Keys
		total.Expires += db.Expires
		total.Expired += db.Expired
		total.EmptyKeys += db.EmptyKeys
	}
	if total.Keys != f.RDB.Keys || total.Expires != f.RDB.Expires || total.Expired != f.RDB.Expired || total.EmptyKeys != f.RDB.EmptyKeys {
		return fmt.Errorf("the totals of %s are not the sums of its databases", f.Name)
	}
	return nil
}

// Bounds of what an Encoding states. A post-quantum recipient has 2,000 characters.
const (
	maxRecipients   = 64
	maxRecipientLen = 4096
)

func (e *Encoding) validate() error {
	if e == nil {
		return nil
	}
	suffix, ok := codec.Suffix(e.Codecs)
	encrypted := slices.Contains(e.Codecs, codec.Age)
	switch {
	case !ok || suffix == "":
		return fmt.Errorf("codecs %.80q", e.Codecs)
	case e.ContentSize < 0:
		return fmt.Errorf("contents of %d bytes", e.ContentSize)
	case !hex256.MatchString(e.ContentSHA256):
		return fmt.Errorf("contents with a SHA-256 of %.80q", e.ContentSHA256)
	case len(e.Recipients) > maxRecipients || encrypted != (len(e.Recipients) > 0):
		return fmt.Errorf("%d recipients", len(e.Recipients))
	}
	for _, text := range append([]string{string(e.Level)}, e.Recipients...) {
		if len(text) > maxRecipientLen || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("text that cannot be printed: %.64q", text)
		}
	}
	return nil
}

package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	strictjson "sigs.k8s.io/json"

	"github.com/redisctl/redisctl/internal/storage"
)

// verifiedSuffix names the record of the last successful verification. It is an
// object of its own because a manifest never changes.
const verifiedSuffix = ".verified.json"

// maxBeside is the longest object beside a manifest that is read, in bytes.
const maxBeside = 1 << 20

// VerificationRecord says that everything stored of a snapshot was read back and
// found to be what its manifest states. It is stored beside the manifest and
// replaced by the next success; a failed verification leaves it, because it was
// true at its time.
type VerificationRecord struct {
	// APIVersion is the format, as that of a Manifest.
	APIVersion string `json:"apiVersion"`
	// ID is the snapshot, ManifestDigest the Digest of its manifest: the record of
	// one snapshot says nothing of another one under the same name.
	ID             string `json:"id"`
	ManifestDigest string `json:"manifestDigest"`
	// At is when the verification ended, in UTC.
	At time.Time `json:"at"`
	// By is the version of redisctl.
	By string `json:"by"`
	// Deep is set if compressed values were checked from the inside as well.
	Deep bool `json:"deep"`
}

// RecordVerification stores that entry was verified at the given time, in place
// of what was recorded before. Verify must have succeeded for it. An entry
// without a manifest has no place for a record, which is an error matching
// ErrCorrupt.
func RecordVerification(ctx context.Context, store storage.Store, entry Entry, at time.Time, by string, deep bool) error {
	if entry.Manifest == nil || entry.ManifestName == "" {
		return corrupt("%s has no manifest that a verification could be recorded for", entry.ID)
	}
	r := VerificationRecord{
		APIVersion: APIVersion, ID: entry.ID, ManifestDigest: entry.Manifest.Digest, At: at.UTC(), By: by, Deep: deep,
	}
	return putJSON(ctx, store, path.Join(entry.Dir, entry.ID+verifiedSuffix), r)
}

// putJSON stores a small object, in place of an older one.
func putJSON(ctx context.Context, store storage.Store, name string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", store.Location(name), err)
	}
	return storeBytes(ctx, store, name, append(data, '\n'), storage.CreateOptions{Overwrite: true})
}

// getJSON reads what putJSON stored. Fields it does not know are left out: a newer
// minor version may have written them.
func getJSON(ctx context.Context, store storage.Store, name string, value any) error {
	r, _, err := store.Open(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxBeside+1))
	if err != nil {
		return err
	}
	if len(data) > maxBeside {
		return corrupt("%s is longer than %d bytes", store.Location(name), maxBeside)
	}
	if err := strictjson.UnmarshalCaseSensitivePreserveInts(data, value); err != nil {
		return corrupt("%s: %w", store.Location(name), err)
	}
	return nil
}

// readVerified returns the record that goes with the entry's manifest. One that is
// missing, damaged or about something else counts as none: the worst that comes of
// it is another verification.
func readVerified(ctx context.Context, store storage.Store, e *Entry) *VerificationRecord {
	if !e.hasRecord || e.Manifest == nil {
		return nil
	}
	var r VerificationRecord
	if err := getJSON(ctx, store, path.Join(e.Dir, e.ID+verifiedSuffix), &r); err != nil {
		return nil
	}
	if _, err := parseAPIVersion(r.APIVersion); err != nil {
		return nil
	}
	if r.ID != e.ID || r.ManifestDigest != e.Manifest.Digest || r.At.Before(e.Manifest.CreatedAt) {
		return nil
	}
	return &r
}

// State classifies an Entry as far as that shows without reading its data.
type State string

// The states.
const (
	// Intact: the manifest is valid and its files are there, with their sizes.
	Intact State = "intact"
	// Incomplete: it is named like a snapshot and has no manifest. The backup did
	// not finish (or runs right now), or the manifest was lost.
	Incomplete State = "incomplete"
	// Damaged: the manifest is not valid, or data is missing or of another size.
	Damaged State = "damaged"
	// Unsupported: a newer redisctl made it.
	Unsupported State = "unsupported"
	// Unreadable: the manifest could not be read, so that nothing is known.
	Unreadable State = "unreadable"
	// Foreign: a file that redisctl did not make.
	Foreign State = "foreign"
	// Removing: its removal has begun and did not finish. It is no snapshot any
	// more, whatever is left of it.
	Removing State = "removing"
)

// States lists the states, for help texts and completion.
func States() []State {
	return []State{Intact, Incomplete, Damaged, Unsupported, Unreadable, Foreign, Removing}
}

// State returns the entry's state.
func (e *Entry) State() State {
	_, _, named := ParseID(e.ID)
	switch {
	case e.removing:
		return Removing
	case e.Problem == nil:
		return Intact
	case !e.HasManifest && !named:
		return Foreign
	case !e.HasManifest:
		return Incomplete
	case errors.Is(e.Problem, ErrUnsupported):
		return Unsupported
	case errors.Is(e.Problem, ErrCorrupt), errors.Is(e.Problem, fs.ErrNotExist):
		return Damaged
	default:
		return Unreadable
	}
}

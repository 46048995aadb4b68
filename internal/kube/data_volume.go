package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/redis"
)

// Claim implements volume.Volumes.
func (c *Client) Claim(parent context.Context, d *operation.Deployment, name string) (volume.Claim, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	claim, err := c.clientset.CoreV1().PersistentVolumeClaims(d.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		r := request{verb: "get", resource: "persistentvolumeclaims", namespace: d.Namespace, name: name}
		return volume.Claim{}, c.failure(parent, r, err)
	}
	return volume.Claim{
		Name:      name,
		Bound:     claim.Status.Phase == corev1.ClaimBound,
		Phase:     string(claim.Status.Phase),
		Capacity:  claim.Status.Capacity.Storage().Value(),
		Exclusive: slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod),
	}, nil
}

// OpenVolume implements volume.Volumes with a helper pod.
func (c *Client) OpenVolume(ctx context.Context, d *operation.Deployment, claim, node string) (volume.Volume, error) {
	helper, err := c.StartHelper(ctx, d, HelperSpec{Name: d.Workload.Name + "-redisctl-restore", Claim: claim, Node: node})
	if err != nil {
		return nil, err
	}
	return dataVolume{helper}, nil
}

// dataVolume implements volume.Volume.
type dataVolume struct{ *Helper }

// Close implements volume.Volume.
func (v dataVolume) Close(ctx context.Context) error { return v.Remove(ctx) }

// FreeSpace implements volume.Volume.
func (v dataVolume) FreeSpace(ctx context.Context, dir string) (int64, error) {
	out, err := v.Run(ctx, `df -Pk "$1"`, dir)
	if err != nil {
		return 0, err
	}
	return freeBytes(out)
}

// ServerVersion implements volume.Volume: it asks the release's image.
//
//	Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=...
//	Valkey server v=8.1.1 sha=...
func (v dataVolume) ServerVersion(ctx context.Context) (redis.Version, error) {
	out, err := v.Run(ctx, `redis-server --version 2>/dev/null || valkey-server --version`)
	if err != nil {
		return redis.Version{}, err
	}
	for field := range strings.FieldsSeq(out) {
		if number, ok := strings.CutPrefix(field, "v="); ok {
			product, _, _ := strings.Cut(strings.ToLower(out), " ")
			return redis.ParseVersion(product, number)
		}
	}
	return redis.Version{}, fmt.Errorf("the image's server says of its version: %.80q", out)
}

// swapScript puts the entries of the folder $2 in the place of those that are named
// from $4 on, all in $1, and keeps the latter in the folder $3. The file ".complete"
// there says that all of them are: it makes the script fit for being run again.
const swapScript = `set -e
cd "$1"; staged=$2; kept=$3; shift 3
if [ ! -e "$kept/.complete" ]; then
  mkdir -p "$kept"
  for name in "$@"; do
    if [ -e "$name" ]; then mv "$name" "$kept/$name"; fi
  done
  sync
  : > "$kept/.complete"
fi
if [ -e "$staged" ]; then
  for name in "$staged"/*; do
    if [ -e "$name" ]; then mv "$name" .; fi
  done
  rmdir "$staged"
fi
sync`

// undoScript is swapScript's reverse, and removes what was staged when nothing was
// swapped yet. Once what was placed is removed it forgets that the swap was complete,
// so that a second run does not remove what the first one has put back.
const undoScript = `set -e
cd "$1"; staged=$2; kept=$3; shift 3
if [ -e "$kept/.complete" ]; then
  for name in "$@"; do rm -rf "./$name"; done
  sync
  rm "$kept/.complete"
fi
if [ -e "$kept" ]; then
  for name in "$kept"/*; do
    if [ -e "$name" ]; then mv "$name" .; fi
  done
  rmdir "$kept"
fi
rm -rf "$staged"
sync`

// Swap implements volume.Volume.
func (v dataVolume) Swap(ctx context.Context, s volume.Swap) error {
	return v.rearrange(ctx, swapScript, s)
}

// Undo implements volume.Volume.
func (v dataVolume) Undo(ctx context.Context, s volume.Swap) error {
	return v.rearrange(ctx, undoScript, s)
}

func (v dataVolume) rearrange(ctx context.Context, script string, s volume.Swap) error {
	const done = "redisctl-done"
	out, err := v.Run(ctx, script+"\necho "+done, append([]string{s.Dir, s.Staged, s.Kept}, s.Names...)...)
	if err == nil && strings.TrimSpace(out) != done {
		// Over SPDY a cut exec looks like success.
		err = v.failed("working on the volume", errors.New("the connection ended before the end was confirmed"))
	}
	return err
}

// keptScript prints size in KiB and name of the folders in $1 whose names begin with $2.
const keptScript = `cd "$1" || exit 1
for name in "$2"*; do
  if [ -d "$name" ]; then du -sk "$name" || exit 1; fi
done
echo redisctl-done`

// Kept implements volume.Volumes.
func (c *Client) Kept(ctx context.Context, d *operation.Deployment, i operation.Instance, dir, prefix string) ([]volume.Kept, error) {
	out, err := c.inServer(ctx, d, i, keptScript, dir, prefix)
	if err != nil {
		return nil, err
	}
	var all []volume.Kept
	for line := range strings.Lines(out) {
		size, name, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if kib, err := strconv.ParseInt(size, 10, 64); ok && err == nil {
			all = append(all, volume.Kept{Name: name, Size: kib << 10})
		}
	}
	return all, nil
}

// RemoveKept implements volume.Volumes.
func (c *Client) RemoveKept(ctx context.Context, d *operation.Deployment, i operation.Instance, dir, name string) error {
	_, err := c.inServer(ctx, d, i, `cd "$1" && rm -rf "./$2" && echo redisctl-done`, dir, name)
	return err
}

// inServer runs a script in the server's own container. It ends with printing
// redisctl-done: over SPDY a cut exec looks like success.
func (c *Client) inServer(ctx context.Context, d *operation.Deployment, i operation.Instance, script string, arguments ...string) (string, error) {
	out, said := firstBytes{limit: 1 << 20}, firstBytes{limit: messageLimit}
	command := append([]string{"sh", "-c", script, "sh"}, arguments...)
	err := c.Exec(ctx, d.Namespace, i.Name, d.Workload.Container, command, nil, &out, &said)
	var exit *ExitError
	switch {
	case errors.As(err, &exit) && said.Len() > 0:
		err = errors.New(firstLine(said.String()))
	case err == nil && !strings.HasSuffix(out.String(), "redisctl-done\n"):
		err = ErrConnectionLost
	}
	if err != nil {
		var known *operation.Error
		if errors.As(err, &known) {
			return "", err
		}
		return "", &operation.Error{Kind: operation.KindOf(err), Object: "pod " + d.Namespace + "/" + i.Name, Phase: "working on the volume", Err: err}
	}
	return out.String(), nil
}

// Upload implements volume.Volume.
func (v dataVolume) Upload(ctx context.Context, dir, name string, size int64, data io.Reader, stall time.Duration) error {
	return v.Helper.Upload(ctx, path.Join(dir, name), size, data, stall)
}

// freeBytes reads what `df -Pk` prints:
//
//	Filesystem 1024-blocks Used Available Capacity Mounted-on
func freeBytes(printed string) (int64, error) {
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	columns := strings.Fields(lines[len(lines)-1])
	if len(lines) < 2 || len(columns) < 6 {
		return 0, fmt.Errorf("df printed %.80q", printed)
	}
	kib, err := strconv.ParseInt(columns[3], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("df: %w", err)
	}
	return kib << 10, nil
}

package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

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
func (c *Client) OpenVolume(ctx context.Context, d *operation.Deployment, claim, node, beside string) (volume.Volume, error) {
	helper, err := c.StartHelper(ctx, d, HelperSpec{
		Name: d.Workload.Name + "-redisctl-restore", Claim: claim, Node: node, Beside: beside,
	})
	if err != nil {
		return nil, err
	}
	return dataVolume{helper, d.Workload.Volume.MountPath}, nil
}

// dataVolume implements volume.Volume.
type dataVolume struct {
	*Helper
	// mount is where the data volume is mounted.
	mount string
}

// beside returns a folder of the data volume in the claim beside.
func (v dataVolume) beside(dir string) string {
	return path.Join(besidePath, strings.TrimPrefix(dir, path.Clean(v.mount)))
}

// besideScript prints the size in KiB and the name of what there is of the names from $2
// on in the folder $1.
const besideScript = `cd "$1" || exit 1
shift
for name in "$@"; do
  if [ -e "$name" ]; then du -sk "$name" || exit 1; fi
done
echo redisctl-done`

// Beside implements volume.Volume.
func (v dataVolume) Beside(ctx context.Context, dir string, names []string) (map[string]int64, error) {
	out, err := v.confirmed(ctx, besideScript, append([]string{v.beside(dir)}, names...)...)
	if err != nil {
		return nil, err
	}
	return diskUsage(out), nil
}

// diskUsage reads what du -sk prints, and returns bytes by name.
func diskUsage(printed string) map[string]int64 {
	sizes := make(map[string]int64)
	for line := range strings.Lines(printed) {
		size, name, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if kib, err := strconv.ParseInt(size, 10, 64); ok && err == nil {
			sizes[name] = kib << 10
		}
	}
	return sizes
}

// copyScript copies $2 in the folder $1 to $4 below the folder $3, and compares the
// digests of all files.
const copyScript = `set -e
cd "$1"
target="$3/$4"
mkdir -p "$(dirname "$target")"
rm -rf "$target.part"
cp -R "$2" "$target.part"
sum() { if [ -d "$1" ]; then (cd "$1" && find . -type f -exec sha256sum {} + | sort); else sha256sum < "$1"; fi; }
[ "$(sum "$2")" = "$(sum "$target.part")" ] || { echo "the copy of $2 differs from the original" >&2; exit 1; }
sync
mv "$target.part" "$target"
echo redisctl-done`

// CopyBeside implements volume.Volume.
func (v dataVolume) CopyBeside(ctx context.Context, dir, from, to, name string) error {
	_, err := v.confirmed(ctx, copyScript, v.beside(dir), from, to, name)
	return err
}

// confirmed runs a script that prints redisctl-done at its end: over SPDY a cut exec
// looks like success.
func (v dataVolume) confirmed(ctx context.Context, script string, arguments ...string) (string, error) {
	out, err := v.Run(ctx, script, arguments...)
	printed, ended := strings.CutSuffix(out, "redisctl-done\n")
	if err == nil && !ended {
		err = v.failed("working on the volume", errors.New("the connection ended before the end was confirmed"))
	}
	return printed, err
}

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

// ClaimFromSnapshot implements volume.Volumes.
func (c *Client) ClaimFromSnapshot(parent context.Context, d *operation.Deployment, name, snapshot, like string) error {
	if err := c.DeleteClaim(parent, d, name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(parent, helperStart)
	defer cancel()
	claims := c.clientset.CoreV1().PersistentVolumeClaims(d.Namespace)
	model, err := claims.Get(ctx, like, metav1.GetOptions{})
	if err != nil {
		return c.failure(parent, request{verb: "get", resource: "persistentvolumeclaims", namespace: d.Namespace, name: like}, err)
	}
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: d.Namespace,
			Labels: map[string]string{nameLabel: helperApp, managerLabel: fieldManager, workloadLabel: d.Workload.Name},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: model.Spec.StorageClassName,
			Resources: model.Spec.Resources, VolumeMode: model.Spec.VolumeMode,
			DataSource: &corev1.TypedLocalObjectReference{APIGroup: ptr.To(snapshotGroup), Kind: "VolumeSnapshot", Name: snapshot},
		},
	}
	for { // the old one goes away when its pod has
		_, err = claims.Create(ctx, claim, metav1.CreateOptions{FieldManager: fieldManager})
		if !apierrors.IsAlreadyExists(err) || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(helperInterval):
		}
	}
	if err != nil {
		return c.failure(parent, request{verb: "create", resource: "persistentvolumeclaims", namespace: d.Namespace}, err)
	}
	return nil
}

// DeleteClaim implements volume.Volumes.
func (c *Client) DeleteClaim(parent context.Context, d *operation.Deployment, name string) error {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	err := c.clientset.CoreV1().PersistentVolumeClaims(d.Namespace).Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return c.failure(parent, request{verb: "delete", resource: "persistentvolumeclaims", namespace: d.Namespace, name: name}, err)
	}
	return nil
}

// ServerVersion implements volume.Volume: it asks the release's image.
func (v dataVolume) ServerVersion(ctx context.Context) (redis.Version, error) {
	out, err := v.Run(ctx, `redis-server --version 2>/dev/null || valkey-server --version`)
	if err != nil {
		return redis.Version{}, err
	}
	return redis.ParseProgramVersion(out)
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
	_, err := v.confirmed(ctx, script+"\necho redisctl-done", append([]string{s.Dir, s.Staged, s.Kept}, s.Names...)...)
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
	sizes := diskUsage(out)
	all := make([]volume.Kept, 0, len(sizes))
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		all = append(all, volume.Kept{Name: name, Size: sizes[name]})
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

// freeBytes reads what `df -Pk` prints, see fileSystem.
func freeBytes(printed string) (int64, error) {
	_, free, err := fileSystem(printed)
	return free, err
}

// fileSystem returns the size of a file system and what is free of it, in bytes, as
// `df -Pk` prints them:
//
//	Filesystem 1024-blocks Used Available Capacity Mounted-on
func fileSystem(printed string) (size, free int64, err error) {
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	columns := strings.Fields(lines[len(lines)-1])
	if len(lines) < 2 || len(columns) < 6 {
		return 0, 0, fmt.Errorf("df printed %.80q", printed)
	}
	blocks, err := strconv.ParseInt(columns[1], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("df: %w", err)
	}
	available, err := strconv.ParseInt(columns[3], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("df: %w", err)
	}
	return blocks << 10, available << 10, nil
}

// Command demo shows redisctl's main job on a real cluster: it installs a release
// with Helm, fills it, and runs the commands that an operator would, printing each
// with its output. It fails when a command does not end as it should.
//
// It uses the local cluster that `make cluster-up` starts. Another cluster is used
// only when REDISCTL_E2E_CONTEXT names a context of the current kubeconfig.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

const (
	namespace = "redisctl-demo"
	release   = "cache"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	d, err := newDemo()
	if err != nil {
		return err
	}
	defer d.cleanUp(context.WithoutCancel(ctx))
	for _, step := range []func(context.Context) error{d.install, d.fill, d.observe, d.backup, d.restore, d.damage, d.failover, d.restart} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.say("That is all: the backup is proven, its data came back, damage does not go unnoticed, and the primary is where it is meant to be.")
	return nil
}

// demo runs commands against one cluster.
type demo struct {
	out      io.Writer
	redisctl string
	context  []string // flags that choose the cluster, for redisctl and kubectl
	helm     []string // the same for helm
	env      []string
	folder   string // backups
}

func newDemo() (*demo, error) {
	redisctl, err := filepath.Abs("bin/redisctl")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(redisctl); err != nil {
		return nil, fmt.Errorf("%w; run it as make demo", err)
	}
	folder, err := os.MkdirTemp("", "redisctl-demo-")
	if err != nil {
		return nil, err
	}
	cluster := filepath.Join(os.Getenv("REDISCTL_CACHE"), "cluster")
	d := &demo{out: os.Stdout, redisctl: redisctl, folder: folder}
	d.env = append(os.Environ(), "PATH="+filepath.Join(cluster, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	if name := os.Getenv("REDISCTL_E2E_CONTEXT"); name != "" {
		d.context = []string{"--context", name}
		d.helm = []string{"--kube-context", name}
	} else {
		d.env = append(d.env, "KUBECONFIG="+filepath.Join(cluster, "kubeconfig"))
	}
	// exec.LookPath must see the cluster's own helm and kubectl.
	return d, os.Setenv("PATH", filepath.Join(cluster, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// cleanUp removes what the demo made; it goes on when a part fails.
func (d *demo) cleanUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, args := range [][]string{
		append([]string{"helm", "uninstall", release, "-n", namespace}, d.helm...),
		append([]string{"kubectl", "delete", "namespace", namespace, "--wait=false"}, d.context...),
	} {
		if err := d.command(ctx, io.Discard, args...).Run(); err != nil {
			fmt.Fprintf(os.Stderr, "demo: cleaning up: %s: %v\n", strings.Join(args, " "), err)
		}
	}
	if err := os.RemoveAll(d.folder); err != nil {
		fmt.Fprintln(os.Stderr, "demo: cleaning up:", err)
	}
}

func (d *demo) say(text string) { fmt.Fprintf(d.out, "\n# %s\n", text) }

func (d *demo) command(ctx context.Context, out io.Writer, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = d.env, out, os.Stderr
	return cmd
}

// ctl runs redisctl and shows the command with its output. It fails unless the
// exit code is want.
func (d *demo) ctl(ctx context.Context, want int, args ...string) error {
	fmt.Fprintf(d.out, "\n$ redisctl %s\n", strings.Join(args, " "))
	err := d.command(ctx, d.out, append(append([]string{d.redisctl}, d.context...), args...)...).Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	code := 0
	if exit != nil {
		code = exit.ExitCode()
	}
	if want != 0 {
		fmt.Fprintf(d.out, "(exit code %d)\n", code)
	}
	if code != want {
		return fmt.Errorf("redisctl %s: exit code %d, want %d", strings.Join(args, " "), code, want)
	}
	return nil
}

func (d *demo) install(ctx context.Context) error {
	d.say("A release: one primary, two replicas, a password")
	args := append([]string{
		"helm", "upgrade", "--install", release, "testdata/charts/redis", "-n", namespace, "--create-namespace",
		"-f", "testdata/values/quick.yaml", "-f", "testdata/values/replica-password.yaml", "--wait", "--timeout", "3m",
	}, d.helm...)
	fmt.Fprintf(d.out, "\n$ %s\n", strings.Join(args, " "))
	return d.command(ctx, io.Discard, args...).Run()
}

// fill writes through redis-cli in the pod: the demo is about operating a release,
// and applications bring their own clients.
func (d *demo) fill(ctx context.Context) error {
	d.say("Some data")
	const script = `export REDISCLI_AUTH="$REDIS_PASSWORD"
i=0; while [ $i -lt 20000 ]; do
  echo "SET session:$i '{\"user\":$i,\"theme\":\"dark\",\"cart\":[$i,$i,$i]}' EX 86400"
  echo "HSET user:$i name user$i visits $i"
  echo "ZADD ranking $i user:$i"
  i=$((i+1)); done | redis-cli >/dev/null
redis-cli DBSIZE`
	args := append([]string{"kubectl", "exec", "-n", namespace, release + "-redis-0", "-c", "redis"}, d.context...)
	return d.command(ctx, d.out, append(args, "--", "sh", "-c", script)...).Run()
}

func (d *demo) observe(ctx context.Context) error {
	d.say("Who is there, who follows whom, and is it healthy?")
	return errors.Join(
		d.ctl(ctx, 0, "health", "-n", namespace),
		d.ctl(ctx, 0, "replication", "info", "-n", namespace),
		d.ctl(ctx, 0, "info", "keyspace", "-n", namespace),
	)
}

func (d *demo) backup(ctx context.Context) error {
	d.say("A backup, verified while it streams from a replica")
	return errors.Join(
		d.ctl(ctx, 0, "backup", "rdb", "-n", namespace, "--backup-dir", d.folder),
		d.ctl(ctx, 0, "backup", "list", "--backup-dir", d.folder),
		d.ctl(ctx, 0, "backup", "verify", "latest", "--backup-dir", d.folder),
	)
}

// restore has an accident happen, and undoes it.
func (d *demo) restore(ctx context.Context) error {
	d.say("Somebody runs FLUSHALL. The data comes back, and is compared with the backup")
	args := append([]string{"kubectl", "exec", "-n", namespace, release + "-redis-0", "-c", "redis"}, d.context...)
	const flush = `REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli FLUSHALL`
	if err := d.command(ctx, d.out, append(args, "--", "sh", "-c", flush)...).Run(); err != nil {
		return err
	}
	restore := []string{"restore", "rdb", "latest", "-n", namespace, "--backup-dir", d.folder}
	return errors.Join(
		d.ctl(ctx, 0, append(restore, "--dry-run")...),
		d.ctl(ctx, 0, append(restore, "--yes", "--verify", "full")...),
		d.ctl(ctx, 0, "replication", "info", "-n", namespace),
	)
}

// damage flips one bit and expects that it is found.
func (d *demo) damage(ctx context.Context) error {
	d.say("One bit flips on the disk")
	files, err := filepath.Glob(filepath.Join(d.folder, namespace, release, "*.rdb"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("want one backup, found %q (%w)", files, err)
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	one := make([]byte, 1)
	middle := info.Size() / 2
	if _, err := f.ReadAt(one, middle); err != nil {
		return errors.Join(err, f.Close())
	}
	one[0] ^= 1 << 3
	_, err = f.WriteAt(one, middle)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\n(bit 3 of byte %d of %d)\n", middle, info.Size())
	return d.ctl(ctx, 4, "backup", "verify", "latest", "--backup-dir", d.folder)
}

func (d *demo) failover(ctx context.Context) error {
	d.say("The primary's role moves, and no acknowledged write is lost")
	return errors.Join(
		d.ctl(ctx, 0, "failover", "promote", release+"-redis-1", "-n", namespace, "--yes"),
		d.ctl(ctx, 0, "failover", "status", "-n", namespace),
	)
}

// restart shows what the chart makes of a promotion when a pod restarts.
func (d *demo) restart(ctx context.Context) error {
	d.say("The promoted pod restarts: the chart makes it a replica of the first one, which follows it")
	pod := release + "-redis-1"
	for _, args := range [][]string{
		{"kubectl", "delete", "pod", pod, "-n", namespace},
		{"kubectl", "wait", "--for=create", "pod/" + pod, "-n", namespace, "--timeout=2m"},
		{"kubectl", "wait", "--for=condition=Ready", "pod/" + pod, "-n", namespace, "--timeout=2m"},
	} {
		fmt.Fprintf(d.out, "\n$ %s\n", strings.Join(args, " "))
		if err := d.command(ctx, io.Discard, append(args, d.context...)...).Run(); err != nil {
			return err
		}
	}
	return errors.Join(
		d.ctl(ctx, 10, "failover", "status", "-n", namespace),
		d.ctl(ctx, 0, "replication", "heal", "-n", namespace, "--yes"),
		d.ctl(ctx, 0, "health", "-n", namespace),
	)
}

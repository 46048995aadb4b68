package bench_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// BenchmarkBackupThroughPortForward is a backup of a pod, whose data comes through the
// API server, against bare SYNC: to the pod's address, and through kubectl port-forward.
func BenchmarkBackupThroughPortForward(b *testing.B) {
	c, err := openCluster(b.Context())
	if err != nil {
		world.report.add(b, row{what: "not run: run `make cluster-up` first"})
		b.Skip(err)
	}
	pod := c.install(b, smallBackup)
	dir := b.TempDir()
	command := []string{
		world.redisctl, "backup", "rdb", "--kubeconfig", c.kubeconfig, "--namespace", c.namespace, "--backup-dir", "backups",
	}
	executeIn(b, dir, command...)
	name := fmt.Sprintf("Redis in a pod, %d MB: ", storedSize(b, dir)/megabyte)
	ours := func() measurement {
		pod.awaitIdle(b)
		return execute(b, command...)
	}
	for _, peer := range []struct {
		name, addr string
		limit      float64
	}{
		{"bare SYNC to the pod's address", pod.addr, forwardLimit},
		{"bare SYNC through kubectl port-forward", c.forward(b), 0},
	} {
		b.Run(peer.name, func(b *testing.B) {
			a, t := compete(b, ours, func() measurement {
				pod.awaitIdle(b)
				return bareSync(b, peer.addr, true)
			})
			world.report.slower(b, name+peer.name, a, t, peer.limit)
		})
	}
}

// cluster is the local one, used by nothing but its own programs.
type cluster struct {
	bin, kubeconfig, namespace string
}

// openCluster finds the cluster of `make cluster-up`, and no other.
func openCluster(ctx context.Context) (*cluster, error) {
	cache := os.Getenv("REDISCTL_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		cache = filepath.Join(dir, "redisctl")
	}
	dir := filepath.Join(cache, "cluster")
	c := &cluster{
		bin: filepath.Join(dir, "bin"), kubeconfig: filepath.Join(dir, "kubeconfig"),
		namespace: fmt.Sprintf("redisctl-bench-%d", os.Getpid()),
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := c.kubectl(ctx, "get", "nodes")
	return c, err
}

// command returns a command of a program that comes with the cluster.
func (c *cluster) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, program), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + world.scratch, "KUBECONFIG=" + c.kubeconfig}
	return cmd
}

func (c *cluster) kubectl(ctx context.Context, args ...string) (string, error) {
	out, err := c.command(ctx, "kubectl", args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out)), err
}

// pod is the server of a release.
type pod struct {
	addr   string
	client *goredis.Client
}

const (
	release = "bench-redis" // and its StatefulSet
	podName = release + "-0"
)

// install installs a release of one server whose snapshot has about size bytes. The
// server gets its data by following one outside of the cluster.
func (c *cluster) install(b *testing.B, size int64) *pod {
	b.Helper()
	run := func(args ...string) string {
		out, err := c.kubectl(b.Context(), args...)
		require.NoError(b, err)
		return out
	}
	run("create", "namespace", c.namespace)
	b.Cleanup(func() {
		_, err := c.kubectl(context.WithoutCancel(b.Context()), "delete", "namespace", c.namespace)
		require.NoError(b, err)
	})
	testdata := filepath.Join("..", "..", "testdata")
	config := "protected-mode no\nsave \"\"\ndir /data\nrepl-diskless-sync yes\nrepl-diskless-sync-delay 0\n"
	out, err := c.command(b.Context(), "helm", "install", release, filepath.Join(testdata, "charts", "redis"),
		"--namespace", c.namespace, "--values", filepath.Join(testdata, "values", "quick.yaml"),
		"--set", "redis.config="+config, "--set", "persistence.enabled=false", "--wait").CombinedOutput()
	require.NoError(b, err, "%s", out)

	node := run("get", "nodes", "-o", `jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}`)
	primary := start(b, redisserver.Redis70, size, "bind * -::*", "protected-mode no")
	p := &pod{addr: net.JoinHostPort(run("get", "pod", podName, "-n", c.namespace, "-o", "jsonpath={.status.podIP}"), "6379")}
	p.client = goredis.NewClient(&goredis.Options{Addr: p.addr, Protocol: 2, DisableIdentity: true})
	b.Cleanup(func() { _ = p.client.Close() })
	require.NoError(b, p.client.ReplicaOf(b.Context(), node, strconv.Itoa(primary.Port)).Err())
	p.await(b, "replication", "master_link_status:up")
	require.NoError(b, p.client.ReplicaOf(b.Context(), "NO", "ONE").Err())
	return p
}

// await waits until a section of INFO has a line.
func (p *pod) await(b *testing.B, section, line string) {
	b.Helper()
	require.Eventually(b, func() bool {
		info, err := p.client.Info(b.Context(), section).Result()
		return err == nil && strings.Contains(info, line)
	}, time.Minute, 5*time.Millisecond, "waiting for %s", line)
}

func (p *pod) awaitIdle(b *testing.B) { p.await(b, "persistence", "rdb_bgsave_in_progress:0") }

// forward runs kubectl port-forward until the benchmark ends, and returns where it
// listens.
func (c *cluster) forward(b *testing.B) string {
	b.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	cmd := c.command(ctx, "kubectl", "port-forward", "-n", c.namespace, "pod/"+podName, ":6379")
	stdout, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(b, err)
	var port int
	_, err = fmt.Sscanf(line, "Forwarding from 127.0.0.1:%d ->", &port)
	require.NoError(b, err, line)
	return fmt.Sprintf("127.0.0.1:%d", port)
}

package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/redisctl/redisctl/internal/testkit/faultproxy"
)

// A backup that is interrupted, at whatever point and in whatever way, leaves nothing
// that could be taken for a backup.
func TestInterruptedBackup(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	r := e.install(t, e.namespace(t, "interrupt"), chart{
		files: []string{"replica-password.yaml"}, replicas: 1, password: randomPassword(),
		config: quickSync,
	})
	client := r.redis(t, 0)
	const count, size = 20_000, 1024
	fillFlat(t, client, count, size)
	require.NoError(t, client.Do(t.Context(), "WAIT", 1, 30_000).Err())
	r.configure(t, "save", "", 1) // the server saves when it is told to, only

	// A server that takes half a minute for its data set: every interruption comes
	// in the middle.
	slowly := func(t *testing.T) *session {
		t.Helper()
		r.slowSaves(t, 30*time.Second/count, 1)
		r.endSave(t, 1) // only the save that is interrupted is to run
		return r.session(t, "--pod", r.podName(1))
	}
	// None of the interruptions disturbs the next backup.
	normal := func(t *testing.T, s *session) {
		t.Helper()
		r.slowSaves(t, 0, 1)
		r.endSave(t, 1)
		m := backup(&session{t: t, program: s.program, dir: s.dir, env: s.env, flags: s.flags, secrets: s.secrets}, "--transfer", "disk")
		assert.Equal(t, int64(count), m.Files[0].RDB.Keys)
		list := decode[backupList](s.run("backup", "list", "-o", "json").exits(0))
		require.Len(t, list.Items, 1)
		assert.Empty(t, list.Items[0].Problem)
	}

	t.Run("Ctrl-C while streaming", func(t *testing.T) {
		s := slowly(t)
		c := s.start("backup", "rdb")
		c.while("data arrives", func(context.Context) error { return arriving(t, s, 100*size) })
		c.signal(os.Interrupt)
		c.wait().exits(130).says("interrupted", "no backup was stored").within(20 * time.Second)
		assert.Empty(t, files(t, s.dir), "not even a temporary file is left")
		normal(t, s)
	})
	t.Run("SIGTERM while the server prepares", func(t *testing.T) {
		s := slowly(t)
		c := s.start("backup", "rdb", "--transfer", "disk")
		c.while("the server saves", func(ctx context.Context) error { return saving(ctx, r.redis(t, 1)) })
		c.signal(terminate)
		c.wait().exits(130).within(20 * time.Second)
		assert.Empty(t, files(t, s.dir))
		normal(t, s)
	})
	t.Run("Ctrl-C during BGSAVE", func(t *testing.T) {
		s := slowly(t)
		c := s.start("backup", "rdb", "--method", "bgsave")
		c.while("the server saves", func(ctx context.Context) error { return saving(ctx, r.redis(t, 1)) })
		c.signal(os.Interrupt)
		c.wait().exits(130).within(20 * time.Second)
		assert.Empty(t, files(t, s.dir))
		assert.Empty(t, r.lockHolder(t), "the lock is given back")
		normal(t, s)
	})
	t.Run("kill -9 while streaming", func(t *testing.T) {
		s := slowly(t)
		c := s.start("backup", "rdb")
		c.while("data arrives", func(context.Context) error { return arriving(t, s, 100*size) })
		c.signal(os.Kill)
		c.wait().exits(-1)
		for _, name := range files(t, s.dir) {
			assert.Regexp(t, `\.redisctl-partial$`, name, "nothing has a final name")
		}
		assert.Empty(t, decode[backupList](s.run("backup", "list", "-o", "json").exits(0)).Items)
		s.run("backup", "show", "latest").exits(2)
		// What it left is of no concern to the next one.
		r.slowSaves(t, 0, 1)
		s.run("backup", "rdb", "--transfer", "disk").exits(0)
		assert.Len(t, decode[backupList](s.run("backup", "list", "-o", "json").exits(0)).Items, 1)
	})
	t.Run("the source hangs", func(t *testing.T) {
		s := slowly(t)
		c := s.start("backup", "rdb", "--stall-timeout", "3s")
		c.while("data arrives", func(context.Context) error { return arriving(t, s, 100*size) })
		wake := r.hang(t, 1)
		c.wait().exits(7).says("no byte for 3s").within(60 * time.Second)
		assert.Empty(t, files(t, s.dir))
		wake()
		normal(t, s)
	})
	t.Run("the source is busy and no stall", func(t *testing.T) {
		// The disk-based form sends nothing but newlines until the file is complete.
		s := r.session(t, "--pod", r.podName(1))
		r.slowSaves(t, 8*time.Second/count, 1)
		m := decode[manifest](s.run("backup", "rdb", "--transfer", "disk", "--stall-timeout", "3s", "-o", "json").exits(0))
		assert.Greater(t, m.Durations.WaitSeconds, 3.0, "the server must have been busy for longer than the stall time-out")
		s = r.session(t, "--pod", r.podName(1))
		normal(t, s)
	})
	t.Run("the connection is cut", func(t *testing.T) {
		r.slowSaves(t, 0, 1)
		testCut(t, r, count*size)
	})
	t.Run("kill -9 during BGSAVE", func(t *testing.T) {
		s := slowly(t)
		c := s.start("backup", "rdb", "--method", "bgsave")
		c.while("the server saves", func(ctx context.Context) error { return saving(ctx, r.redis(t, 1)) })
		c.signal(os.Kill)
		c.wait().exits(-1)
		assert.Empty(t, files(t, s.dir))
		// The lock outlives its holder for a while, and says whose it was.
		s.run("backup", "rdb", "--method", "bgsave").exits(6).says(fmt.Sprintf("/%d since", c.cmd.Process.Pid))
		normal(t, s) // by streaming, which needs no lock
	})
	t.Run("the source is deleted", func(t *testing.T) {
		s := slowly(t)
		c := s.start("backup", "rdb")
		c.while("data arrives", func(context.Context) error { return arriving(t, s, 100*size) })
		r.deletePod(t, 1)
		failed := c.wait()
		assert.Contains(t, []int{1, 7}, failed.code, "%s", failed)
		failed.says(r.podName(1), "no backup was stored")
		assert.Empty(t, files(t, s.dir))
		r.awaitReady(t)
		normal(t, s)
	})
}

// testCut cuts the connection to the API server early in the data, in its middle and
// close to its end, or makes it fall silent; over WebSocket, and over SPDY, which is
// what is left to who may only create, not get, what is forwarded. size is that of the
// data in bytes.
func testCut(t *testing.T, r *release, size int64) {
	server, err := url.Parse(r.env.config.Host)
	require.NoError(t, err)
	spdy := slices.Concat(without("pods/portforward", "pods/exec"), []permission{"create pods/portforward", "create pods/exec"})
	for transport, kubeconfig := range map[string]string{
		"WebSocket": r.env.kubeconfig, "SPDY": r.env.operator(t, r.namespace, spdy),
	} {
		proxy := faultproxy.Start(t, server.Host, faultproxy.Options{})
		kubeconfig = changed(t, kubeconfig, func(config *clientcmdapi.Config) {
			for _, cluster := range config.Clusters {
				cluster.Server = "https://" + proxy.Addr
				cluster.TLSServerName = server.Hostname()
			}
		})
		for form, method := range map[string][]string{
			"eof": nil, "length": {"--transfer", "disk"}, "file": {"--method", "bgsave"},
		} {
			t.Run(transport+" "+form, func(t *testing.T) {
				audit := r.env.auditSince(t)
				s := r.session(t, "--pod", r.podName(1)).with("KUBECONFIG", kubeconfig)
				testCutForm(t, r, s, proxy, size, append(method, "--stall-timeout", "3s"))
				if transport == "SPDY" {
					assert.NotEmpty(t, audit(`"verb":"create"`, r.namespace+"/pods/"+r.podName(1)+"/portforward", `"code":101`),
						"the API server must have seen SPDY, which uses POST")
				}
			})
			proxy.Set(faultproxy.Options{})
		}
	}
}

func testCutForm(t *testing.T, r *release, s *session, proxy *faultproxy.Proxy, size int64, method []string) {
	t.Helper()
	fired := proxy.Faults()
	backup(s, method...)
	whole := files(t, s.dir)
	tried := 0
	for action, positions := range map[faultproxy.Action][]int64{
		// Only the connection that carries the data carries that much.
		faultproxy.FIN: {size / 10, size / 2, size}, faultproxy.RST: {size / 10, size / 2, size}, faultproxy.Stall: {size / 2},
	} {
		for _, after := range positions {
			proxy.Set(faultproxy.Options{ToClient: faultproxy.Faults{Action: action, After: after}})
			failed := s.run(append([]string{"backup", "rdb"}, method...)...).says("no backup was stored", r.podName(1)).within(60 * time.Second)
			if action == faultproxy.Stall {
				failed.exits(7).says("for 3s")
			} else {
				failed.exits(1)
			}
			now := slices.DeleteFunc(files(t, s.dir), func(name string) bool {
				// What has arrived of a file is kept for --resume.
				return slices.Contains(method, "bgsave") && strings.HasSuffix(name, ".redisctl-partial")
			})
			assert.Equal(t, whole, now, "only the first one is there")
			tried++
		}
	}
	require.EqualValues(t, tried, proxy.Faults()-fired, "each cut was made")
}

// fillFlat writes keys of one size.
func fillFlat(t *testing.T, client *goredis.Client, count, size int) {
	t.Helper()
	const batch = 1000
	value := make([]byte, size) // that does not compress
	for i := range value {
		value[i] = byte(rand.Uint32())
	}
	for first := 0; first < count; first += batch {
		_, err := client.Pipelined(t.Context(), func(p goredis.Pipeliner) error {
			for i := first; i < first+batch; i++ {
				p.Set(t.Context(), fmt.Sprintf("flat:%d", i), value, 0)
			}
			return nil
		})
		require.NoError(t, err)
	}
}

// arriving is nil once that many bytes of a backup have been stored.
func arriving(t *testing.T, s *session, size int64) error {
	t.Helper()
	var stored int64
	for _, name := range files(t, s.dir) {
		info, err := os.Stat(filepath.Join(s.dir, name))
		if err != nil {
			return err
		}
		stored += info.Size()
	}
	if stored < size {
		return fmt.Errorf("%d bytes have arrived", stored)
	}
	return nil
}

// lockHolder returns who holds the release's lock.
func (r *release) lockHolder(t *testing.T) string {
	t.Helper()
	lease, err := r.env.CoordinationV1().Leases(r.namespace).Get(t.Context(), "redisctl-"+r.workload, metav1.GetOptions{})
	require.NoError(t, err)
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

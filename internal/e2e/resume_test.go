package e2e_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/redisctl/redisctl/internal/testkit/faultproxy"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// A copy of a file that was interrupted goes on where it ended, however it was
// interrupted, and gives the same backup as one that was not. Settings that were changed
// meanwhile are set back.
func TestInterruptedFileCopyGoesOn(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "resume"), chart{
		files: []string{"replica-password.yaml"}, replicas: 1, password: randomPassword(),
		config: append([]string{"appendonly yes"}, quickSync...),
	})
	client := r.redis(t, 0)
	const count, size = 20_000, 1024
	fillFlat(t, client, count, size)
	require.NoError(t, client.Do(t.Context(), "WAIT", 1, 30_000).Err())
	server, err := url.Parse(e.config.Host)
	require.NoError(t, err)
	proxy := faultproxy.Start(t, server.Host, faultproxy.Options{})
	proxied := changed(t, e.kubeconfig, func(config *clientcmdapi.Config) {
		for _, cluster := range config.Clusters {
			cluster.Server, cluster.TLSServerName = "https://"+proxy.Addr, server.Hostname()
		}
	})
	setting := func() string {
		value, err := r.redis(t, 1).ConfigGet(t.Context(), "aof-disable-auto-gc").Result()
		require.NoError(t, err)
		return value["aof-disable-auto-gc"]
	}
	lastSave := func() int64 { return r.redis(t, 1).LastSave(t.Context()).Val() }

	interruptions := map[string]func(t *testing.T, through *session, args ...string){
		"Ctrl-C": func(t *testing.T, through *session, args ...string) {
			proxy.Set(faultproxy.Options{ToClient: faultproxy.Faults{Rate: 4 << 20}})
			c := through.start(args...)
			c.while("data arrives", func(context.Context) error { return arriving(t, through, size*count/4) })
			c.signal(os.Interrupt)
			c.wait().exits(130).says("are kept for a day", "no backup was stored").within(20 * time.Second)
			assert.Equal(t, "no", setting(), "it is set back at once")
			r.assertSettings(t, "")
		},
		"kill -9": func(t *testing.T, through *session, args ...string) {
			proxy.Set(faultproxy.Options{ToClient: faultproxy.Faults{Rate: 4 << 20}})
			c := through.start(args...)
			c.while("data arrives", func(context.Context) error { return arriving(t, through, size*count/4) })
			c.signal(os.Kill)
			c.wait().exits(-1)
			if args[1] == "aof" {
				assert.Equal(t, "yes", setting(), "nobody was left to set it back")
				r.assertSettings(t, "aof-disable-auto-gc")
				r.session(t).run("health").shows("setting-changed", "redisctl backup aof -n "+r.namespace)
			}
		},
		"cut": func(t *testing.T, through *session, args ...string) {
			proxy.Set(faultproxy.Options{ToClient: faultproxy.Faults{Action: faultproxy.FIN, After: size * count / 2}})
			through.run(args...).exits(1).says("are kept for a day", "no backup was stored")
			assert.Equal(t, "no", setting())
		},
	}
	for how, interrupt := range interruptions {
		for what, resume := range map[string][]string{
			"aof": {"backup", "aof"}, "bgsave": {"backup", "rdb", "--method", "bgsave", "--resume"},
		} {
			t.Run(what+" "+how, func(t *testing.T) {
				s := r.session(t, "--pod", r.podName(1))
				through := s.with("KUBECONFIG", proxied)
				interrupt(t, through, strings.Split(strings.TrimSuffix(strings.Join(resume, " "), " --resume"), " ")...)
				saved := lastSave()
				left := files(t, s.dir)
				require.NotEmpty(t, left)
				for _, name := range left {
					assert.Regexp(t, `\.redisctl-partial$`, name, "nothing has a final name")
				}
				assert.Empty(t, decode[backupList](s.run("backup", "list", "-o", "json").exits(0)).Items)

				var again *result
				eventually(t, "the lock of the killed process to expire", func(context.Context) error {
					if again = s.run(resume...); again.code == 6 {
						return fmt.Errorf("%s", again)
					}
					return nil
				})
				again.exits(0).says("going on with the copy of")
				assert.Equal(t, saved, lastSave(), "it was not saved anew")
				assert.Equal(t, "no", setting())
				r.assertSettings(t, "")
				for _, name := range files(t, s.dir) {
					assert.NotRegexp(t, `\.redisctl-partial$`, name)
				}
				s.run("backup", "verify", "latest").exits(0)
				m := decode[setManifest](s.run("backup", "show", "latest", "-o", "json").exits(0))
				if what == "aof" {
					dir := t.TempDir()
					m.File = stored(t, s, ".manifest.json")
					m.lay(t, s, dir)
					loaded := redisserver.Start(t, redisserver.Options{
						Version: redisserver.Redis70, Dir: dir, Config: []string{"appendonly yes", "aof-load-truncated no"},
					})
					require.NoError(t, redisserver.Compare(t.Context(), client, loaded.Client()))
				}
			})
		}
	}
}

// assertSettings checks which setting is noted as changed; "" for none.
func (r *release) assertSettings(t *testing.T, want string) {
	t.Helper()
	set, err := r.statefulSet(t.Context())
	require.NoError(t, err)
	note := set.Annotations["redisctl.dev/backup-settings"]
	if want == "" {
		assert.Empty(t, note)
	} else {
		assert.Contains(t, note, want)
	}
}

// stored returns the stored file with the suffix, below the session's folder.
func stored(t *testing.T, s *session, suffix string) string {
	t.Helper()
	for _, name := range files(t, s.dir) {
		if strings.HasSuffix(name, suffix) {
			return name
		}
	}
	require.Failf(t, "no such file", "%s in %s", suffix, files(t, s.dir))
	return ""
}

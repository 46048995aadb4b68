package cli

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// Object storage that takes its time: a terminal says what is being waited for, and the
// line is gone when the answer is there. A file is told nothing of it.
func TestSlowObjectStorageIsNamed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(1500 * time.Millisecond):
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(server.Close)
	environment := map[string]string{
		"HOME": t.TempDir(), "XDG_CONFIG_HOME": t.TempDir(), "REDISCTL_S3_ENDPOINT": server.URL, "TERM": "xterm",
		"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
	}
	for name, value := range environment {
		t.Setenv(name, value) // the storage library looks there itself
	}
	for _, terminal := range []bool{true, false} {
		var out, err bytes.Buffer
		system := System{
			Program: "redisctl", Out: &out, Err: &err, ErrTerminal: terminal, ErrWidth: 60, Now: time.Now,
			LookupEnv: func(name string) (string, bool) { value, ok := environment[name]; return value, ok },
		}
		code := Run(t.Context(), system, []string{"backup", "list", "--from", "s3://bucket/prefix"})
		assert.Equal(t, 8, code, "%s", &err)
		if terminal {
			assert.Contains(t, err.String(), "… reading the list of backups in s3://bucket/prefix")
			assert.Contains(t, err.String(), "\r\x1b[Kerror: ", "the line makes room")
		} else {
			assert.NotContains(t, err.String(), "reading the list")
		}
	}
}

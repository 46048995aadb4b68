package redisconn_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

func TestAddressesResolve(t *testing.T) {
	credentials := operation.CredentialSource{Kind: "env"}
	a := redisconn.Addresses{Credentials: credentials}
	target := operation.Target{Addresses: []string{"Redis.example", "10.0.0.1:7000", "::1", "[fe80::1]:6380", "[::2]"}}
	instance := func(name, host string, port int) operation.Instance {
		return operation.Instance{Name: name, Ordinal: -1, Host: host, Port: port}
	}
	want := operation.Deployment{
		Name: "redis.example:6379", Credentials: credentials,
		Instances: []operation.Instance{
			instance("redis.example:6379", "redis.example", 6379),
			instance("10.0.0.1:7000", "10.0.0.1", 7000),
			instance("[::1]:6379", "::1", 6379),
			instance("[fe80::1]:6380", "fe80::1", 6380),
			instance("[::2]:6379", "::2", 6379),
		},
	}
	got, err := a.Resolve(t.Context(), target)
	require.NoError(t, err)
	assert.Equal(t, want, *got)
	list, err := a.List(t.Context(), target)
	require.NoError(t, err)
	assert.Equal(t, []operation.Deployment{want}, list)
}

func TestAddressesRejects(t *testing.T) {
	for name, test := range map[string]struct {
		addresses []string
		want      string
	}{
		"none":              {nil, "no address given"},
		"empty":             {[]string{""}, "host is missing"},
		"no host":           {[]string{":6379"}, "host is missing"},
		"no port":           {[]string{"host:"}, "is not a port"},
		"port 0":            {[]string{"host:0"}, "is not a port"},
		"port too large":    {[]string{"host:65536"}, "is not a port"},
		"port in words":     {[]string{"host:redis"}, "is not a port"},
		"too many colons":   {[]string{"host:1:2"}, "want host:port"},
		"a path":            {[]string{"host/x"}, "malformed"},
		"a URL":             {[]string{"redis://:s3cret@host:6379"}, "not a URL"},
		"user info":         {[]string{"me:s3cret@host"}, "not a URL"},
		"twice":             {[]string{"host", "HOST:6379"}, `"host:6379" is given twice`},
		"twice, other form": {[]string{"::1", "[0:0::1]:6379"}, "is given twice"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := redisconn.Addresses{}.Resolve(t.Context(), operation.Target{Addresses: test.addresses})
			require.ErrorContains(t, err, test.want)
			assert.Equal(t, operation.Usage, operation.KindOf(err))
			assert.NotContains(t, err.Error(), "s3cret")
			_, err = redisconn.Addresses{}.List(t.Context(), operation.Target{Addresses: test.addresses})
			require.Error(t, err)
		})
	}
}

func TestTLSFilesRejects(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "not.pem")
	require.NoError(t, os.WriteFile(notPEM, []byte("x"), 0o600))
	for name, test := range map[string]struct {
		files redisconn.TLSFiles
		want  string
	}{
		"missing CA":     {redisconn.TLSFiles{CA: notPEM + "x"}, "no such file"},
		"CA without PEM": {redisconn.TLSFiles{CA: notPEM}, "no certificate"},
		"cert only":      {redisconn.TLSFiles{Cert: notPEM}, "given together"},
		"key only":       {redisconn.TLSFiles{Key: notPEM}, "given together"},
		"bad pair":       {redisconn.TLSFiles{Cert: notPEM, Key: notPEM}, notPEM},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.files.Load()
			require.ErrorContains(t, err, test.want)
			assert.Equal(t, operation.Usage, operation.KindOf(err))
		})
	}
}

func TestConnector(t *testing.T) {
	s := redisserver.Start(t, redisserver.Options{Version: redisserver.Versions(t)[1], Password: "s3cret", Config: []string{disklessSync}})
	connector := redisconn.Connector{Dial: redisconn.DialInstance, Credentials: always("", "s3cret")}
	server, err := connect(t, connector, s.Addr)
	require.NoError(t, err)
	info, err := server.Info(t.Context(), "replication")
	require.NoError(t, err)
	assert.Equal(t, "master", info.Get("role"))

	d, err := redisconn.Addresses{}.Resolve(t.Context(), operation.Target{Addresses: []string{s.Addr}})
	require.NoError(t, err)
	stream, err := connector.OpenSnapshot(t.Context(), d, d.Instances[0], redisconn.SnapshotOptions{Diskless: true})
	require.NoError(t, err)
	require.NoError(t, stream.Close())

	t.Run("wrong password", func(t *testing.T) {
		connector.Credentials = always("", "wr0ng")
		_, err := connect(t, connector, s.Addr)
		assertReply(t, err, operation.Denied, "WRONGPASS")
		assert.ErrorContains(t, err, "server "+s.Addr)
	})
	t.Run("no credentials to be had", func(t *testing.T) {
		reason := errors.New("the secret is gone")
		connector.Credentials = func(context.Context, *operation.Deployment) (string, string, error) { return "", "", reason }
		_, err := connect(t, connector, s.Addr)
		require.ErrorIs(t, err, reason)
		_, err = connector.OpenSnapshot(t.Context(), d, d.Instances[0], redisconn.SnapshotOptions{})
		require.ErrorIs(t, err, reason)
	})
	t.Run("pods are named", func(t *testing.T) {
		o, err := redisconn.Connector{}.Options(t.Context(), &operation.Deployment{Namespace: "prod"},
			operation.Instance{Name: "redis-1", Pod: &operation.Pod{}})
		require.NoError(t, err)
		assert.Equal(t, "pod prod/redis-1", o.Name)
	})
}

package redis_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/redis"
)

func TestParseClients(t *testing.T) {
	// As 7.0.15 and, with the library, 8.0 write them.
	clients, err := redis.ParseClients("id=7 addr=10.0.0.3:51234 laddr=10.0.0.1:6379 fd=8 name=web age=120 idle=3 flags=N db=2 sub=1 psub=2 ssub=0 " +
		"multi=-1 qbuf=26 qbuf-free=20448 argv-mem=10 multi-mem=0 rbs=1024 rbp=0 obl=5 oll=0 omem=100 tot-mem=22298 events=r cmd=get user=default redir=-1 resp=2 " +
		"lib-name=jedis lib-ver=5.1\r\n" +
		"id=8 addr=[fd00::1]:4000 name= age=1 idle=0 flags=S db=0 cmd=client|list\n")
	require.NoError(t, err)
	assert.Equal(t, []redis.Client{
		{
			ID: 7, Address: "10.0.0.3:51234", Name: "web", User: "default", Library: "jedis 5.1", Age: 2 * time.Minute, Idle: 3 * time.Second,
			Flags: "N", DB: 2, Subscriptions: 3, QueryBuffer: 20474, OutputBuffer: 105, Memory: 22298, Command: "get",
		},
		{ID: 8, Address: "[fd00::1]:4000", Age: time.Second, Flags: "S", Command: "client|list"},
	}, clients)
	assert.Equal(t, "10.0.0.3", clients[0].Host())
	assert.Equal(t, "fd00::1", clients[1].Host())
	assert.Equal(t, "/tmp/redis.sock", redis.Client{Address: "/tmp/redis.sock:0"}.Host())

	_, err = redis.ParseClients("NOAUTH Authentication required.")
	assert.Error(t, err)
	clients, err = redis.ParseClients("")
	assert.NoError(t, err)
	assert.Empty(t, clients)
}

// Package operationtest has instances that answer as told, for tests of
// operations that judge states which real servers are hard to bring into: a
// failed save, two primaries, a memory limit that is nearly reached.
package operationtest

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// Server is an instance that answers as told.
type Server struct {
	// Info are the fields of INFO. Use Primary or Replica to start from a healthy
	// server.
	Info map[string]string
	// Config is what CONFIG GET finds; nil disables CONFIG.
	Config map[string]string
	// Err fails every command, PingErr only PING.
	Err, PingErr error
	// PasswordUnused is what the server says of its password.
	PasswordUnused bool
	// Hang makes every command wait for its context to end.
	Hang bool

	info sync.Mutex
}

// Primary returns the answers of a healthy primary with the given replicas, each
// given as its IP address.
func Primary(replicas ...string) *Server {
	s := healthy()
	s.Info["role"] = "master"
	s.Info["connected_slaves"] = strconv.Itoa(len(replicas))
	for i, ip := range replicas {
		s.Info[fmt.Sprintf("slave%d", i)] = fmt.Sprintf("ip=%s,port=6379,state=online,offset=1000,lag=0", ip)
	}
	return s
}

// Replica returns the answers of a healthy replica of the server at host.
func Replica(host string) *Server {
	s := healthy()
	maps.Copy(s.Info, map[string]string{
		"role": "slave", "master_host": host, "master_port": "6379", "master_link_status": "up",
		"master_last_io_seconds_ago": "0", "master_sync_in_progress": "0", "slave_repl_offset": "1000",
		"slave_priority": "100", "slave_read_only": "1", "connected_slaves": "0",
	})
	return s
}

func healthy() *Server {
	return &Server{
		Info: map[string]string{
			"redis_version": "7.0.15", "run_id": "r", "uptime_in_seconds": "3600",
			"master_replid": strings.Repeat("a", 40), "master_repl_offset": "1000",
			"used_memory": "1048576", "maxmemory": "0", "maxmemory_policy": "noeviction",
			"loading": "0", "rdb_last_bgsave_status": "ok", "rdb_last_save_time": "1700000000",
			"rdb_bgsave_in_progress": "0", "rdb_changes_since_last_save": "0",
			"aof_enabled": "0", "aof_last_write_status": "ok", "aof_last_bgrewrite_status": "ok",
			"evicted_keys": "0", "connected_clients": "1", "db0": "keys=10,expires=0,avg_ttl=0",
		},
		Config: map[string]string{"save": "900 1"},
	}
}

// Set changes fields of INFO, also while the server is being asked, and returns the
// server.
func (s *Server) Set(fields map[string]string) *Server {
	s.info.Lock()
	defer s.info.Unlock()
	maps.Copy(s.Info, fields)
	return s
}

// Fleet is an operation.Connector to fake servers by instance name.
type Fleet map[string]*Server

// Connect implements operation.Connector.
func (f Fleet) Connect(_ context.Context, _ *operation.Deployment, i operation.Instance) (operation.Server, error) {
	s, ok := f[i.Name]
	if !ok {
		return nil, operation.Errorf(operation.Failed, "%s: connection refused", i.Name)
	}
	return connection{s}, nil
}

// Deployment returns a release of the chart's replica mode with n pods: cache-redis-0
// at 10.0.0.10, cache-redis-1 at 10.0.0.11 and so on, with Services that select the
// first.
func Deployment(n int) *operation.Deployment {
	const name = "cache-redis"
	d := &operation.Deployment{
		Namespace: "prod", Release: "cache", Name: name, Chart: "redis-1.0.0",
		Workload: &operation.Workload{
			Kind: "StatefulSet", Name: name, ServiceName: name + "-headless", Desired: n, Ready: n,
			Volume: operation.Volume{Kind: operation.VolumeClaimTemplate, Claim: "data", MountPath: "/data"},
		},
		Services: []operation.Service{
			{Name: name, PodSelector: name + "-0", Endpoints: []string{name + "-0"}, EndpointsKnown: true},
			{Name: name + "-headless", Headless: true},
		},
	}
	for i := range n {
		d.Instances = append(d.Instances, operation.Instance{
			Name: fmt.Sprintf("%s-%d", name, i), Ordinal: i, Host: fmt.Sprintf("10.0.0.%d", 10+i), Port: 6379,
			Pod: &operation.Pod{Phase: "Running", Ready: true, ContainerRunning: true},
		})
	}
	return d
}

// connection implements operation.Server; Server itself cannot, because its field
// Info has the method's name.
type connection struct{ *Server }

func (c connection) answer(ctx context.Context) error {
	if c.Hang {
		<-ctx.Done()
		return operation.Errorf(operation.TimedOut, "no answer: %w", ctx.Err())
	}
	return c.Err
}

func (c connection) Info(ctx context.Context, _ ...string) (redis.Info, error) {
	if err := c.answer(ctx); err != nil {
		return redis.Info{}, err
	}
	c.info.Lock()
	defer c.info.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.Server.Info)) {
		fmt.Fprintf(&b, "%s:%s\n", name, c.Server.Info[name])
	}
	return redis.ParseInfo(b.String())
}

func (c connection) ConfigGet(ctx context.Context, pattern string) (map[string]string, error) {
	if err := c.answer(ctx); err != nil {
		return nil, err
	}
	if c.Config == nil {
		return nil, operation.ErrNoCommand
	}
	found := make(map[string]string)
	for name, value := range c.Config {
		matches, err := path.Match(pattern, name)
		if err != nil {
			return nil, err
		}
		if matches {
			found[name] = value
		}
	}
	return found, nil
}

func (c connection) Do(ctx context.Context, _ ...any) (any, error) { return nil, c.answer(ctx) }

func (c connection) Ping(ctx context.Context) (time.Duration, error) {
	if err := c.answer(ctx); err != nil {
		return 0, err
	}
	return time.Millisecond, c.PingErr
}

func (c connection) PasswordUnused() bool { return c.Server.PasswordUnused }

func (c connection) Close() error { return nil }

package live

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/replication"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/redis"
)

// chooseTarget returns the primary that keys are restored into. Its errors are of kind
// Refused where another choice would help.
func chooseTarget(t *topology.Topology, instance string) (*topology.Member, error) {
	if err := t.Denied(); err != nil {
		return nil, err
	}
	if instance == "" {
		m, err := replication.Primary(t)
		var e *operation.Error
		if errors.As(err, &e) {
			refused := *e
			refused.Kind, refused.Unchanged = operation.Refused, "nothing was changed"
			return nil, &refused
		}
		return m, err
	}
	m := t.Member(instance)
	switch {
	case m == nil:
		return nil, operation.Errorf(operation.Usage, "%s has no instance %q; it has %s", t.Deployment, instance, t.Deployment.InstanceNames())
	case m.Err != nil:
		return nil, m.Err
	case m.Replication.Role != redis.RolePrimary:
		return nil, &operation.Error{
			Kind: operation.Refused, Object: m.Name, Phase: "choosing the server",
			Err:       fmt.Errorf("it is a replica of %s: what is written to it is lost", m.Upstream()),
			Unchanged: "nothing was changed", Next: "leave out --pod: the primary is found by itself",
		}
	}
	return m, nil
}

// limits are what a server admits. Where CONFIG is disabled, they are its defaults.
type limits struct {
	databases int
	// payload is the longest argument of a command in bytes, less what surrounds it.
	payload int64
	// replicaBuffer is how many bytes a replica's output buffer may hold before its
	// primary drops it; 0 for no limit.
	replicaBuffer int64
}

func askLimits(ctx context.Context, server operation.Server) limits {
	get := func(name string, otherwise int64) int64 {
		values, err := server.ConfigGet(ctx, name)
		if n, parseErr := strconv.ParseInt(values[name], 10, 64); err == nil && parseErr == nil {
			return n
		}
		return otherwise
	}
	const commandOverhead = 1 << 20
	l := limits{databases: int(get("databases", 16))}
	l.payload = min(get("proto-max-bulk-len", 512<<20), get("client-query-buffer-limit", 1<<30)-commandOverhead)
	const name = "client-output-buffer-limit"
	values, err := server.ConfigGet(ctx, name)
	if err != nil {
		values = map[string]string{name: "slave 268435456 67108864 60"}
	}
	l.replicaBuffer = replicaLimit(values[name])
	return l
}

// replicaLimit reads the limits for replicas: "normal 0 0 0 slave 268435456 67108864 60".
// It returns the smaller one of the hard and the soft limit that are set.
func replicaLimit(text string) int64 {
	words := strings.Fields(text)
	for i := 0; i+2 < len(words); i++ {
		if words[i] != "slave" && words[i] != "replica" {
			continue
		}
		hard, _ := strconv.ParseInt(words[i+1], 10, 64) // 0 for what is not a number
		soft, _ := strconv.ParseInt(words[i+2], 10, 64)
		if soft == 0 || hard > 0 && hard < soft {
			return hard
		}
		return soft
	}
	return 0
}

// probe finds out whether the server would take a RESTORE of a key: it sends one with a
// payload that no server takes. What stands in the way of any write is an error.
func probe(ctx context.Context, server operation.Server, key []byte) error {
	_, err := server.Do(ctx, "RESTORE", key, 0, "")
	var reply interface{ Code() string }
	if !errors.As(err, &reply) {
		return err
	}
	switch reply.Code() {
	case "ERR", "BUSYKEY", "":
		if errors.Is(err, operation.ErrNoCommand) {
			return &operation.Error{Kind: operation.Unsupported, Phase: "asking for RESTORE", Err: err}
		}
		return nil
	default:
		return err
	}
}

// functionType is the type byte of function libraries.
const functionType = 245

// knowsFunctions reports whether servers of a version have functions.
func knowsFunctions(v redis.Version) bool {
	return v.RDBVersion() >= rdb.FirstVersion(functionType, rdb.OriginRedis)
}

// countLibraries returns how many function libraries a server has. A user who may not
// list them is told when they are restored.
func countLibraries(ctx context.Context, server operation.Server, v redis.Version) (int, error) {
	if !knowsFunctions(v) {
		return 0, nil
	}
	reply, err := server.Do(ctx, "FUNCTION", "LIST")
	switch libraries, isList := reply.([]any); {
	case operation.KindOf(err) == operation.Denied, errors.Is(err, operation.ErrNoCommand):
		return 0, nil
	case err != nil:
		return 0, err
	case isList:
		return len(libraries), nil
	default:
		return 0, nil
	}
}

package maintenance

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
)

// MemoryUse is what takes the memory of one instance, in bytes.
type MemoryUse struct {
	// Used is what the server has allocated, Peak the most it ever had, and RSS what the
	// system has given to the process.
	Used int64 `json:"used"`
	Peak int64 `json:"peak"`
	RSS  int64 `json:"rss"`
	// Max is maxmemory; 0 for no limit. Policy is what happens there.
	Max    int64  `json:"max"`
	Policy string `json:"policy"`
	// Limit is what the container may take before the kernel ends it; left out when there
	// is none, or it is not known.
	Limit         int64   `json:"containerLimit,omitempty"`
	Fragmentation float64 `json:"fragmentationRatio"`
	Keys          int64   `json:"keys"`
	// BytesPerKey is the server's mean, with what it needs besides the values; 0 where it
	// does not tell.
	BytesPerKey int64 `json:"bytesPerKey"`
	// Parts add up to Used, the largest first as the server's own order has it. There are
	// none where the server does not have MEMORY: disabled, or renamed where redisctl cannot
	// see it.
	Parts []MemoryPart `json:"parts"`
	// Doctor is what MEMORY DOCTOR says, without its jokes.
	Doctor string `json:"doctor,omitempty"`
}

// MemoryPart is one thing that takes memory.
type MemoryPart struct {
	// Name is stable: dataset, keyTables, clients, replicas, replicationBacklog,
	// aofBuffer, scripts, startup, other.
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Memory asks every instance what takes its memory. limit is the containers' limit, 0
// when there is none.
func (m Maintenance) Memory(ctx context.Context, d *operation.Deployment, limit int64) []inspect.Answer[MemoryUse] {
	return inspect.Each(ctx, m.Connector, d, m.Timeout, func(ctx context.Context, s operation.Server) (MemoryUse, error) {
		use, err := memoryUse(ctx, s)
		use.Limit = limit
		return use, err
	})
}

func memoryUse(ctx context.Context, s operation.Server) (MemoryUse, error) {
	info, err := s.Info(ctx, "memory", "keyspace")
	if err != nil {
		return MemoryUse{}, err
	}
	memory := info.Memory()
	use := MemoryUse{
		Used: memory.Used, Peak: memory.Peak, RSS: memory.RSS, Max: memory.Max, Policy: memory.Policy, Fragmentation: memory.Fragmentation,
	}
	reply, err := s.Do(ctx, "MEMORY", "STATS")
	if errors.Is(err, operation.ErrNoCommand) {
		use.Keys = info.TotalKeys()
		return use, nil
	}
	if err != nil {
		return use, err
	}
	stats, err := pairs(reply)
	if err != nil {
		return use, err
	}
	// INFO and STATS are not of the same moment: the parts are parts of what STATS says.
	if total := stats.int("total.allocated"); total > 0 {
		use.Used = total
	}
	use.Keys, use.BytesPerKey = stats.int("keys.count"), stats.int("keys.bytes-per-key")
	use.Parts = stats.parts(use.Used)
	report, err := doctor(ctx, s, "MEMORY", "DOCTOR")
	if err != nil && !errors.Is(err, operation.ErrNoCommand) {
		return use, err
	}
	use.Doctor = report.Report
	return use, nil
}

// memoryStats is the reply to MEMORY STATS: numbers by name, and one list for each database.
type memoryStats map[string]any

func pairs(reply any) (memoryStats, error) {
	list, ok := reply.([]any)
	if !ok || len(list)%2 != 0 {
		return nil, fmt.Errorf("unexpected reply to MEMORY STATS: %T", reply)
	}
	stats := make(memoryStats, len(list)/2)
	for n := 0; n < len(list); n += 2 {
		stats[fmt.Sprint(list[n])] = list[n+1]
	}
	return stats, nil
}

func (s memoryStats) int(name string) int64 {
	switch v := s[name].(type) {
	case int64:
		return v
	case string:
		n, err := strconv.ParseFloat(v, 64)
		if err == nil {
			return int64(n)
		}
	}
	return 0
}

// parts splits what is allocated up, as getMemoryOverheadData (object.c) adds it up: the
// data set is what is left of it.
func (s memoryStats) parts(total int64) []MemoryPart {
	tables := int64(0)
	for name, value := range s {
		if !strings.HasPrefix(name, "db.") || strings.HasPrefix(name, "db.dict.") {
			continue
		}
		tables += hashTables(value)
	}
	parts := []MemoryPart{
		{"dataset", max(0, s.int("dataset.bytes"))},
		{"keyTables", tables},
		{"replicationBacklog", s.int("replication.backlog")},
		{"clients", s.int("clients.normal")},
		{"replicas", s.int("clients.slaves")},
		{"aofBuffer", s.int("aof.buffer")},
		{"scripts", s.int("lua.caches") + s.int("functions.caches") + s.int("script.VMs")},
		{"startup", s.int("startup.allocated")},
	}
	rest := total
	for _, p := range parts {
		rest -= p.Bytes
	}
	return append(parts, MemoryPart{"other", max(0, rest)})
}

// hashTables adds up what a database needs to find its keys. Newer servers list parts of
// that once more.
func hashTables(reply any) (sum int64) {
	list, _ := reply.([]any)
	for n := 0; n+1 < len(list); n += 2 {
		if strings.HasPrefix(fmt.Sprint(list[n]), "overhead.hashtable.") {
			sum += number(list[n+1])
		}
	}
	return sum
}

package inspect

import (
	"fmt"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// What is said of memory: where the numbers begin to matter.
const (
	fullFraction      = 0.9       // of maxmemory
	fragmentedRatio   = 1.5       // resident / used
	fragmentedAtLeast = 100 << 20 // bytes that are resident and not used
	swappedRatio      = 0.9       // resident / used: the rest is swapped out
)

// MemoryFindings says what is worth knowing of the memory of instances that answered
// INFO's section memory, in the order of the answers.
func MemoryFindings(answers []Answer[redis.Info]) []operation.Finding {
	var findings []operation.Finding
	for _, a := range answers {
		if a.Err != nil {
			continue
		}
		m := a.Value.Memory()
		add := func(code string, s operation.Severity, message, hint string) {
			findings = append(findings, operation.Finding{Code: code, Severity: s, Subject: a.Instance, Message: message, Hint: hint})
		}
		used, max := operation.Bytes(m.Used), operation.Bytes(m.Max)
		switch {
		case m.Max == 0:
			add("no-memory-limit", operation.Notice, fmt.Sprintf("maxmemory is 0: it grows beyond %s until the container is killed", used),
				"set redis.maxmemory below the container's memory limit")
		case m.UsedFraction() >= fullFraction && m.Policy == "noeviction":
			add("memory-near-limit", operation.Warning, fmt.Sprintf("%s of %s: soon it refuses writes (noeviction)", used, max),
				"raise maxmemory, or find what grew: redisctl backup analyze")
		case m.UsedFraction() >= fullFraction:
			add("memory-near-limit", operation.Warning, fmt.Sprintf("%s of %s: it evicts keys (%s)", used, max, m.Policy),
				"raise maxmemory, or find what grew: redisctl backup analyze")
		}
		if m.Fragmentation >= fragmentedRatio && m.RSS-m.Used >= fragmentedAtLeast {
			add("fragmented", operation.Warning, fmt.Sprintf("%s are resident for %s that are used (ratio %.2f)",
				operation.Bytes(m.RSS), used, m.Fragmentation), "MEMORY PURGE, or activedefrag yes")
		}
		if m.RSS > 0 && m.Used >= fragmentedAtLeast && float64(m.RSS) < swappedRatio*float64(m.Used) {
			add("swapped", operation.Warning, fmt.Sprintf("only %s of %s are resident: the rest is swapped out, and slow",
				operation.Bytes(m.RSS), used), "give the node memory; switch its swap off")
		}
	}
	return findings
}

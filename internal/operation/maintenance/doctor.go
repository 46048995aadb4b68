package maintenance

import (
	"context"
	"fmt"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
)

// Doctor is what a server says of itself in prose.
type Doctor struct {
	// Report is in the server's own words, but for its jokes: what is no finding is put
	// plainly.
	Report string `json:"report"`
	// Off is set when the latency monitor has noted nothing because it is off
	// (latency-monitor-threshold 0).
	Off bool `json:"off,omitzero"`
}

// LatencyDoctor asks every instance for LATENCY DOCTOR.
func (m Maintenance) LatencyDoctor(ctx context.Context, d *operation.Deployment) []inspect.Answer[Doctor] {
	return inspect.Each(ctx, m.Connector, d, m.Timeout, func(ctx context.Context, s operation.Server) (Doctor, error) {
		return doctor(ctx, s, "LATENCY", "DOCTOR")
	})
}

func doctor(ctx context.Context, s operation.Server, command ...any) (Doctor, error) {
	reply, err := s.Do(ctx, command...)
	if err != nil {
		return Doctor{}, err
	}
	text, ok := reply.(string)
	if !ok {
		return Doctor{}, fmt.Errorf("unexpected reply of type %T", reply)
	}
	return plainly(text), nil
}

// plainly leaves the films out of a report: createLatencyReport (latency.c) and
// getMemoryDoctorReport (object.c) quote two of them in Redis 6.0 to 8.0 and in Valkey,
// which names itself instead of Redis.
func plainly(text string) Doctor {
	text = strings.TrimSpace(strings.ReplaceAll(text, "\r", ""))
	switch {
	case strings.Contains(text, "Latency monitoring is disabled"):
		return Doctor{Report: "the latency monitor is off (latency-monitor-threshold 0): nothing was noted", Off: true}
	case strings.Contains(text, "no latency spike was observed"):
		return Doctor{Report: "the latency monitor is on, and has noted no slow moment"}
	case strings.Contains(text, "is empty or is using very little memory"):
		return Doctor{Report: "too little memory is used (less than 5 MB) for the server to judge"}
	case strings.Contains(text, "can't find any memory issue"):
		return Doctor{Report: "the server finds nothing wrong"}
	}
	var kept []string
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case strings.Contains(line, "I detected a few issues in this"):
			line = "the server finds:"
		case strings.HasPrefix(line, "Dave, I have observed latency spikes"):
			line = "the server has noted slow moments:"
		case strings.HasPrefix(line, "I have a few advices for you"):
			line = "it advises:"
		case strings.HasPrefix(line, "I'm here to keep you safe"):
			continue
		}
		kept = append(kept, line)
	}
	return Doctor{Report: strings.TrimSpace(strings.Join(kept, "\n"))}
}

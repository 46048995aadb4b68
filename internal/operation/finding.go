package operation

import (
	"errors"
	"fmt"
	"strings"
)

// Severity says how much a Finding matters.
type Severity string

// The severities. A finding of severity Critical or Warning makes `health`
// exit 10; as a pre-flight finding, Critical blocks unless it is overridden.
const (
	Critical Severity = "critical"
	Warning  Severity = "warning"
	Notice   Severity = "notice"
)

// Finding is one observed fact that an operator should know. Health checks and
// the pre-flight of every mutation share it.
type Finding struct {
	// Code is stable and unique, in kebab case: "two-primaries". Scripts match it.
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	// Subject is the pod, Service or workload it is about.
	Subject string `json:"subject"`
	// Message says what is wrong, with the numbers.
	Message string `json:"message"`
	// Hint says what to do about it. Optional.
	Hint string `json:"hint,omitempty"`
	// Override is the flag that lets an operation proceed in spite of it.
	// Empty when nothing does, and for health checks.
	Override string `json:"override,omitempty"`
	// Overridden is set when the user passed Override.
	Overridden bool `json:"overridden,omitempty"`
}

// Blocks reports whether the finding stops an operation.
func (f Finding) Blocks() bool { return f.Severity == Critical && !f.Overridden }

// Plan is what an operation is going to do. Making it only reads.
type Plan struct {
	// Operation is the command, for example "backup rdb".
	Operation string `json:"operation"`
	// Object is the deployment it is about.
	Object   string    `json:"object"`
	Steps    []Step    `json:"steps"`
	Findings []Finding `json:"findings"`
}

// Step is one action of a Plan.
type Step struct {
	// Action says what will be done, in the imperative.
	Action string `json:"action"`
	// Subject is what it is done to.
	Subject string `json:"subject,omitempty"`
	// Mutates is false for steps that only read.
	Mutates bool `json:"mutates"`
}

// Blockers returns the findings that stop the plan.
func (p Plan) Blockers() []Finding {
	var blockers []Finding
	for _, f := range p.Findings {
		if f.Blocks() {
			blockers = append(blockers, f)
		}
	}
	return blockers
}

// Refusal returns an *Error of kind Refused that lists every blocker with its
// override, or nil when nothing blocks the plan.
func (p Plan) Refusal() error {
	blockers := p.Blockers()
	if len(blockers) == 0 {
		return nil
	}
	lines := make([]string, len(blockers))
	for i, f := range blockers {
		lines[i] = fmt.Sprintf("%s: %s [%s]", f.Subject, f.Message, f.Code)
		if f.Override != "" {
			lines[i] += "; override with " + f.Override
		} else if f.Hint != "" {
			lines[i] += "; " + f.Hint
		}
	}
	return &Error{
		Kind: Refused, Object: p.Object, Phase: p.Operation,
		Err:       errors.New(strings.Join(lines, "\n  ")),
		Unchanged: "nothing was changed",
	}
}

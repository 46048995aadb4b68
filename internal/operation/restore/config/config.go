// Package config restores settings of servers from a backup of their configuration: what
// CONFIG SET changes is set on the running servers, and everything is written as Helm
// values (or lines of redis.conf) besides, because the chart mounts redis.conf read-only:
// what was only set is lost with the next restart.
package config

import (
	"context"
	"encoding/json"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// Restore restores settings. All fields are required.
type Restore struct {
	Connector operation.Connector
	Locker    operation.Locker
	Objects   backup.Objects
	Reporter  operation.Reporter
}

// Options are the user's choices.
type Options struct {
	restore.Overrides
	// Only selects settings by glob-style patterns; none selects all. A pattern that is
	// a setting's whole name selects it also when it may be another version's default.
	Only []string
	// Secrets includes passwords.
	Secrets bool
	// Timeout bounds each answer of a server.
	Timeout time.Duration
}

// Read returns the configuration that a backup of kind config or full holds. A document
// that is not as the manifest says is an *operation.Error of kind Corrupt.
func Read(ctx context.Context, b restore.Backup) (*backup.ConfigDocument, error) {
	text, err := b.ReadFile(ctx, snapshot.FileConfig)
	if err != nil {
		return nil, err
	}
	var doc backup.ConfigDocument
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, &operation.Error{Kind: operation.Corrupt, Object: b.Name(), Phase: "reading the configuration", Err: err, Unchanged: "nothing was changed"}
	}
	return &doc, nil
}

// Action says how a setting gets its former value.
type Action string

// The actions.
const (
	// ActionSet: CONFIG SET now, and the values file for the time after a restart.
	ActionSet Action = "set"
	// ActionValues: the values file only.
	ActionValues Action = "values"
	// ActionSkip: not at all.
	ActionSkip Action = "skip"
)

// Setting is a setting whose value in the backup is not the one of today. Its JSON form
// is part of redisctl's interface (docs/json-output.md).
type Setting struct {
	Name string `json:"name"`
	// Backup is what the servers ran with then, Running what they run with now, Chart
	// what redis.conf asks for (nil when it says nothing).
	Backup  string    `json:"backup"`
	Running []Running `json:"running"`
	Chart   *string   `json:"chart,omitempty"`
	Action  Action    `json:"action"`
	// Reason explains the action.
	Reason string `json:"reason,omitempty"`

	// value is Backup when that must not be shown.
	value string
	// lines of redis.conf that ask for it.
	lines []string
	// wanted is set when CONFIG SET was meant to change it, and nothing can.
	wanted bool
}

// Running is what one server runs with.
type Running struct {
	Instance string `json:"instance"`
	Value    string `json:"value"`
	// Set says that CONFIG SET is to change it.
	Set bool `json:"set,omitempty"`

	value string
	name  string // that the server knows it by
}

// Plan is what a restore of settings is going to do.
type Plan struct {
	operation.Plan
	// Backup is its id, TakenAt when the configuration was read.
	Backup  string    `json:"backup"`
	TakenAt time.Time `json:"takenAt"`
	// Settings are those that differ, by name.
	Settings []Setting `json:"settings"`
	// Equal counts the settings that are as in the backup.
	Equal int `json:"equal"`
	// Form is what the file for the chart is: "values" for Helm, "redis.conf" for lines
	// of redis.conf.
	Form Form `json:"form"`

	deployment *operation.Deployment
	options    Options
	values     []byte
}

// Form is the form of the file that makes settings last.
type Form string

// The forms.
const (
	FormValues    Form = "values"
	FormRedisConf Form = "redis.conf"
)

// Values returns the file that makes the settings last: Helm values or lines of
// redis.conf. Empty when nothing needs to be asked for. It may hold secrets: whatever the
// release's present values hold is repeated in it.
func (p *Plan) Values() []byte { return p.values }

// Result is the JSON form of what was done.
type Result struct {
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Name      string `json:"name"`
	Backup    string `json:"backup"`
	// Settings that were set, or tried to.
	Settings []Outcome `json:"settings"`
	// Unset counts those that the backup asks for and the running servers do not have.
	Unset int `json:"unset"`
	// File is where the values were written, Form what it is. Empty when there is
	// nothing to ask for.
	File string `json:"file,omitempty"`
	Form Form   `json:"form,omitempty"`
}

// Outcome is what became of one setting.
type Outcome struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Instances have it now.
	Instances []string `json:"instances"`
	// Problem is why not all have it. What was set before is undone, unless Undone names
	// the reason.
	Problem string `json:"problem,omitempty"`
	// Left are the instances that have the new value although others do not, because it
	// could not be undone.
	Left []string `json:"left,omitempty"`
}

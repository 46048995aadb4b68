package check

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Trials starts throw-away servers.
type Trials interface {
	// Start starts a server as the release's own would be, but with an empty volume of its
	// own and nothing that leads clients or replication to or from the release. It returns
	// when the server's program runs. The error is a *PodError when it does not come to
	// that, an *EndError when it has ended at once. The caller closes what it gets.
	Start(ctx context.Context, d *operation.Deployment, s TrialSpec) (TrialServer, error)
}

// TrialSpec says what a throw-away server is made of.
type TrialSpec struct {
	// Image of the server.
	Image string
	// Workload is the workload's manifest as JSON; empty for the one in the cluster.
	Workload []byte
	// Config is the redis.conf instead of the release's; empty for that in the cluster.
	Config string
	// Life is after what time it ends by itself, whatever has become of redisctl.
	Life time.Duration
}

// TrialServer is a throw-away server. It disappears with redisctl, however that ends: at
// once, or after TrialSpec.Life.
type TrialServer interface {
	// Name tells it from others: "pod redis-prod/redisctl-trial-x-0".
	Name() string
	// Deployment is what reaches it, as its only instance.
	Deployment() *operation.Deployment
	// Ended returns nil while it runs, an *EndError when it has ended by itself, and any
	// other error when that cannot be found out.
	Ended(ctx context.Context) error
	// Close ends and removes it.
	Close(ctx context.Context) error
}

// PodError says why a server's program was not started.
type PodError struct {
	// Image is set when the image could not be had.
	Image bool
	// Reason and Message are the kubelet's or the scheduler's.
	Reason, Message string
}

func (e *PodError) Error() string {
	if e.Message == "" {
		return e.Reason
	}
	return e.Reason + ": " + e.Message
}

// EndError says that a server has ended.
type EndError struct {
	// Reason is what the kubelet says of it: "Error, exit code 1".
	Reason string
	// Log is what it printed last.
	Log []string
}

func (e *EndError) Error() string { return "the server has ended: " + e.Reason }

const (
	// closeLimit is how long the removal of a server may take.
	closeLimit = time.Minute
	// trialAnswer is how long a started server without data may take to answer.
	trialAnswer = 30 * time.Second
	trialPoll   = 100 * time.Millisecond
)

// checkTrial starts a server of the target's image with the release's configuration.
func (k *checking) checkTrial(parent context.Context) {
	target := k.report.Target
	if target == nil || !k.o.Trial || k.Trials == nil {
		return
	}
	ctx, cancel := context.WithTimeoutCause(parent, k.o.TrialTime,
		operation.Errorf(operation.TimedOut, "the trial has not ended after %s", k.o.TrialTime))
	defer cancel()
	k.Reporter.Step("starting a throw-away server of %s", target.Image)
	begun := k.Now()
	trial := &Trial{UnknownDirectives: []string{}, IgnoredDirectives: []string{}, UnknownCommands: []UsedCommand{}, Settings: []SettingChange{}}
	k.report.Trial = trial
	spec := TrialSpec{Image: target.Image, Life: k.o.TrialTime}
	if k.preview != nil {
		spec.Workload, spec.Config = k.preview.Workload, k.preview.Config
	}
	err := k.try(ctx, spec, func(ctx context.Context, s operation.Server) error {
		trial.Started = true
		return k.ask(ctx, s)
	})
	var ended *EndError
	if errors.As(err, &ended) {
		trial.Log = masked(ended.Log)
		if k.rejected(ended) {
			// A server names the first directive that it does not know and ends. One with
			// nothing but the defaults can be asked for all.
			plain := k.try(ctx, TrialSpec{Image: spec.Image, Workload: spec.Workload, Config: plainConfig, Life: spec.Life}, k.askAll)
			if plain != nil {
				k.unknown(trial.Pod, plain)
			}
			err = nil
		}
	}
	trial.Seconds = k.Now().Sub(begun).Seconds()
	if parent.Err() == nil {
		k.judgeTrial(err)
	}
}

// plainConfig is the least that a server needs to be asked.
const plainConfig = "protected-mode no\nsave \"\"\n"

// try starts a server, and calls ask when it answers.
func (k *checking) try(ctx context.Context, spec TrialSpec, ask func(context.Context, operation.Server) error) (err error) {
	server, err := k.Trials.Start(ctx, k.d, spec)
	if err != nil {
		return err
	}
	defer func() {
		// Also after Ctrl-C: nothing must stay.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
		defer cancel()
		if closeErr := server.Close(closing); closeErr != nil {
			k.unknown(server.Name(), fmt.Errorf("it could not be removed: %w", closeErr))
		}
	}()
	k.report.Trial.Pod = server.Name()
	connection, err := k.await(ctx, server)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }() // it was only asked
	return ask(ctx, connection)
}

// await returns when the server answers.
func (k *checking) await(parent context.Context, server TrialServer) (operation.Server, error) {
	ctx, cancel := context.WithTimeout(parent, trialAnswer)
	defer cancel()
	for {
		connection, err := k.Connector.Connect(ctx, server.Deployment(), server.Deployment().Instances[0])
		if err == nil {
			if _, err = connection.Ping(ctx); err == nil {
				return connection, nil
			}
			_ = connection.Close() // the next one counts
		}
		if ended := server.Ended(parent); ended != nil {
			return nil, ended
		}
		select {
		case <-ctx.Done():
			if parent.Err() != nil {
				return nil, context.Cause(parent)
			}
			return nil, operation.Errorf(operation.TimedOut, "it runs but does not answer after %s: %w", trialAnswer, err)
		case <-time.After(trialPoll):
		}
	}
}

// ask finds out what the server makes of the release's configuration and commands.
func (k *checking) ask(ctx context.Context, s operation.Server) error {
	if err := k.askVersion(ctx, s); err != nil {
		return err
	}
	trial := k.report.Trial
	settings, err := s.ConfigGet(ctx, "*")
	switch {
	case errors.Is(err, operation.ErrNoCommand):
		k.unknown("CONFIG", err)
	case err != nil:
		return err
	default:
		if trial.IgnoredDirectives, err = k.notKnown(ctx, s, settings); err != nil {
			return err
		}
		trial.Settings = differences(k.facts.Settings, settings)
	}
	if trial.UnknownCommands, err = k.unknownCommands(ctx, s); err != nil {
		return err
	}
	trial.RDBVersion = writesRDB(ctx, s)
	return nil
}

// askAll asks a server that was started without the release's configuration.
func (k *checking) askAll(ctx context.Context, s operation.Server) error {
	if err := k.askVersion(ctx, s); err != nil {
		return err
	}
	settings, err := s.ConfigGet(ctx, "*")
	if err != nil {
		return err
	}
	unknown, err := k.notKnown(ctx, s, settings)
	if err != nil {
		return err
	}
	for _, name := range unknown {
		if !slices.Contains(k.report.Trial.UnknownDirectives, name) {
			k.report.Trial.UnknownDirectives = append(k.report.Trial.UnknownDirectives, name)
		}
	}
	k.report.Trial.RDBVersion = writesRDB(ctx, s)
	return nil
}

func (k *checking) askVersion(ctx context.Context, s operation.Server) error {
	info, err := s.Info(ctx)
	if err != nil {
		return err
	}
	v, err := info.Version()
	if err != nil {
		return err
	}
	k.report.Target.Version, k.report.Target.Observed = &v, true
	return nil
}

// notKnown returns the directives of redis.conf that the server does not tell a value of:
// it has accepted them, but ignores them, as 7.0 does with lua-replicate-commands.
func (k *checking) notKnown(ctx context.Context, s operation.Server, settings map[string]string) ([]string, error) {
	// They are no settings.
	without := []string{"rename-command", "user", "include", "loadmodule", "module", "sentinel"}
	unknown := []string{}
	for _, d := range k.facts.Config.Directives() {
		if _, told := settings[d.Name]; told || slices.Contains(without, d.Name) || slices.Contains(unknown, d.Name) {
			continue
		}
		// Older names are told only to who asks for them.
		value, err := s.ConfigGet(ctx, d.Name)
		if err != nil {
			return nil, err
		}
		if len(value) == 0 {
			unknown = append(unknown, d.Name)
		}
	}
	return unknown, nil
}

// unknownCommands returns the commands that clients use and the server does not have.
func (k *checking) unknownCommands(ctx context.Context, s operation.Server) ([]UsedCommand, error) {
	unknown := []UsedCommand{}
	for _, name := range slices.Sorted(maps.Keys(k.facts.Commands)) {
		as, disabled := k.facts.Config.Renames().Lookup(name)
		if disabled {
			continue
		}
		reply, err := s.Do(ctx, "COMMAND", "INFO", as)
		if errors.Is(err, operation.ErrNoCommand) {
			k.unknown("COMMAND", err)
			return unknown, nil
		}
		if err != nil {
			return nil, err
		}
		// One element for each name, nil for one that is not known.
		if list, ok := reply.([]any); ok && len(list) == 1 && list[0] == nil {
			unknown = append(unknown, UsedCommand{Name: name, Calls: k.facts.Commands[name]})
		}
	}
	return unknown, nil
}

// writesRDB asks for the RDB version that a server writes: a DUMP payload ends with it,
// in two bytes before the 8 of the checksum (DUMP in cluster.c). 0 when it is not told.
func writesRDB(ctx context.Context, s operation.Server) int {
	const key = "redisctl:trial"
	if _, err := s.Do(ctx, "SET", key, "1"); err != nil {
		return 0
	}
	reply, err := s.Do(ctx, "DUMP", key)
	payload, ok := reply.(string)
	if err != nil || !ok || len(payload) < 10 {
		return 0
	}
	return int(binary.LittleEndian.Uint16([]byte(payload[len(payload)-10:])))
}

// differences returns the settings that differ, but for those that are secrets, or that
// say who the server is.
func differences(running, target map[string]string) []SettingChange {
	own := regexp.MustCompile(`pass|auth|user|aclfile|replicaof|slaveof|announce|proc-title|^bind|^port$|^pidfile$|^configfile$|^dir$`)
	found := []SettingChange{}
	for _, name := range slices.Sorted(maps.Keys(running)) {
		value, has := target[name]
		if has && value != running[name] && !own.MatchString(name) {
			found = append(found, SettingChange{Name: name, Running: running[name], Target: value})
		}
	}
	return found
}

// badDirective is how servers quote the line of redis.conf that they do not accept
// (loadServerConfigFromString in config.c).
var badDirective = regexp.MustCompile(`^>>> '([A-Za-z0-9_.-]+)`)

// masked takes the values of settings from what a server has printed.
func masked(lines []string) []string {
	kept := make([]string, len(lines))
	for i, line := range lines {
		if quoted := badDirective.FindString(line); quoted != "" {
			line = quoted + " ...'"
		}
		kept[i] = line
	}
	return kept
}

// rejected reports whether the server has ended because it does not know a directive, and
// notes it.
func (k *checking) rejected(ended *EndError) bool {
	bad := false
	for i, line := range ended.Log {
		quoted := badDirective.FindStringSubmatch(line)
		if quoted == nil {
			continue
		}
		// The same words stand below a directive that it knows, with a value that it does not.
		if why := strings.Join(ended.Log[i+1:min(i+2, len(ended.Log))], ""); strings.Contains(why, "Bad directive") {
			k.report.Trial.UnknownDirectives = append(k.report.Trial.UnknownDirectives, strings.ToLower(quoted[1]))
			bad = true
		}
	}
	return bad
}

// judgeTrial turns what was observed into findings. err is why nothing, or not all, was.
func (k *checking) judgeTrial(err error) {
	trial, target := k.report.Trial, k.report.Target
	var pod *PodError
	var ended *EndError
	switch {
	case errors.As(err, &pod) && pod.Image:
		k.failed("image-unavailable", target.Image, pod.Error(), "check the name, and whether the nodes may pull from that registry")
	case errors.As(err, &pod) && pod.Reason == "Unschedulable":
		k.add(operation.Finding{
			Code: "not-checked", Severity: operation.Warning, Subject: target.Image, Message: "there is no room to try it: " + pod.Error(),
		})
	case errors.As(err, &pod):
		k.failed("trial-not-started", cmp.Or(trial.Pod, target.Image), "a server of it could not be started: "+pod.Error(), "")
	case errors.As(err, &ended):
		message := ended.Error()
		if len(trial.Log) > 0 {
			message += "; it printed: " + strings.Join(trial.Log, " / ")
		}
		k.failed("server-fails", target.Image, message, "")
	case err != nil:
		k.add(operation.Finding{
			Code: "not-checked", Severity: operation.Warning, Subject: target.Image, Message: "it could not be tried: " + err.Error(),
		})
	}
	for _, name := range trial.UnknownDirectives {
		k.failed("config-unknown", name, fmt.Sprintf("%s does not know this directive of redis.conf and does not start", target.Image),
			"remove it from the values, or choose a version that knows it")
	}
	for _, name := range trial.IgnoredDirectives {
		k.add(operation.Finding{
			Code: "config-ignored", Severity: operation.Warning, Subject: name,
			Message: fmt.Sprintf("%s accepts this directive of redis.conf, and ignores it", target.Image),
		})
	}
	for _, c := range trial.UnknownCommands {
		k.add(operation.Finding{
			Code: "command-unknown", Severity: operation.Warning, Subject: strings.ToUpper(c.Name),
			Message: fmt.Sprintf("clients have called it %d times since the server's start; %s does not have it", c.Calls, target.Image),
		})
	}
	if len(trial.Settings) > 0 {
		names := make([]string, len(trial.Settings))
		for i, s := range trial.Settings {
			names[i] = s.Name
		}
		k.add(operation.Finding{
			Code: "settings-differ", Severity: operation.Notice, Subject: k.d.Name,
			Message: "settings will have another value than now, by new defaults or because CONFIG SET does not outlive a restart: " + strings.Join(names, ", "),
		})
	}
	if target.Observed && target.wanted != "" && !sameVersion(*target.Version, target.wanted) {
		k.failed("version-mismatch", target.Image, fmt.Sprintf("its server says that it is %s, not %s", target.Version, target.wanted), "")
	}
	if file := aclFile(&k.facts); file != "" && trial.Started {
		k.add(operation.Finding{
			Code: "acl-file-not-tried", Severity: operation.Notice, Subject: file,
			Message: "the ACL file is on the volume: the server was tried with an empty one",
		})
	}
}

// failed adds a blocker that the trial has found.
func (k *checking) failed(code, subject, message, hint string) {
	k.add(operation.Finding{
		Code: code, Severity: operation.Critical, Subject: subject, Message: message, Hint: hint,
		Override: "--allow-failed-trial", Overridden: k.o.Overrides.Trial,
	})
}

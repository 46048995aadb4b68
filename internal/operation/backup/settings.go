package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// pausedSetting is a setting of an instance that is changed while files are copied,
// as NoteSettings records it before it is changed.
type pausedSetting struct {
	Name string `json:"name"`
	// Value is what it is set to afterwards.
	Value string `json:"value"`
	// RunID is the process that it was changed in: a restart undoes it.
	RunID string    `json:"runId"`
	Begun time.Time `json:"begun"`
}

// restoreLimit bounds how long an operation that has failed or was interrupted goes
// on trying to put a setting back.
const restoreLimit = 15 * time.Second

// settings changes settings of servers for a while. What was changed is noted with
// the deployment first, so that a later backup puts it back after kill -9. All of it
// needs the deployment's lock.
type settings struct {
	connector operation.Connector
	notes     operation.Notes
	reporter  operation.Reporter
	now       func() time.Time
	d         *operation.Deployment
}

// load returns what is changed at the moment, by instance.
func (s settings) load(ctx context.Context) (map[string]pausedSetting, error) {
	paused, err := operation.LoadNote[map[string]pausedSetting](ctx, s.notes, s.d, operation.NoteSettings, "no backup is running")
	if err != nil || paused == nil {
		return nil, err
	}
	return *paused, nil
}

func (s settings) save(ctx context.Context, paused map[string]pausedSetting) error {
	if len(paused) == 0 {
		return operation.ForgetNote(ctx, s.notes, s.d, operation.NoteSettings)
	}
	return operation.SaveNote(ctx, s.notes, s.d, operation.NoteSettings, paused)
}

// edit changes the record of one instance; nil removes it.
func (s settings) edit(ctx context.Context, instance string, setting *pausedSetting) error {
	paused, err := s.load(ctx)
	if err != nil {
		return err
	}
	if paused == nil {
		paused = make(map[string]pausedSetting)
	}
	delete(paused, instance)
	if setting != nil {
		paused[instance] = *setting
	}
	return s.save(ctx, paused)
}

// errNotPaused says that a setting cannot be changed here, and that nothing was.
var errNotPaused = errors.New("the setting cannot be changed")

// change sets a setting until the returned function is called, which may be when ctx
// has ended. An error matching errNotPaused says that nothing was changed because it
// is not allowed.
func (s settings) change(
	ctx context.Context, i operation.Instance, setting pausedSetting, to string,
) (restore func() error, err error) {
	setting.Begun = s.now().UTC()
	err = s.edit(ctx, i.Name, &setting)
	if operation.KindOf(err) == operation.Denied {
		return nil, fmt.Errorf("%w: %w", errNotPaused, err) // not without a record
	}
	if err != nil {
		return nil, err
	}
	if err := s.set(ctx, i, setting.Name, to); err != nil {
		err = errors.Join(err, s.restore(ctx, i, setting))
		if errors.Is(err, operation.ErrNoCommand) || operation.KindOf(err) == operation.Denied {
			err = fmt.Errorf("%w: %w", errNotPaused, err)
		}
		return nil, err
	}
	return func() error { return s.restore(ctx, i, setting) }, nil
}

// restore puts a setting back and removes its record, also when ctx has ended.
func (s settings) restore(ctx context.Context, i operation.Instance, setting pausedSetting) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreLimit)
	defer cancel()
	err := s.set(ctx, i, setting.Name, setting.Value)
	if errors.Is(err, operation.ErrNoCommand) || operation.KindOf(err) == operation.Denied {
		err = nil // then it could not be changed in the first place
	}
	if err == nil {
		err = s.edit(ctx, i.Name, nil)
	}
	if err == nil {
		return nil
	}
	return &operation.Error{
		Kind: operation.KindOf(err), Object: i.Name, Phase: "setting " + setting.Name + " back to " + setting.Value, Err: err,
		Next: fmt.Sprintf("the next redisctl backup aof does it, or CONFIG SET %s %s on %s", setting.Name, setting.Value, i.Name),
	}
}

// repair puts back what backups that were killed have left changed. An instance that
// was restarted since has its configured value again.
func (s settings) repair(ctx context.Context) error {
	paused, err := s.load(ctx)
	if err != nil || len(paused) == 0 {
		return err
	}
	for name, setting := range paused {
		i := s.d.Instance(name)
		runID, err := s.runID(ctx, i)
		switch {
		case i != nil && err != nil:
			s.reporter.Warn("%s of %s is still changed by the backup that was interrupted at %s: %v",
				setting.Name, name, setting.Begun.Format(time.RFC3339), err)
			continue
		case i == nil || runID != setting.RunID:
			err = s.edit(ctx, name, nil)
		default:
			s.reporter.Note("setting %s of %s back to %s, which an interrupted backup has changed", setting.Name, name, setting.Value)
			err = s.restore(ctx, *i, setting)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// runID returns which process an instance is.
func (s settings) runID(ctx context.Context, i *operation.Instance) (string, error) {
	if i == nil {
		return "", nil
	}
	server, err := s.connector.Connect(ctx, s.d, *i)
	if err != nil {
		return "", err
	}
	defer func() { _ = server.Close() }() // the answer is here; closing can only fail to say goodbye
	info, err := server.Info(ctx, "server")
	return info.Get("run_id"), err
}

// set runs CONFIG SET.
func (s settings) set(ctx context.Context, i operation.Instance, name, value string) error {
	server, err := s.connector.Connect(ctx, s.d, i)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }() // the answer is here; closing can only fail to say goodbye
	_, err = server.Do(ctx, "CONFIG", "SET", name, value)
	return err
}

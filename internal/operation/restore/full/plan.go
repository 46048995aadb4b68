package full

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/config"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// Source is a backup of everything.
type Source struct {
	Backup   restore.Backup
	Contents restore.Contents
	Objects  []Object
	Config   *backup.ConfigDocument
}

// Open verifies a backup of everything and reads what is not data.
func Open(ctx context.Context, b restore.Backup, now time.Time, report operation.Reporter) (Source, error) {
	if m := b.Entry.Manifest; m == nil || m.Kind != snapshot.KindFull {
		return Source{}, operation.Errorf(operation.Usage, "%s is no backup of everything (redisctl backup full)", b.Name())
	}
	s := Source{Backup: b}
	var err error
	report.Step("verifying the backup %s", b.Name())
	if s.Contents, err = b.Verify(ctx, now, report); err != nil {
		return Source{}, err
	}
	text, err := b.ReadFile(ctx, snapshot.FileResources)
	if err != nil {
		return Source{}, err
	}
	if s.Objects, err = ParseObjects(text); err != nil {
		return Source{}, &operation.Error{Kind: operation.Corrupt, Object: b.Name(), Phase: "reading the objects", Err: err, Unchanged: "nothing was changed"}
	}
	s.Config, err = config.Read(ctx, b)
	return s, err
}

// Plan is what a full restore is going to do.
type Plan struct {
	operation.Plan
	Backup    string `json:"backup"`
	Namespace string `json:"namespace"`
	Release   string `json:"release"`
	// Name is the StatefulSet's.
	Name string `json:"name"`
	// From is the namespace that the backup is of.
	From string `json:"from"`
	// Objects in the order in which they are applied.
	Objects []Planned `json:"objects"`
	// Changes of the objects, because the namespace or the storage class is another one.
	Changes []Change `json:"changes"`
	// Keys are those of the backup, Bytes its RDB file's size.
	Keys  int64 `json:"keys"`
	Bytes int64 `json:"bytes"`
	// Resumes is set when a restore of this backup was begun before.
	Resumes bool `json:"resumes"`
	// RTO in seconds.
	RTO float64 `json:"rtoSeconds"`

	source  Source
	options Options
	set     Object
	objects []Object // as they are to be
	values  []byte
	helm    string
	// newNamespace is to be created.
	newNamespace bool
	// replace is set when volumes hold other data.
	replace bool
}

// Planned is an object and what becomes of it.
type Planned struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Action Action `json:"action"`
}

// Action is what becomes of an object.
type Action string

// The actions.
const (
	ActionCreate Action = "create"
	ActionUpdate Action = "update"
	ActionKeep   Action = "keep"
)

// Values are the Helm values of the release, "" when the backup does not have them. They
// may hold its password.
func (p *Plan) Values() []byte { return p.values }

// Plan finds everything that stands in the way. It only reads.
func (r Restore) Plan(ctx context.Context, source Source, o Options) (*Plan, error) {
	m := source.Backup.Entry.Manifest
	p := &Plan{
		Plan:   operation.Plan{Operation: "restore full", Object: o.Namespace + "/" + m.Source.Release, Steps: []operation.Step{}, Findings: []operation.Finding{}},
		Backup: source.Backup.Name(), Namespace: o.Namespace, Release: m.Source.Release, From: m.Source.Namespace,
		Objects: []Planned{}, Changes: []Change{}, Keys: source.Contents.Summary.Keys, Bytes: source.Contents.Size,
		RTO: o.RTO.Seconds(), source: source, options: o,
	}
	set, err := workload(source.Objects, m.Source.Instance)
	if err != nil {
		return nil, &operation.Error{Kind: operation.Usage, Object: p.Backup, Phase: "reading the objects", Err: err, Unchanged: "nothing was changed"}
	}
	p.Name = set.Name
	// The namespace may be another one: that is what the user asked for.
	p.Findings = append(p.Findings, restore.Overrides{Unverified: o.Unverified, OtherRelease: true}.Common(
		p.Backup, &operation.Deployment{Namespace: m.Source.Namespace, Release: m.Source.Release}, source.Contents)...)
	if err := r.checkNamespace(ctx, p); err != nil {
		return nil, err
	}
	if !p.newNamespace {
		p.Findings = append(p.Findings, restore.Locked(ctx, r.Locker, p.stub())...)
	}
	p.moveObjects()
	if err := r.checkClasses(ctx, p); err != nil {
		return nil, err
	}
	password, err := r.checkSecrets(ctx, p)
	if err != nil {
		return nil, err
	}
	if err := r.compareObjects(ctx, p); err != nil {
		return nil, err
	}
	if err := p.planHelm(password); err != nil {
		return nil, err
	}
	p.planSteps()
	return p, nil
}

// stub is the deployment as far as it is known before it exists.
func (p *Plan) stub() *operation.Deployment {
	return &operation.Deployment{
		Namespace: p.Namespace, Release: p.Release, Name: p.Name, Workload: &operation.Workload{Kind: "StatefulSet", Name: p.Name},
	}
}

func (p *Plan) find(severity operation.Severity, code, subject, message, hint string) {
	p.Findings = append(p.Findings, operation.Finding{Code: code, Severity: severity, Subject: subject, Message: message, Hint: hint})
}

func (p *Plan) findOverridable(code, subject, message, override string, overridden bool) {
	p.Findings = append(p.Findings, operation.Finding{
		Code: code, Severity: operation.Critical, Subject: subject, Message: message, Override: override, Overridden: overridden,
	})
}

func (r Restore) checkNamespace(ctx context.Context, p *Plan) error {
	phase, err := r.Cluster.NamespacePhase(ctx, p.Namespace)
	if err != nil {
		return err
	}
	switch phase {
	case "":
		p.newNamespace = true
		p.findOverridable("no-namespace", p.Namespace, "there is no such namespace", "--create-namespace", p.options.CreateNamespace)
	case "Terminating":
		p.find(operation.Critical, "namespace-terminating", p.Namespace, "it is being deleted", "wait until it is gone, or choose another one")
	}
	return nil
}

// moveObjects makes the objects those of the namespace.
func (p *Plan) moveObjects() {
	services := serviceNames(p.source.Objects)
	var mentions []string
	for _, o := range slices.Concat(p.options.Secrets, p.source.Objects) {
		changes, named := o.move(services, p.From, p.Namespace)
		p.Changes = append(p.Changes, changes...)
		mentions = append(mentions, named...)
		for _, spec := range o.claims() {
			p.Changes = append(p.Changes, p.settleClaim(o, spec)...)
		}
		if o.Kind == "StatefulSet" && o.Name == p.Name {
			p.set = o
		}
		p.objects = append(p.objects, o)
	}
	if len(mentions) > 0 {
		p.find(operation.Warning, "names-old-namespace", p.Namespace,
			fmt.Sprintf("%s is named where redisctl does not know what it means: %s", p.From, strings.Join(mentions, "; ")),
			"look whether it has to be "+p.Namespace)
	}
}

// settleClaim sets the storage class, and leaves out that the volume was made from a
// snapshot: the data comes from the backup.
func (p *Plan) settleClaim(o Object, spec map[string]any) []Change {
	var changes []Change
	change := func(field, from, to string) {
		changes = append(changes, Change{Object: o.String(), Path: field, From: from, To: to})
	}
	if class := p.options.StorageClass; class != "" && textAt(spec, "storageClassName") != class {
		change("storageClassName", textAt(spec, "storageClassName"), class)
		spec["storageClassName"] = class
	}
	for _, field := range []string{"dataSource", "dataSourceRef"} {
		if spec[field] != nil {
			change(field, textAt(spec[field], "kind")+" "+textAt(spec[field], "name"), "")
			delete(spec, field)
		}
	}
	return changes
}

// checkClasses makes sure that volumes can be made.
func (r Restore) checkClasses(ctx context.Context, p *Plan) error {
	wanted := map[string]string{}
	for _, o := range p.objects {
		for _, spec := range o.claims() {
			wanted[textAt(spec, "storageClassName")] = o.String()
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	names, standard, err := r.Cluster.StorageClasses(ctx)
	if operation.KindOf(err) == operation.Denied {
		p.find(operation.Warning, "storage-classes-unknown", p.Namespace, "the storage classes cannot be read: "+err.Error(), "")
		return nil
	}
	if err != nil {
		return err
	}
	for class, object := range wanted {
		if class == "" && standard == "" {
			p.find(operation.Critical, "no-default-storage-class", object, "it asks for the default storage class, and the cluster has none",
				"--storage-class with one of: "+strings.Join(names, ", "))
		}
		if class != "" && !slices.Contains(names, class) {
			p.find(operation.Critical, "no-storage-class", object, "the cluster has no storage class "+class, "--storage-class with one of: "+strings.Join(names, ", "))
		}
	}
	return nil
}

// compareObjects finds out what is there already.
func (r Restore) compareObjects(ctx context.Context, p *Plan) error {
	for i := range p.objects {
		o := p.objects[i]
		if o.holdsPlaceholder() {
			p.find(operation.Critical, "secret-not-included", o.String(), "a password in it is not in the backup",
				"choose a backup that was taken with --include-secrets")
		}
		found := Presence{}
		if !p.newNamespace {
			var err error
			if found, err = r.Cluster.Compare(ctx, o); err != nil {
				return err
			}
		}
		p.judge(o, found)
	}
	return nil
}

// judge decides what becomes of an object.
func (p *Plan) judge(o Object, found Presence) {
	planned := Planned{Kind: o.Kind, Name: o.Name, Action: ActionKeep}
	defer func() { p.Objects = append(p.Objects, planned) }()
	ours := found.From == p.Backup
	switch {
	case !found.Exists:
		planned.Action = ActionCreate
	case ours && o.Kind == "StatefulSet" && o.Name == p.Name:
		p.Resumes = true // its data is on its way, and scales it
	case ours:
		if !found.Equal && o.Kind != "Secret" && o.Kind != "PersistentVolumeClaim" {
			planned.Action = ActionUpdate
		}
	case o.Kind == "PersistentVolumeClaim":
		p.replace = true
		p.findOverridable("volume-exists", o.String(), "it exists: what it holds would be loaded; it is kept beside, and replaced", "--replace", p.options.Replace)
	case o.Kind == "Secret" && !found.Equal:
		p.findOverridable("object-exists", o.String(), "it exists and is another one than in the backup; it would be kept", "--adopt", p.options.Adopt)
	case found.Equal:
		p.findOverridable("object-exists", o.String(), "it exists already, as it is in the backup", "--adopt", p.options.Adopt)
	case found.From != "":
		p.find(operation.Critical, "object-of-other-restore", o.String(), "it was restored from "+found.From, "finish that restore, or delete the objects")
	default:
		p.find(operation.Critical, "object-exists", o.String(), "it exists and is not as in the backup: "+found.Difference, "delete it, or choose another namespace")
	}
}

// checkSecrets makes sure that the pods will find their Secrets, adds that of the
// password, and returns the password if it is not in the backup.
func (r Restore) checkSecrets(ctx context.Context, p *Plan) (string, error) {
	password := ""
	own, hasPassword := p.set.passwordRef()
	for _, ref := range p.set.secretRefs() {
		isPassword := hasPassword && ref == own
		if slices.ContainsFunc(p.objects, func(o Object) bool { return o.Kind == "Secret" && o.Name == ref.name }) {
			continue
		}
		var data map[string][]byte
		if !p.newNamespace {
			var err error
			if data, err = r.Cluster.SecretData(ctx, p.Namespace, ref.name); err != nil {
				return "", err
			}
		}
		value, there := data[ref.key]
		switch {
		case data != nil && (ref.key == "" || there):
			if isPassword {
				password = string(value)
				p.comparePassword(ref, value)
			}
		case data != nil:
			p.find(operation.Critical, "secret-without-key", "Secret "+ref.name, "it has no key "+ref.key, "")
		case isPassword && (p.options.Password != "" || p.options.Generate):
			var err error
			if password, err = r.password(p.options); err != nil {
				return "", err
			}
			p.objects = slices.Insert(p.objects, 0, p.passwordSecret(ref, password))
		case isPassword:
			p.find(operation.Critical, "secret-missing", "Secret "+ref.name, "the password is not in the backup, and there is no such Secret in "+p.Namespace,
				"--password-file, --generate-password, --secret-from-file, or a backup that was taken with --include-secrets")
		default:
			p.find(operation.Critical, "secret-missing", "Secret "+ref.name, "the pods need it: it is not in the backup, nor in "+p.Namespace,
				"--secret-from-file, or a backup that was taken with --include-secrets")
		}
	}
	if (p.options.Password != "" || p.options.Generate) && password == "" && len(p.Blockers()) == 0 {
		p.find(operation.Critical, "password-not-needed", "Secret "+cmp.Or(own.name, p.Name), "the backup has the password, or the release has none",
			"leave --password-file and --generate-password out")
	}
	return password, nil
}

func (r Restore) password(o Options) (string, error) {
	if o.Password != "" {
		return o.Password, nil
	}
	return r.Random()
}

// comparePassword blocks a password that is not the one that is there.
func (p *Plan) comparePassword(ref secretRef, there []byte) {
	if p.options.Password != "" && !bytes.Equal(there, []byte(p.options.Password)) {
		p.find(operation.Critical, "secret-exists", "Secret "+ref.name, "it exists and has another password", "leave --password-file out, or delete the Secret")
	}
}

// passwordSecret is the Secret as the chart makes it.
func (p *Plan) passwordSecret(ref secretRef, password string) Object {
	metadata := map[string]any{"name": ref.name, "namespace": p.Namespace}
	if ref.name == p.Name { // the chart's own: Helm takes it over by its labels
		metadata["labels"] = at(p.set.Content, "metadata", "labels")
		if annotations, ok := at(p.set.Content, "metadata", "annotations").(map[string]any); ok {
			kept := map[string]any{}
			for name, value := range annotations {
				if strings.HasPrefix(name, "meta.helm.sh/") {
					kept[name] = value
				}
			}
			metadata["annotations"] = kept
		}
	}
	return Object{Kind: "Secret", Namespace: p.Namespace, Name: ref.name, Content: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata,
		"data": map[string]any{ref.key: base64Of(password)},
	}}
}

func (p *Plan) planSteps() {
	add := func(mutates bool, subject, format string, args ...any) {
		p.Steps = append(p.Steps, operation.Step{Action: fmt.Sprintf(format, args...), Subject: subject, Mutates: mutates})
	}
	if p.newNamespace {
		add(true, p.Namespace, "create the namespace")
	}
	add(true, p.Object, "take the release's lock")
	for _, o := range p.Objects {
		if o.Action != ActionKeep {
			add(true, o.Kind+" "+o.Name, "%s it", o.Action)
		}
	}
	add(false, p.Name+"-0", "wait until it serves")
	add(true, p.Name, "restore %d keys, and compare them with the backup", p.Keys)
	add(false, p.Name, "wait until all replicas are in sync and all Services lead to them")
	add(false, p.Name, "compare its settings with those in the backup")
}

package config

import "github.com/spf13/pflag"

// Source is the kind of place that a setting comes from.
type Source string

// The sources, in the order in which they win.
const (
	SourceFlag        Source = "flag"
	SourceEnvironment Source = "environment"
	SourceProfile     Source = "profile"
	SourceFile        Source = "file"
	SourceDefault     Source = "default"
)

// Origin is where a setting comes from.
type Origin struct {
	Source Source
	// Place is the variable, the file, or the profile and its file; empty for flags and
	// defaults.
	Place string
}

// String returns how errors begin that are about a value from there.
func (o Origin) String() string {
	if o.Source == SourceProfile {
		return "profile " + o.Place
	}
	return o.Place
}

// OriginOf returns where a flag's value came from, after Apply.
func (s *Settings) OriginOf(f *pflag.Flag) Origin {
	if from, ok := s.applied[f.Name]; ok {
		return from
	}
	if f.Changed {
		return Origin{Source: SourceFlag}
	}
	return Origin{Source: SourceDefault}
}

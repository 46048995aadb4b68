package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// profilesKey holds the profiles in the file.
const profilesKey = "profiles"

// Profiles returns the names of the file's profiles, sorted. The file's format makes them
// lower-case.
func (s *Settings) Profiles() []string { return slices.Sorted(maps.Keys(s.profiles())) }

// UseProfile makes a profile win over the file's top level. The error lists the profiles
// that there are.
func (s *Settings) UseProfile(name string) error {
	for _, known := range s.Profiles() {
		if strings.EqualFold(known, name) {
			s.Profile = known
			return nil
		}
	}
	where := s.File
	if where == "" {
		return fmt.Errorf("there is no profile %q: there is no configuration file", name)
	}
	if len(s.Profiles()) == 0 {
		return fmt.Errorf("there is no profile %q: %s has no profiles", name, where)
	}
	return fmt.Errorf("there is no profile %q in %s; it has %s", name, where, strings.Join(s.Profiles(), ", "))
}

// NeedsContext reports whether a profile could be chosen by the context of the kubeconfig.
func (s *Settings) NeedsContext() bool {
	for _, p := range s.profiles() {
		if text(p["context"]) != "" {
			return true
		}
	}
	return false
}

// MatchProfile uses the profile whose context is the given one, if there is one. Several
// are an error: which of them is meant must be said.
func (s *Settings) MatchProfile(context string) error {
	var matches []string
	for _, name := range s.Profiles() {
		if of := text(s.profiles()[name]["context"]); of != "" && of == context {
			matches = append(matches, name)
		}
	}
	switch len(matches) {
	case 0:
		return nil
	case 1:
		s.Profile = matches[0]
		return nil
	default:
		return fmt.Errorf("the profiles %s in %s are all for the context %s: choose one with --profile",
			strings.Join(matches, ", "), s.File, context)
	}
}

// profile returns the settings of the profile in use.
func (s *Settings) profile() map[string]any {
	if s.Profile == "" {
		return nil
	}
	return s.profiles()[s.Profile]
}

// profiles returns what the file has, nil when it is not a map. A profile that is empty
// in the file is an empty map here.
func (s *Settings) profiles() map[string]map[string]any {
	raw, ok := s.values.Get(profilesKey).(map[string]any)
	if !ok {
		return nil
	}
	found := make(map[string]map[string]any, len(raw))
	for name, value := range raw {
		settings, _ := value.(map[string]any)
		found[name] = settings
	}
	return found
}

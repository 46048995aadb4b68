package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
)

// freeFlags are the flags whose value only the user knows, by why that is.
func freeFlags() map[string][]string {
	return map[string][]string{
		"a number": {
			"connections", "depth", "examples", "keep-daily", "keep-hourly", "keep-last", "keep-monthly", "keep-weekly", "keep-yearly",
			"limit", "log-lines", "max-bytes", "max-lag", "max-memory", "max-payload", "max-size", "min-size", "parallel", "port", "prefixes",
			"replicas", "sample", "tail", "top", "count", "samples", "scan-count", "until-command", "min-bytes", "min-count", "page", "rate", "width",
		},
		"names of the user's own": {
			"address", "username", "tls-server-name", "s3-endpoint", "s3-region", "s3-profile", "delimiter", "encrypt-to", "exclude", "match",
			"map-db", "only", "set", "set-string", "green", "name", "into", "grep", "until-offset", "workload", "db",
		},
		"a folder, which shells complete, or the URL of object storage": {"to", "from", "backup-to"},
		"an address of this machine":                                    {"bind"},
		"a file or folder, which shells complete where nothing else is said": {
			"backup-dir", "chart", "config", "html", "identity", "kubeconfig", "password-file", "passphrase-file", "recipients-file", "set-file", "s3-ca", "secret-from-file",
			"server", "tls-ca", "tls-cert", "tls-key", "values",
		},
		"a time or a size":                        {"keep-within", "since", "until", "memory", "older-than"},
		"an image, which only its registry lists": {"image"},
	}
}

// TestEveryFlagCompletes: TAB behind every flag offers what can be known. A duration
// completes nothing; a switch has no value.
func TestEveryFlagCompletes(t *testing.T) {
	free := freeFlags()
	root := newApp(System{LookupEnv: func(string) (string, bool) { return "", false }}).newRootCommand()
	eachFlag(root, func(cmd *cobra.Command, f *pflag.Flag) {
		if f.NoOptDefVal != "" || f.Value.Type() == "bool" || f.Value.Type() == "duration" || f.Hidden {
			return
		}
		if _, ok := cmd.GetFlagCompletionFunc(f.Name); ok || len(f.Annotations) > 0 {
			return
		}
		for _, names := range free {
			if slices.Contains(names, f.Name) {
				return
			}
		}
		t.Errorf("%s --%s completes nothing: give it a completer, or a reason in freeFlags", cmd.CommandPath(), f.Name)
	})
}

// TestEveryArgumentCompletes: what stands in a usage line can be completed.
func TestEveryArgumentCompletes(t *testing.T) {
	free := map[string]string{
		"redisctl help":                     "",
		"redisctl maintenance keys":         "a pattern of keys",
		"redisctl keys":                     "a pattern of keys",
		"redisctl maintenance port-forward": "",
	}
	eachCommand(func(cmd *cobra.Command) {
		_, arguments, _ := strings.Cut(cmd.Use, " ")
		if _, ok := free[cmd.CommandPath()]; ok || arguments == "" || strings.HasPrefix(arguments, "-- ") || arguments == "[flags]" {
			return
		}
		assert.True(t, cmd.ValidArgsFunction != nil || len(cmd.ValidArgs) > 0,
			"%s: the argument %s completes nothing", cmd.CommandPath(), arguments)
	})
}

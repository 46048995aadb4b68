package helm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/cli/values"

	"github.com/redisctl/redisctl/internal/operation"
)

// ParseValues reads values the way `helm upgrade` does: the files of -f first, each over
// those before it, then --set, --set-string and --set-file, in this order. Files are
// read from this machine only. The error is of kind operation.Usage; it names the file
// or the key, never a value, which may be a secret.
func ParseValues(files, set, setString, setFile []string) (map[string]any, error) {
	prepareSDK()
	for _, file := range files {
		if err := checkFile(file); err != nil {
			return nil, err
		}
	}
	flags := []struct {
		name   string
		values []string
		one    func(string) values.Options
	}{
		{"--set", set, func(v string) values.Options { return values.Options{Values: []string{v}} }},
		{"--set-string", setString, func(v string) values.Options { return values.Options{StringValues: []string{v}} }},
		{"--set-file", setFile, func(v string) values.Options { return values.Options{FileValues: []string{v}} }},
	}
	for _, flag := range flags {
		for _, value := range flag.values {
			one := flag.one(value)
			if _, err := one.MergeValues(nil); err != nil {
				return nil, flagError(flag.name, value, err)
			}
		}
	}
	all := values.Options{ValueFiles: files, Values: set, StringValues: setString, FileValues: setFile}
	merged, err := all.MergeValues(nil)
	if err != nil {
		return nil, operation.Errorf(operation.Usage, "the values cannot be merged: a key has a value here, and values below it there")
	}
	return merged, nil
}

// checkFile reports what keeps a file from being one of values.
func checkFile(path string) error {
	failure := &operation.Error{Kind: operation.Usage, Object: "values file " + path}
	if strings.TrimSpace(path) == "-" {
		failure.Err = errors.New("standard input is for answers: give the values a file")
		return failure
	}
	file, err := os.Open(path)
	if err != nil {
		failure.Err = reason(err)
		return failure
	}
	defer func() { _ = file.Close() }() // it was only read
	if _, err := loader.LoadValues(file); err != nil {
		failure.Err = fmt.Errorf("it is not a YAML map of values%s", lineOf(err))
		return failure
	}
	return nil
}

// lineOf keeps the line number of a YAML error, and not what the line says.
func lineOf(err error) string {
	if line := regexp.MustCompile(`line \d+`).FindString(err.Error()); line != "" {
		return ": see " + line
	}
	return ""
}

func flagError(flag, value string, err error) error {
	key, _, found := strings.Cut(value, "=")
	failure := &operation.Error{Kind: operation.Usage, Object: flag}
	switch {
	case !found:
		failure.Err = errors.New("it must be KEY=VALUE")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		failure.Object += " " + key
		failure.Err = reason(err)
	default:
		failure.Object += " " + key
		failure.Err = errors.New(`it cannot be read; write "\," for a comma in a value, and the index of a list as KEY[0]`)
	}
	return failure
}

// reason is err without the path, which the error's object has.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// merge returns values with over laid over under; maps are merged key by key. A null
// stays: it removes what the chart has there by default. Neither argument is changed.
func merge(over, under map[string]any) map[string]any {
	merged := union(nil, under)
	for key, value := range over {
		above, ok := value.(map[string]any)
		below, both := merged[key].(map[string]any)
		if ok && both {
			value = merge(above, below)
		}
		merged[key] = value
	}
	return merged
}

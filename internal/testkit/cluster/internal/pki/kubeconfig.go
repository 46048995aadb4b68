package pki

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/atomicfile"
)

// WriteKubeconfig writes a kubeconfig with one context called name, for the
// user of the given certificate. Certificates are embedded, so that the file
// can be copied. The format is JSON, which every kubeconfig reader takes as
// the YAML it is.
func WriteKubeconfig(file, name, server string, authority *Authority, certFile, keyFile string) error {
	data := map[string]string{}
	for field, source := range map[string]string{"ca": authority.CertFile(), "cert": certFile, "key": keyFile} {
		text, err := os.ReadFile(source)
		if err != nil {
			return fmt.Errorf("writing %s: %w", file, err)
		}
		data[field] = base64.StdEncoding.EncodeToString(text)
	}
	config := map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": []any{map[string]any{"name": name, "cluster": map[string]any{
			"server": server, "certificate-authority-data": data["ca"],
		}}},
		"users": []any{map[string]any{"name": name, "user": map[string]any{
			"client-certificate-data": data["cert"], "client-key-data": data["key"],
		}}},
		"contexts": []any{map[string]any{"name": name, "context": map[string]any{"cluster": name, "user": name}}},
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return atomicfile.Write(file, append(text, '\n'), 0o600)
}

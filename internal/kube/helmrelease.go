package kube

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
)

// maxRelease is the longest release record that is decoded, in bytes. A Secret holds
// at most 1 MiB of it, compressed.
const maxRelease = 64 << 20

// HelmRelease implements backup.Objects. Helm keeps each revision in a Secret of type
// helm.sh/release.v1 whose only key holds base64 of gzip of JSON (pkg/storage/driver
// in Helm); the values of installations that keep their records elsewhere are not
// found.
func (c *Client) HelmRelease(parent context.Context, d *operation.Deployment) (*backup.HelmRelease, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	read := request{verb: "list", resource: "secrets", namespace: d.Namespace}
	list, err := c.clientset.CoreV1().Secrets(d.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: "owner=helm,name=" + d.Release,
	})
	if err != nil {
		return nil, c.failure(parent, read, err)
	}
	if len(list.Items) == 0 {
		return nil, &operation.Error{
			Kind: operation.Failed, Object: d.String(), Phase: "reading the Helm release",
			Err: fmt.Errorf("%w: there is no Secret with the labels owner=helm,name=%s", fs.ErrNotExist, d.Release),
		}
	}
	newest := slices.MaxFunc(list.Items, func(a, b corev1.Secret) int {
		return cmp.Or(
			cmp.Compare(unless(a.Labels["status"] != "deployed"), unless(b.Labels["status"] != "deployed")),
			cmp.Compare(revision(&a), revision(&b)),
		)
	})
	release, err := decodeRelease(newest.Data["release"])
	if err != nil {
		// What did not decode may be a secret: the error names the object only.
		return nil, &operation.Error{
			Kind: operation.Failed, Object: "Secret " + d.Namespace + "/" + newest.Name, Phase: "reading the Helm release", Err: err,
		}
	}
	return release, nil
}

func revision(secret *corev1.Secret) int {
	n, _ := strconv.Atoi(secret.Labels["version"]) // 0 sorts first
	return n
}

// decodeRelease reads what Helm stores of a revision.
func decodeRelease(data []byte) (*backup.HelmRelease, error) {
	compressed, err := base64.StdEncoding.DecodeString(string(data))
	if err != nil {
		return nil, errors.New("it is not base64")
	}
	text := compressed
	if bytes.HasPrefix(compressed, []byte{0x1f, 0x8b}) { // Helm 2 did not compress
		reader, err := gzip.NewReader(bytes.NewReader(compressed))
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		text, err = io.ReadAll(io.LimitReader(reader, maxRelease+1))
		if err != nil || len(text) > maxRelease {
			return nil, errors.New("it is damaged or too large")
		}
	}
	var record struct {
		Name    string `json:"name"`
		Version int    `json:"version"`
		Info    struct {
			Status string `json:"status"`
		} `json:"info"`
		Chart struct {
			Metadata struct {
				Name       string `json:"name"`
				Version    string `json:"version"`
				AppVersion string `json:"appVersion"`
			} `json:"metadata"`
		} `json:"chart"`
		Config map[string]any `json:"config"`
	}
	if err := json.Unmarshal(text, &record); err != nil {
		return nil, errors.New("it is not the JSON that Helm writes")
	}
	if record.Config == nil {
		record.Config = map[string]any{}
	}
	return &backup.HelmRelease{
		Name: record.Name, Revision: record.Version, Status: record.Info.Status,
		Chart:      record.Chart.Metadata.Name + "-" + record.Chart.Metadata.Version,
		AppVersion: record.Chart.Metadata.AppVersion, Values: record.Config,
	}, nil
}

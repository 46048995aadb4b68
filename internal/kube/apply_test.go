package kube

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/redisctl/redisctl/internal/operation/restore/full"
)

// What the cluster and redisctl note at an object is no difference; its place is named,
// its value is not.
func TestFirstDifference(t *testing.T) {
	object := func(change func(map[string]any)) map[string]any {
		content := map[string]any{
			"metadata": map[string]any{"name": "n", "labels": map[string]any{"a": "b"}},
			"data":     map[string]any{"password": "secret"},
		}
		if change != nil {
			change(content)
		}
		return essence(&unstructured.Unstructured{Object: content})
	}
	metadata := func(content map[string]any) map[string]any { return content["metadata"].(map[string]any) }
	for _, c := range []struct {
		name   string
		change func(map[string]any)
		want   string
	}{
		{"nothing", nil, ""},
		{"the cluster's fields", func(o map[string]any) { metadata(o)["uid"], o["status"] = "u", map[string]any{"x": "y"} }, ""},
		{"redisctl's annotations", func(o map[string]any) {
			metadata(o)["annotations"] = map[string]any{full.AnnotationFrom: "full-1"}
		}, ""},
		{"another annotation", func(o map[string]any) { metadata(o)["annotations"] = map[string]any{"x": "y"} }, "metadata.annotations"},
		{"a value", func(o map[string]any) { o["data"] = map[string]any{"password": "other"} }, "data.password"},
		{"one more", func(o map[string]any) { metadata(o)["labels"] = map[string]any{"a": "b", "c": "d"} }, "metadata.labels.c"},
		{"one less", func(o map[string]any) { delete(o, "data") }, "data"},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, firstDifference(object(nil), object(c.change), ""))
		})
	}
}

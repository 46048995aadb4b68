package render

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type inner struct {
	Names []string `json:"names"`
}

type Outer struct {
	inner                   // it cannot be set, its fields can
	Pointer *inner          `json:"pointer"`
	Absent  *inner          `json:"absent"`
	List    []inner         `json:"list"`
	Left    []string        `json:"left,omitempty"`
	Zero    []string        `json:"zero,omitzero"`
	Any     any             `json:"any"`
	Nothing any             `json:"nothing"`
	Bytes   []byte          `json:"bytes"`
	Raw     json.RawMessage `json:"raw"`
	Time    time.Time       `json:"time"`
	Map     map[string]int  `json:"map"`
	hidden  []string
}

func TestNilListsAreEmpty(t *testing.T) {
	value := Outer{Pointer: &inner{}, List: []inner{{}, {Names: []string{"a"}}}, Any: inner{}, hidden: []string{"h"}}
	text, err := json.Marshal(listed(struct {
		*Outer
		More []*inner `json:"more"`
	}{Outer: &value}))
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"names": [], "pointer": {"names": []}, "absent": null, "list": [{"names": []}, {"names": ["a"]}],
		"any": {"names": []}, "nothing": null, "bytes": null, "raw": null, "time": "0001-01-01T00:00:00Z", "map": null, "more": []
	}`, string(text))
	assert.Nil(t, value.Pointer.Names, "the caller's own value is as it was")
	assert.Nil(t, value.List[0].Names)
	assert.Nil(t, listed(nil))
}

package render

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestBar(t *testing.T) {
	for _, test := range []struct {
		value, top int64
		columns    int
		want       string
	}{
		{10, 10, 4, "████"}, {5, 10, 4, "██"}, {1, 10, 5, "▌"}, {7, 16, 4, "█▊"}, {1, 1 << 60, 4, "▏"}, {99, 10, 2, "██"},
		{0, 10, 4, ""}, {-1, 10, 4, ""}, {1, 0, 4, ""}, {1, 1, 0, ""}, {1 << 62, 1 << 62, 3, "███"},
	} {
		assert.Equal(t, test.want, Bar(test.value, test.top, test.columns), "%d of %d", test.value, test.top)
	}
}

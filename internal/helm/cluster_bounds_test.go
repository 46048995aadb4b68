package helm

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBounded(t *testing.T) {
	arrived, answer := make(chan struct{}, 1), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-answer:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	send := func(ctx context.Context, method string, limit time.Duration) error {
		client := &http.Client{Transport: &bounded{next: http.DefaultTransport, caller: ctx, limit: limit, finishWrites: true}}
		request, err := http.NewRequestWithContext(context.Background(), method, server.URL, nil)
		require.NoError(t, err)
		response, err := client.Do(request)
		if err == nil {
			err = response.Body.Close()
		}
		return err
	}
	gaveUp := errors.New("the user gave up")
	start := func(method string) (giveUp func(), result chan error) {
		ctx, cancel := context.WithCancelCause(t.Context())
		result = make(chan error, 1)
		go func() { result <- send(ctx, method, time.Minute) }()
		<-arrived
		return func() { cancel(gaveUp) }, result
	}

	giveUp, result := start(http.MethodGet)
	giveUp()
	require.ErrorIs(t, <-result, gaveUp)

	giveUp, result = start(http.MethodPut)
	giveUp()
	answer <- struct{}{}
	require.NoError(t, <-result, "what records a revision is finished")

	err := send(t.Context(), http.MethodPut, time.Millisecond)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

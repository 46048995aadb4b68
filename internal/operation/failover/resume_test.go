package failover_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// Servers that let nobody in are not servers that are gone: advice to force a failover
// would lose data of a primary that is well.
func TestInterruptedSwitchOfServersThatDenyAccess(t *testing.T) {
	old := redisserver.Start(t, redisserver.Options{Version: redisserver.Redis70, Password: "secret"})
	other := redisserver.Start(t, redisserver.Options{Version: redisserver.Redis70, Password: "secret"})
	connector := plainConnector()
	d := resolve(t, old.Addr, other.Addr)
	record, err := json.Marshal(failover.Record{From: old.Addr, To: other.Addr})
	require.NoError(t, err)
	op := failover.Failover{
		Connector: connector, Pauser: pauser{connector}, Traffic: nothing{}, Notes: notes{operation.NoteFailover: string(record)}, Locker: nothing{},
		Reporter: operation.DiscardReporter{}, Now: time.Now, By: "test",
	}
	limits := failover.DefaultLimits()
	_, _, resumed := op.Resume(t.Context(), d, limits)
	_, aborted := op.Abort(t.Context(), d, failover.AbortOptions{Limits: limits})
	for _, err := range []error{resumed, aborted} {
		assert.Equal(t, operation.Denied, operation.KindOf(err), "%v", err)
		var e *operation.Error
		require.ErrorAs(t, err, &e)
		assert.NotContains(t, e.Next, "force")
	}
}

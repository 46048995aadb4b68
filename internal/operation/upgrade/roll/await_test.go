package roll

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// A replica that finds its link up, but is not sent anything yet, is not one that the
// primary could be handed over to: the pod is waited for.
func TestInSyncIsWhatAHandOverAsksFor(t *testing.T) {
	d := operationtest.Deployment(2)
	for state, want := range map[string]bool{"online": true, "send_bulk": false} {
		primary := operationtest.Primary().Set(map[string]string{
			"connected_slaves": "1", "slave0": "ip=" + d.Instances[1].Host + ",port=6379,state=" + state + ",offset=1000,lag=0",
		})
		fleet := operationtest.Fleet{d.Instances[0].Name: primary, d.Instances[1].Name: operationtest.Replica(d.Instances[0].Host)}
		observed := topology.Observe(t.Context(), fleet, d, time.Second)
		one, err := observed.Primary()
		require.NoError(t, err)
		replica := observed.Member(d.Instances[1].Name)
		require.Equal(t, "up", replica.Link())
		assert.Equal(t, want, inSync(one, replica), state)
	}
}

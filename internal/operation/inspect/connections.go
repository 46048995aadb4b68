package inspect

import (
	"context"
	"sync"

	"github.com/redisctl/redisctl/internal/operation"
)

// Connections is a Connector that connects once to each instance, for what asks again
// and again. After a failure the connection must be dropped: a pool of connections that
// could not be opened reports its old failure for a while, although the server is back.
// Close it.
type Connections struct {
	connector operation.Connector
	mu        sync.Mutex
	open      map[string]operation.Server
}

// NewConnections returns Connections that connector opens.
func NewConnections(connector operation.Connector) *Connections {
	return &Connections{connector: connector, open: make(map[string]operation.Server)}
}

// Connect implements operation.Connector.
func (c *Connections) Connect(ctx context.Context, d *operation.Deployment, i operation.Instance) (operation.Server, error) {
	c.mu.Lock()
	server, ok := c.open[i.Name]
	c.mu.Unlock()
	if ok {
		return kept{server}, nil
	}
	server, err := c.connector.Connect(ctx, d, i)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[i.Name] = server
	return kept{server}, nil
}

// Drop closes the connection to an instance; the next Connect opens another one.
func (c *Connections) Drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if server, ok := c.open[name]; ok {
		_ = server.Close() // it is broken already
		delete(c.open, name)
	}
}

// Close closes all connections.
func (c *Connections) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, server := range c.open {
		_ = server.Close() // everything was said
		delete(c.open, name)
	}
}

// kept is a Server that stays open when its user closes it.
type kept struct{ operation.Server }

// Close implements operation.Server.
func (kept) Close() error { return nil }

package redisconn

import (
	"context"
	"fmt"

	"github.com/redisctl/redisctl/internal/operation"
)

// Atomically runs commands on an instance between MULTI and EXEC, so that no command
// of another client comes in between. Commands are translated to the names that the
// deployment gives them. The error is that of the first command that failed; after
// an error it is not known whether others ran.
func (c Connector) Atomically(ctx context.Context, d *operation.Deployment, i operation.Instance, commands ...[]any) error {
	o, err := c.Options(ctx, d, i)
	if err != nil {
		return err
	}
	client := Open(o)
	defer func() { _ = client.Close() }() // the answers are here
	translated := make([][]any, len(commands))
	for n, command := range commands {
		translated[n] = append([]any{o.commandName(fmt.Sprint(command[0]))}, command[1:]...)
	}
	_, err = client.transaction(ctx, phase(commands[0]), translated...)
	return err
}

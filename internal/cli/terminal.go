package cli

import (
	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
)

// terminalCommands are the commands of a live look at a release. They are there twice: in
// the group `maintenance`, beside the rest of the daily work, and at the top level, where
// somebody in a hurry types them.
func (a *app) terminalCommands() []*cobra.Command {
	return []*cobra.Command{
		a.newShellCommand(),
		a.newTopCommand(),
		a.newLogsCommand(),
		a.newDescribeCommand(),
		a.newEventsCommand(),
		a.newPortForwardCommand(),
	}
}

// needsCluster refuses --address, with what to use instead.
func (a *app) needsCluster(instead string) error {
	if len(a.globals.target.Addresses) == 0 {
		return nil
	}
	return &operation.Error{
		Kind: operation.Usage, Err: errNoCluster, Next: instead,
	}
}

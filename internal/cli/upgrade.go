package cli

import "github.com/spf13/cobra"

func (a *app) newUpgradeCommand() *cobra.Command {
	return newGroup("upgrade", "Change the version of a serving release, losing nothing",
		`Upgrades a release whose clients go on: check finds what stands in the way before anything
is changed.`,
		a.newUpgradeCheckCommand(),
		a.newUpgradeApplyCommand(),
		a.newUpgradeValidateCommand(),
		a.newUpgradeStatusCommand(),
		a.newUpgradeResumeCommand(),
		a.newUpgradeAbortCommand(),
		a.newUpgradeRollbackCommand(),
		a.newUpgradeCutoverCommand(),
		a.newUpgradeFailbackCommand(),
		a.newUpgradeFinishCommand(),
	)
}

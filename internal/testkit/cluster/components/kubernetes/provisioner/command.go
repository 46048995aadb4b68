package provisioner

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// NewCommand returns the command that runs the provisioner until it is told to
// stop.
func NewCommand() *cobra.Command {
	var kubeconfig, root string
	cmd := &cobra.Command{
		Use:  "volume-provisioner",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return fmt.Errorf("reading the kubeconfig: %w", err)
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return fmt.Errorf("making the client: %w", err)
			}
			root, err := filepath.Abs(root)
			if err != nil {
				return fmt.Errorf("resolving the volumes' folder: %w", err)
			}
			controller.NewProvisionController(cmd.Context(), client, Name, folders{root: root},
				controller.LeaderElection(false)).Run(cmd.Context())
			return nil
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig to identify with")
	cmd.Flags().StringVar(&root, "root", "", "folder to make the volumes in")
	return cmd
}

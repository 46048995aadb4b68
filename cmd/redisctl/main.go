// Command redisctl operates Redis on Kubernetes and proves what it did.
package main

import (
	"os"

	"github.com/redisctl/redisctl/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }

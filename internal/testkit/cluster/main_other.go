//go:build !linux

// Command cluster runs a real one-node Kubernetes on a Linux machine. On any
// other system it only says so.
package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "the local cluster cannot run here: it needs Linux, this is %s\n", runtime.GOOS)
	os.Exit(2)
}

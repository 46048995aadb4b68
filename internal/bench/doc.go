// Package bench compares redisctl with what it cannot do without (the server's own
// time to send a snapshot) and with the tools that people use in its place. `make
// bench` runs it and writes the results, with the machine, to docs/benchmarks.md.
//
// Both contestants get the same data and run in turn in one go, each as often first as
// second (ABBA), so that whatever else slows the machine down slows both. Programs are
// run as a user runs them: the time of a run includes starting the process, and its
// memory is the largest resident size that the kernel accounts it with.
//
// The data is that of a web application (rdbtest.Realistic), about a third of which is
// compressible. It is loaded by every version from one file; what a version makes of it
// differs in size.
//
// The package needs Linux and `make servers`; one benchmark also needs `make
// cluster-up`, and says so in its row where there is no cluster. BENCH_LARGE=1 adds the
// memory at 4 GB, which takes five minutes and 12 GB of memory.
package bench

# redisctl. `make demo` shows the main job on a real cluster on this machine,
# `make test` passes every test; both install what they need.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Everything that is built or prepared outside this checkout lives in one folder.
export REDISCTL_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/redisctl
BIN     := $(REDISCTL_CACHE)/bin
CLUSTER := $(BIN)/cluster

GOLANGCI_LINT_VERSION := v2.15.0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short HEAD 2>/dev/null)
STAMP   := github.com/redisctl/redisctl/internal/cli
# One build cache for tests, lint and the static program; what needs C says so.
export CGO_ENABLED ?= 0
LDFLAGS := -s -w -X $(STAMP).Version=$(VERSION) -X $(STAMP).Commit=$(COMMIT)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build bin/redisctl
	go build -ldflags '$(LDFLAGS)' -o bin/redisctl ./cmd/redisctl

.PHONY: demo
demo: build cluster-up ## Show the main job on a real cluster: install, health, backup, verify, restore, failover, heal
	go run ./internal/testkit/demo

.PHONY: test
test: lint generate-check test-servers test-e2e ## Everything that CI runs

.PHONY: test-unit
test-unit: ## Tests that need nothing but Go
	go test -short ./...
	cd internal/testkit/cluster && go test ./...
	cd internal/image && go test ./...

.PHONY: test-servers
test-servers: servers s3-server ## Tests against real Redis and Valkey servers of every version, and a real S3 server
	go test $$(go list ./... | grep -v -e /internal/e2e -e /internal/kube -e /internal/helm)
	cd internal/testkit/cluster && go test ./...
	cd internal/testkit/cluster/components/csi && go test ./...
	cd internal/image && go test ./...

.PHONY: test-e2e
test-e2e: $(CLUSTER) ## Tests on the real cluster
	$(CLUSTER) build --with-helm3
	$(CLUSTER) up
	go test -count=1 -timeout 40m ./internal/kube/... ./internal/helm/... ./internal/e2e/...

.PHONY: fuzz
FUZZTIME ?= 1m
fuzz: ## Fuzz the parsers, FUZZTIME each
	@for package in $$(grep -rl --include=*_test.go '^func Fuzz' internal | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$package/*_test.go | cut -c6-); do \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) ./$$package; done; done

.PHONY: bench
bench: servers ## Compare redisctl with other tools, and write docs/benchmarks.md (10 minutes; BENCH_LARGE=1: 15)
	go test -run '^$$' -bench . -benchtime 2x -timeout 30m ./internal/bench -write $(CURDIR)/docs/benchmarks.md

.PHONY: bench-parts
bench-parts: servers s3-server ## Benchmarks of single packages
	go test -run '^$$' -bench . -benchmem ./internal/rdb/... ./internal/redisconn/... ./internal/snapshot/...

.PHONY: lint
lint: $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION) ## Style and import rules
	$< run ./...
	cd internal/testkit/cluster && $< run ./...
	cd internal/testkit/cluster/components/csi && $< run --config ../../.golangci.yml ./...
	cd internal/image && $< run --config ../testkit/cluster/.golangci.yml ./...

$(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION):
	GOBIN=$(BIN) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(BIN)/golangci-lint $@

.PHONY: generate
generate: ## Write docs/reference, man pages, completions/ and docs/permissions.md
	go run ./cmd/gendocs

.PHONY: generate-check
generate-check: ## Fail when the generated files are not those of the code
	go run ./cmd/gendocs -check

GORELEASER := $(BIN)/goreleaser-v2.16.0
CYCLONEDX_VERSION := v1.10.0

.PHONY: release-snapshot
release-snapshot: $(GORELEASER) $(BIN)/cyclonedx-gomod ## Build everything that is released into dist/
	PATH=$(BIN):$$PATH $(GORELEASER) release --snapshot --clean

$(GORELEASER):
	GOBIN=$(BIN) go install github.com/goreleaser/goreleaser/v2@v2.16.0
	mv $(BIN)/goreleaser $@

$(BIN)/cyclonedx-gomod:
	GOBIN=$(BIN) go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(CYCLONEDX_VERSION)

# A real S3 server for the tests, from a module of its own (internal/testkit/s3server).
VERSITYGW := $(BIN)/versitygw-v1.8.0

.PHONY: s3-server
s3-server: $(VERSITYGW) ## Build a real S3 server for the tests (two minutes, once)

$(VERSITYGW): internal/testkit/s3server/versitygw/go.mod
	@mkdir -p $(BIN)
	cd internal/testkit/s3server/versitygw && go build -o $@ github.com/versity/versitygw/cmd/versitygw
	touch $@

# --- the local cluster and the real servers (docs/cluster.md) -----------------------

.PHONY: $(CLUSTER)
$(CLUSTER):
	@mkdir -p $(BIN)
	cd internal/testkit/cluster && go build -o $(CLUSTER) .

.PHONY: servers
servers: $(CLUSTER) ## Prepare real redis-servers of every version
	$(CLUSTER) servers

.PHONY: cluster-up
cluster-up: $(CLUSTER) ## Start a real one-node Kubernetes on this machine
	$(CLUSTER) up

.PHONY: cluster-down
cluster-down: $(CLUSTER) ## Stop it; leaves no process, mount, interface or rule
	$(CLUSTER) down

.PHONY: cluster-status
cluster-status: $(CLUSTER) ## Say whether it is up and healthy
	$(CLUSTER) status

# `make test` is the one gate: it installs what the tests need, then runs everything.

.PHONY: all test test-all fmt lint unit manifests deps tools fuzz bench compare run aws-local

SHELL := /bin/bash
TOOLS := .tools
export PATH := $(CURDIR)/$(TOOLS)/venv/bin:$(PATH)
# Tests wait for servers more than they compute: two for each of two cores.
TEST_THREADS ?= 4
# A failed assertion says where and what; sixty lines of the runtime's frames would bury it.
export RUST_BACKTRACE := 0

all: test

run: ## The main job on this machine: embedded, nothing to install
	cargo run --release -- serve

aws-local: tools ## API Gateway and SQS (LocalStack), the Lambda, Redis and the get API on this machine, in the foreground
	cargo test --locked --workspace --test aws_local

tools: ## Redis, PostgreSQL and Velocity (apt); Redis 8.2, Valkey, SQS emulators, schemathesis, microburst, cfn-lint, kubectl, promtool, cargo-deny and cargo-fuzz (pinned, in .tools/)
	@tests/tools/install

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets --locked -- -D warnings

unit: ## Unit and integration tests, but for the long ones
	cargo test --locked --workspace --lib --test it --test binary -- --test-threads $(TEST_THREADS) --skip ::long_

manifests: tools ## Files that other programs read
	tests/tools/check-manifests

deps: tools
	cargo deny --locked check bans licenses sources

test: tools fmt lint manifests deps unit

test-all: test fuzz ## What takes longer: more seeds, more rounds, more events, and the Lambda as it is deployed
	cargo clippy --locked --package hookcache-lambda -- -D warnings
	cargo test --locked --workspace --test it -- ::long_

fuzz: tools ## Every fuzz target for a minute; needs a C++ compiler
	fuzz/run

bench: tools ## Every figure of ours but those of `compare`, in about seven minutes
	lambda/build
	cargo bench --locked

compare: tools ## Side by side with peers, about 15 minutes after the builds; ARGS="--quick" shows that it works
	benches/compare/run $(ARGS)

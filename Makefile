# `make test` is the one gate: it installs what the tests need, then runs everything.

.PHONY: all test test-all fmt lint unit manifests deps tools fuzz bench compare run

SHELL := /bin/bash
TOOLS := .tools
export PATH := $(CURDIR)/$(TOOLS)/venv/bin:$(PATH)

all: test

run: ## The main job on this machine: embedded, nothing to install
	cargo run --release -- serve

tools: ## Redis and PostgreSQL (apt), Redis 8.2, Valkey, SQS emulators, schemathesis, microburst, cargo-deny and cargo-fuzz (pinned, in .tools/)
	@tests/tools/install

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets --locked -- -D warnings

unit: ## Unit and integration tests, but for the long ones
	cargo test --locked --lib --test it -- --skip ::long_

manifests: ## Files that other programs read
	tests/tools/check-manifests

deps: tools
	cargo deny --locked check bans licenses sources

test: tools fmt lint manifests deps unit

test-all: test fuzz ## What takes longer: more seeds, more rounds, more events
	cargo test --locked --test it -- ::long_

fuzz: tools ## Every fuzz target for a minute; needs a C++ compiler
	fuzz/run

bench: tools ## Every figure of ours but those of `compare`, in about five minutes
	cargo bench --locked

compare: tools ## Side by side with peers, in packages of their own
	benches/compare/run

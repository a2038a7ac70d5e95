# The commands of the suite. Each is thin: the work is done by deploy/local/suite, cargo and the suite's own programs.
# What can be set: SUITE_HOME, SUITE_PORT_OFFSET (deploy/local/suite help), and every variable of .env.example.

SHELL := /bin/bash
SUITE := deploy/local/suite

# Build output stays outside the checkout, so that every checkout and CI run can use it again.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/commerce-suite/target
BIN_DIR := $(or $(SUITE_BIN_DIR),$(CARGO_TARGET_DIR)/release)

.DEFAULT_GOAL := help
.PHONY: help demo up down status logs test check load bench fmt lint

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: up ## bring up everything and take the tour; leaves the suite running
	@$(SUITE) exec $(BIN_DIR)/tour

up: ## install what is missing, start the real parts, build, start every service
	@$(SUITE) up

down: ## stop everything
	@$(SUITE) down

status: ## who is up, on which port, with which pid
	@$(SUITE) status

logs: ## follow all logs, or one: make logs NAME=order-service
	@$(SUITE) logs $(NAME)

test: ## format, lints and all tests on the real parts (which are started if they are not up)
	@$(SUITE) install-for-tests
	@$(SUITE) with-parts $(MAKE) --no-print-directory check

load: ## the load tool against the running suite: make load ARGS='…'
	@$(SUITE) exec $(BIN_DIR)/load $(ARGS)

bench: ## the benchmarks, with their ratios to the bare limits: make bench ARGS='…'
	@cargo build --release --locked --bins
	@$(SUITE) with-parts $(BIN_DIR)/bench $(ARGS)

fmt: ## format the Rust code
	cargo fmt --all

lint: ## format and lints, without tests
	@$(call stage,format,cargo fmt --all --check)
	@$(call stage,lints,cargo clippy --workspace --all-targets --locked -- -D warnings)

# What `make test` runs once the parts are up. The system tests start the programs that are built here.
check: lint
	@$(call stage,build,cargo build --workspace --bins --locked)
	@$(call stage,tests,cargo test --workspace --locked --no-fail-fast)

# Runs a command between its name and the time it took.
define stage
echo "=== $(1): $(2)"; began=$$SECONDS; status=0; $(2) || status=$$?; \
echo "=== $(1): $$([[ $$status == 0 ]] && echo done || echo FAILED) after $$((SECONDS - began)) s"; exit $$status
endef

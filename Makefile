# The commands of the suite. Each is thin: the work is done by deploy/local/suite, cargo and the suite's own programs.
# What can be set: SUITE_HOME, SUITE_PORT_OFFSET, SUITE_PROFILE (deploy/local/suite help), and every variable of .env.example.

SHELL := /bin/bash
SUITE := deploy/local/suite

# Build output stays outside the checkout, so that every checkout and CI run can use it again.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/commerce-suite/target
BIN_DIR = $(or $(SUITE_BIN_DIR),$(CARGO_TARGET_DIR)/$(or $(SUITE_PROFILE),release))

.DEFAULT_GOAL := help
.PHONY: help demo up down status logs test museum load bench check-clients fmt lint

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## bring up everything and take the tour; leaves the suite running
	@$(SUITE) up tour
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
	@$(SUITE) install
	@$(SUITE) install-for-tests
	@tests/run

museum: ## put each known bug back, and see which test finds it: make museum BUGS='…'
	@$(SUITE) install
	@$(SUITE) install-for-tests
	@tests/museum/run $(BUGS)

load: ## the load tool against the running suite: make load ARGS='…'
	@$(SUITE) build load
	@$(SUITE) exec $(BIN_DIR)/load $(ARGS)

bench: export SUITE_PROFILE ?= dist
bench: ## the benchmarks, with their ratios to the bare limits: make bench ARGS='…'
	@$(SUITE) install
	@$(SUITE) build
	@$(SUITE) build bench
	@$(SUITE) with-parts $(BIN_DIR)/bench $(ARGS)

check-clients: ## generate clients from each service's document, and use them on the running suite
	@$(SUITE) install-for-clients
	@$(SUITE) exec tests/clients/check

fmt: ## format the Rust code
	cargo fmt --all

lint: ## format and lints, without tests
	@tests/run lint

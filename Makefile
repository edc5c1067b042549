# Two commands on a fresh machine: `make run` serves the example API, `make test` runs every test.

PORT ?= 8080
WORKERS ?= 4

# What is built for tests and checks, apart from the user's own library.
BUILD := $(CURDIR)/.build
LIBRARY := $(BUILD)/library
export PATH := $(PATH):$(HOME)/.cargo/bin

# cargo with R's environment, exactly as R CMD INSTALL runs it: with another, cargo would take the crates
# that bind to R for out of date, and compile them again at each change of hands.
CARGO = cd src/rust && R CMD cargo

TEST_R = R_LIBS=$(LIBRARY) tools/test-r

# R CMD check and texts in any language want UTF-8, which a bare machine does not set up.
test test-r test-openapi test-grpc test-k8s check document vendor differential: export LC_ALL := $(if $(filter UTF-8,$(shell locale charmap)),$(LC_ALL),C.UTF-8)

MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help run install test test-rust test-r test-openapi test-grpc test-k8s test-vendor test-debian differential fuzz fresh vendor check bench document fmt lint clean setup

help:
	@echo 'make run       install what is missing, serve inst/examples/hello (PORT=8080 WORKERS=4)'
	@echo 'make test      install what is missing, run every test'
	@echo 'make test-debian  make test with the R of another Debian (SUITE=trixie), in a chroot; needs root'
	@echo 'make differential  compare native workers with plumber alone at random (SEED=1 REQUESTS=10000)'
	@echo 'make fuzz      run a fuzz target (TARGET=raw_head SECONDS=60)'
	@echo 'make check     R CMD build and R CMD check'
	@echo 'make bench     compare with other servers'
	@echo 'make install   install faucet into the R library'
	@echo 'make vendor    the source package that installs offline, with all crates in it'
	@echo 'make document  write R/extendr-wrappers.R, NAMESPACE, man/, inst/AUTHORS and the code for gRPC'
	@echo 'make fmt       format the Rust code;  make lint: clippy and lintr'
	@echo 'make clean     remove what was built'

# The shell is replaced by R, so that Ctrl-C reaches it; make itself waits until R has drained.
run: install
	exec Rscript -e 'faucet::run(system.file("examples/hello", package = "faucet"), port = $(PORT), workers = $(WORKERS))'

install:
	tools/setup run
	tools/install

test: setup
	$(MAKE) test-rust
	$(MAKE) fresh
	$(MAKE) test-r
	$(MAKE) test-openapi
	$(MAKE) test-grpc
	$(MAKE) test-k8s
	$(MAKE) test-vendor

setup:
	tools/setup run test

test-rust:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test --workspace

# What is generated and committed is what would be generated now.
fresh:
	$(CARGO) run --quiet --bin document -- --check
	Rscript tools/crates.R --check
	tools/test-docs
	tools/test-names
	tools/test-parties
	tools/rpc/generate --check

# The release build, as users get it; no test is left out, unless FILTER chooses files. What does not depend on how workers are
# served is tested with native ones, which are the default; all else with both kinds. And what compiled routes have to do as well
# as plumber is done by plumber, too.
test-r:
	mkdir -p $(LIBRARY)
	R CMD INSTALL --library=$(LIBRARY) .
	tools/pothead
	$(TEST_R) "$(FILTER)"
ifndef FILTER
	FAUCET_WORKER_TYPE=http $(TEST_R) '^(apps|boot-failure|crash|handle|http|one-at-a-time|ops|output|recycle|reload|scale|signals)$$'
	FAUCET_COMPILE=false $(TEST_R) '^(async|cancel|facts|native|preload|stream|timeout)$$'
endif

# These three with the package that test-r has installed.
test-openapi:
	R_LIBS=$(LIBRARY) tools/test-openapi

test-grpc:
	R_LIBS=$(LIBRARY) tools/test-grpc

test-k8s:
	R_LIBS=$(LIBRARY) tools/test-k8s

test-vendor:
	tools/test-vendor

# More of what tests/testthat/test-differential.R does: SEED=1 REQUESTS=10000.
SEED ?= 1
REQUESTS ?= 10000

differential:
	tools/differential --seed $(SEED) --requests $(REQUESTS)

# What parses bytes of others: TARGET=raw_head SECONDS=60. Its corpus is part of test-rust.
fuzz:
	tools/fuzz "$(TARGET)" $(SECONDS)

# With another Debian's R: SUITE=trixie or sid; TARGET=test-r and FILTER for less than all. Needs root.
test-debian:
	tools/setup debian
	tools/test-debian "$(SUITE)" $(TARGET)

check: setup
	tools/check

vendor: setup
	tools/vendor .
	mv vendor.tar.xz src/rust/

bench:
	tools/setup run test bench
	tools/install
	tools/pothead
	bench/run

document:
	tools/setup run test docs
	$(CARGO) run --quiet --bin document
	Rscript tools/crates.R
	tools/rpc/generate
	Rscript tools/document.R

fmt:
	$(CARGO) fmt --all

lint:
	tools/setup run test lint
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	Rscript -e 'lints <- lintr::lint_package(); print(lints); quit(status = length(lints) > 0)'

clean:
	./cleanup
	rm -rf $(BUILD) src/rust/target src/rust/vendor.tar.xz faucet_*.tar.gz faucet.Rcheck

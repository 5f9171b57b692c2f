# What a developer or an operator does with this project, one target each. `make` alone lists them.

PORT ?= 6379
# Where `make install` puts what: the variables of the GNU coding standards. DESTDIR stands in front of all.
PREFIX ?= /usr/local
prefix = $(PREFIX)
exec_prefix = $(prefix)
bindir = $(exec_prefix)/bin
libdir = $(exec_prefix)/lib
datarootdir = $(prefix)/share
docdir = $(datarootdir)/doc/redis-gateway
mandir = $(datarootdir)/man
moduledir = $(libdir)/redis/modules
INSTALL = install
INSTALL_PROGRAM = $(INSTALL) -m 755
INSTALL_DATA = $(INSTALL) -m 644
# What is installed: what cargo has built, or others that are named.
MODULE ?= $(or $(CARGO_TARGET_DIR),target)/release/libredis_gateway.so
COMPANION ?= $(or $(CARGO_TARGET_DIR),target)/release/gw
CONSOLE ?= 9464
export PORT CONSOLE

.PHONY: help run build test test-full fuzz golden docs docs-serve docs-reference clients-spec dashboards demo bench instructions fmt lint install uninstall dist clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

run: ## build the module and the companion, and run a server with a console (PORT=6379 CONSOLE=9464)
	@scripts/install.sh
	cargo build --release --target-dir target
	@scripts/run.sh

build: ## build target/release/libredis_gateway.so
	@scripts/install.sh
	cargo build --release

test: ## format, lints, unit tests, docs, integration tests on every server (SERVERS="system valkey-8.1")
	@scripts/install.sh
	@$(if $(SERVERS),,scripts/servers.sh)
	@scripts/test.sh

test-full: ## the same with every test at its full length, then the suite on a busy machine (RUNS=10); an hour and more
	@scripts/install.sh
	@$(if $(SERVERS),,scripts/servers.sh)
	@GW_LIVE=full scripts/test.sh
	@scripts/soak.sh $(or $(RUNS),10)

fuzz: ## hostile bytes for every loader, parser and command (FUZZ_TARGETS="queue json" FUZZ_RUNS=1000000 or FUZZ_SECONDS=60)
	@scripts/install.sh
	@scripts/fuzz.sh

golden: ## write the golden files of encodings that have none yet (GOLDEN_REPLACE=1 writes all anew, before 1.0 only)
	@scripts/install.sh
	cargo build --release
	GW_GOLDEN=write cargo test --test suite -- golden::write --exact --ignored --nocapture

clients-spec: ## write what the clients of all languages are generated from, and their low levels, as the built module tells it
	@scripts/install.sh
	cargo build --release
	python3 clients/spec/generate.py all

demo: build ## replay a gateway's traffic and check every figure (TRACE=file.csv SPEED=factor; WATCH=1 CONSOLE=9464 in a console)
	$(if $(WATCH),cargo build --package gw)
	cargo run --release --package gw-demo -- $(if $(WATCH),--watch $(or $(CARGO_TARGET_DIR),target)/debug/gw)

bench: build ## compare with SET, INCR and Lua scripts of the same behaviour, side by side
	cargo build --release --package gw-bare
	cargo bench --bench compare
	cargo bench --package gw --bench ship --bench sync

instructions: build ## count instructions per command with valgrind, which a busy machine does not falsify
	cargo build --release --package gw-bare
	INSTRUCTIONS=1 cargo bench --bench compare

fmt: ## format the code
	cargo fmt --all

lint: ## the compiler's and clippy's warnings, as errors
	@scripts/install.sh
	cargo clippy --workspace --all-targets -- -D warnings

install: ## install the module and the companion, built if they are not there (prefix=/usr/local DESTDIR=)
	@test -e $(MODULE) || $(MAKE) build
	@test -e $(COMPANION) || cargo build --release --package gw
	$(INSTALL) -d $(DESTDIR)$(moduledir) $(DESTDIR)$(bindir) $(DESTDIR)$(docdir) $(DESTDIR)$(mandir)/man1
	@# Redis loads no module that may not be executed.
	$(INSTALL_PROGRAM) $(MODULE) $(DESTDIR)$(moduledir)/libredis_gateway.so
	$(INSTALL_PROGRAM) $(COMPANION) $(DESTDIR)$(bindir)/gw
	$(COMPANION) man >$(DESTDIR)$(mandir)/man1/gw.1
	$(INSTALL_DATA) redis.conf deploy/package/gw.toml LICENSE $(DESTDIR)$(docdir)
	@echo "Load it with this line in redis.conf: loadmodule $(moduledir)/libredis_gateway.so"

uninstall: ## remove what `make install` has installed, with the same variables
	rm -f $(DESTDIR)$(moduledir)/libredis_gateway.so $(DESTDIR)$(bindir)/gw $(DESTDIR)$(mandir)/man1/gw.1
	rm -f $(addprefix $(DESTDIR)$(docdir)/,redis.conf gw.toml LICENSE)
	-rmdir $(DESTDIR)$(docdir) $(DESTDIR)$(moduledir) 2>/dev/null

dist: ## write packages of this version to target/dist: archive, .deb, zip for Redis Software, sums (TARGET=x86_64-unknown-linux-gnu)
	@scripts/dist.sh

clean: ## remove what was built; data and fetched servers stay
	cargo clean

docs: ## build the book into target/book and check its links
	@scripts/docs.sh

docs-serve: ## show the book on http://127.0.0.1:3000, built anew as its pages change
	@scripts/mdbook.sh serve docs --hostname 127.0.0.1

dashboards: ## write deploy/observe/grafana from deploy/observe/dashboards
	@scripts/dashboards.sh

docs-reference: ## write the facts at the top of each command's page, as the built module tells them
	@scripts/install.sh
	cargo build --release
	GW_WRITE_DOCS=1 cargo test --test suite -- reference::pages_show_the_facts

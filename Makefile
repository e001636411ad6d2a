# `make help` lists the targets.

CARGO        ?= cargo
TARGET_DIR   := $(or $(CARGO_TARGET_DIR),target)
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 600
CERTS        ?= certs

DESTDIR      ?=
PREFIX       ?= /usr/local
bindir       ?= $(PREFIX)/bin
datadir      ?= $(PREFIX)/share
unitdir      ?= $(PREFIX)/lib/systemd/system
sysconfdir   ?= /etc

# All tests look for lock cycles, and threads can be made to panic. The lints see that code, too.
TEST_FEATURES := deadlock_detection,panic_points

# The benchmark is a package of its own, so its dependencies stay out of the program's.
BENCH_FLAGS := --locked --manifest-path bench/Cargo.toml --target-dir $(TARGET_DIR)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all help run test_servers ssl_cert routes test soak lint audit fmt fmt-check fuzz \
	bench bench-quick bench-program bench-micro doc install uninstall clean

all: ## Build both programs, optimised, into ./bin (the default)
	$(CARGO) build --release --locked --bins
	@mkdir -p bin
	@# A new file each time, because a running program's file cannot be written to.
	@install -m 755 $(TARGET_DIR)/release/juggler $(TARGET_DIR)/release/test_server bin/

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Settings: FORCE=1 (ssl_cert), FUZZ_SECONDS=60 (fuzz), SOAK_SECONDS=600 (soak), BENCH="
	@echo "(bench-micro), JUGGLER_TEST_WITHOUT=root,ipv6,namespaces (test: what this machine lacks),"
	@echo "PREFIX=/usr/local and DESTDIR= (install), CARGO=cargo."

run: all ## Run three test servers and the balancer on 8080 and 8443, until Ctrl-C
	@test_servers/demo.sh

test_servers: all ## Run the three test servers alone, on ports 6901 to 6903, until Ctrl-C
	@test_servers/demo.sh servers

ssl_cert: bin/juggler ## Make a self-signed certificate: certs/server.crt and .key (FORCE=1)
	@if [ -f $(CERTS)/server.crt ] && [ -z "$(FORCE)" ]; then \
		echo "$(CERTS)/server.crt is there already (FORCE=1 makes another)"; \
	else \
		bin/juggler certificate --out $(CERTS) $(if $(FORCE),--force); \
	fi

routes: bin/juggler ## Check the configuration and print the routing table
	bin/juggler routes

test: ## Run all tests (tests/install.sh installs the programs that they need, or says which)
	@tests/install.sh
	$(CARGO) test --locked --features $(TEST_FEATURES)
	$(CARGO) test $(BENCH_FLAGS)

lint: ## Check the code with clippy, and the dependencies with cargo-deny if installed
	$(CARGO) clippy --locked --all-targets --features $(TEST_FEATURES) -- -D warnings
	$(CARGO) clippy $(BENCH_FLAGS) --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --locked --all-features check bans licenses sources && \
		$(CARGO) deny --locked --manifest-path bench/Cargo.toml check bans licenses sources; \
	else \
		echo "lint: the dependencies were not checked, for cargo-deny is not installed"; \
		echo "lint: cargo install --locked cargo-deny"; \
	fi

audit: ## Check the dependencies for known vulnerabilities (needs cargo-deny and a network)
	$(CARGO) deny --locked --all-features check advisories
	$(CARGO) deny --locked --manifest-path bench/Cargo.toml check advisories

fmt: ## Format the code
	$(CARGO) fmt
	$(CARGO) fmt --manifest-path bench/Cargo.toml

fmt-check: ## Check the format of the code
	$(CARGO) fmt --check
	$(CARGO) fmt --manifest-path bench/Cargo.toml --check

fuzz: ## Run each fuzz target for FUZZ_SECONDS (needs cargo-fuzz and a nightly toolchain)
	@if [ ! -d fuzz/fuzz_targets ]; then \
		echo "fuzz: there are no targets in fuzz/fuzz_targets"; exit 1; fi
	@if ! $(CARGO) fuzz --version >/dev/null 2>&1; then \
		echo "fuzz: cargo-fuzz is not installed: cargo install --locked cargo-fuzz"; exit 1; fi
	@if ! $(CARGO) +nightly --version >/dev/null 2>&1; then \
		echo "fuzz: no nightly toolchain is installed: rustup toolchain install nightly"; exit 1; fi
	@set -e; for target in $$($(CARGO) +nightly fuzz list); do \
		echo "fuzz: $$target for $(FUZZ_SECONDS) s"; \
		$(CARGO) +nightly fuzz run "$$target" -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1; \
	done

soak: ## Run everything hostile at once for SOAK_SECONDS; draws target/soak.svg
	JUGGLER_HOSTILE_SECONDS=$(SOAK_SECONDS) JUGGLER_HOSTILE_PLOT=$(abspath $(TARGET_DIR))/soak.svg \
		$(CARGO) test --release --locked --features $(TEST_FEATURES) --test it hostile -- --nocapture
	@echo "see $(TARGET_DIR)/soak.svg"

bench: bench-program ## Measure against nginx and HAProxy (40 minutes); writes docs/benchmarks.md
	@bench/install.sh
	@$(TARGET_DIR)/release/juggler-bench run --out docs

bench-quick: bench-program ## The same in three minutes; prints the tables, writes to target/bench
	@bench/install.sh
	@$(TARGET_DIR)/release/juggler-bench run --quick --out $(TARGET_DIR)/bench

bench-program: all
	$(CARGO) build --release $(BENCH_FLAGS)

bench-micro: ## Measure codecs, dispatcher and buffers in nanoseconds (BENCH=name chooses)
	@CARGO="$(CARGO)" benches/micro.sh $(BENCH)

doc: ## Build the source's documentation: target/doc/juggler/index.html
	$(CARGO) doc --locked --no-deps --document-private-items --lib
	@echo "see $(TARGET_DIR)/doc/juggler/index.html"

install: bin/juggler ## Install program, systemd unit, and a configuration unless there is one
	install -D -m 755 bin/juggler $(DESTDIR)$(bindir)/juggler
	install -d -m 755 $(DESTDIR)$(sysconfdir)/juggler $(DESTDIR)$(unitdir)
	install -D -m 644 -t $(DESTDIR)$(datadir)/doc/juggler README.md CHANGELOG.md LICENSE \
		contrib/60-juggler.conf contrib/juggler.socket
	@# Certificates are beside the configuration's folder in the tree, and inside it when installed.
	sed -e 's|"../certs/|"certs/|g' juggler_config/juggler.toml \
		> $(DESTDIR)$(sysconfdir)/juggler/juggler.toml.default
	cd $(DESTDIR)$(sysconfdir)/juggler && \
		{ [ -e juggler.toml ] || cp juggler.toml.default juggler.toml; }
	sed -e 's|/usr/local/bin/|$(bindir)/|; s|/usr/local/share/|$(datadir)/|' \
		-e 's|/etc/juggler|$(sysconfdir)/juggler|' contrib/juggler.service \
		> $(DESTDIR)$(unitdir)/juggler.service
	@echo "Next: systemctl daemon-reload && systemctl enable --now juggler"
	@echo "For thousands of clients see $(datadir)/doc/juggler/60-juggler.conf"

uninstall: ## Remove everything that `make install` installed, but not the configuration
	rm -f $(DESTDIR)$(bindir)/juggler $(DESTDIR)$(unitdir)/juggler.service
	rm -f $(DESTDIR)$(sysconfdir)/juggler/juggler.toml.default
	rm -rf $(DESTDIR)$(datadir)/doc/juggler

clean: ## Remove everything that was built (certificates stay)
	$(CARGO) clean
	rm -rf bin

# For targets that need any build of the program, so that `sudo make install` does not need cargo.
bin/juggler:
	$(MAKE) all

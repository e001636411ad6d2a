# `make help` lists what can be made.

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

# Lock cycles are looked for in all tests, threads can be made to panic, and lints see that code too.
TEST_FEATURES := deadlock_detection,panic_points

# The benchmark is a package of its own, so that what it needs is in nobody else's way.
BENCH_FLAGS := --locked --manifest-path bench/Cargo.toml --target-dir $(TARGET_DIR)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all help run test_servers ssl_cert routes test soak lint audit fmt fmt-check fuzz bench bench-quick bench-program bench-micro doc install \
	uninstall clean

all: ## Build both programs, optimised, into ./bin (this is what plain `make` does)
	$(CARGO) build --release --locked --bins
	@mkdir -p bin
	@# A new file each time: one that runs cannot be written to.
	@install -m 755 $(TARGET_DIR)/release/juggler $(TARGET_DIR)/release/test_server bin/

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Settings: FORCE=1 (ssl_cert), FUZZ_SECONDS=60 (fuzz), SOAK_SECONDS=600 (soak), BENCH= (bench-micro), JUGGLER_TEST_WITHOUT=root,ipv6,namespaces (test: what this machine has not), PREFIX=/usr/local and DESTDIR= (install), CARGO=cargo."

run: all ## The demonstration: three test servers and the balancer on 8080 and 8443, until Ctrl-C
	@test_servers/demo.sh

test_servers: all ## The three test servers alone, on ports 6901 to 6903, until Ctrl-C
	@test_servers/demo.sh servers

ssl_cert: bin/juggler ## A self-signed certificate: certs/server.crt and .key (FORCE=1 overwrites)
	bin/juggler certificate --out $(CERTS) $(if $(FORCE),--force)

routes: bin/juggler ## Check the configuration and print the routing table
	bin/juggler routes

test: ## Run all tests (installs the programs that they need, such as curl, openssl and nginx, or says which and fails)
	@tests/install.sh
	$(CARGO) test --locked --features $(TEST_FEATURES)
	$(CARGO) test $(BENCH_FLAGS)

lint: ## Check the code with clippy, and the dependencies with cargo-deny where it is installed
	$(CARGO) clippy --locked --all-targets --features $(TEST_FEATURES) -- -D warnings
	$(CARGO) clippy $(BENCH_FLAGS) --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --locked --all-features check bans licenses sources && \
		$(CARGO) deny --locked --manifest-path bench/Cargo.toml check bans licenses sources; \
	else \
		echo "lint: cargo-deny is not installed, the dependencies were not checked (cargo install --locked cargo-deny)"; \
	fi

audit: ## Look the dependencies up in the list of known vulnerabilities (needs cargo-deny and a network)
	$(CARGO) deny --locked --all-features check advisories
	$(CARGO) deny --locked --manifest-path bench/Cargo.toml check advisories

fmt: ## Format the code
	$(CARGO) fmt
	$(CARGO) fmt --manifest-path bench/Cargo.toml

fmt-check: ## Say whether the code is formatted
	$(CARGO) fmt --check
	$(CARGO) fmt --manifest-path bench/Cargo.toml --check

fuzz: ## Run each fuzz target for FUZZ_SECONDS (needs cargo-fuzz and a nightly toolchain)
	@if [ ! -d fuzz/fuzz_targets ]; then echo "fuzz: there are no targets in fuzz/fuzz_targets"; exit 1; fi
	@if ! $(CARGO) fuzz --version >/dev/null 2>&1; then \
		echo "fuzz: cargo-fuzz is not installed: cargo install --locked cargo-fuzz"; exit 1; fi
	@if ! $(CARGO) +nightly --version >/dev/null 2>&1; then \
		echo "fuzz: there is no nightly toolchain: rustup toolchain install nightly"; exit 1; fi
	@set -e; for target in $$($(CARGO) +nightly fuzz list); do \
		echo "fuzz: $$target for $(FUZZ_SECONDS) s"; \
		$(CARGO) +nightly fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1; \
	done

soak: ## Everything hostile at once for SOAK_SECONDS, beside ordinary clients; draws target/soak.svg (memory, threads, files)
	JUGGLER_HOSTILE_SECONDS=$(SOAK_SECONDS) JUGGLER_HOSTILE_PLOT=$(abspath $(TARGET_DIR))/soak.svg \
		$(CARGO) test --release --locked --features $(TEST_FEATURES) --test it hostile -- --nocapture
	@echo "see $(TARGET_DIR)/soak.svg"

bench: bench-program ## Measure against nginx and HAProxy, in pairs (40 minutes); writes docs/benchmarks.md, charts and JSON
	@bench/install.sh
	@$(TARGET_DIR)/release/juggler-bench run --out docs

bench-quick: bench-program ## The same in three minutes: prints the tables, writes to target/bench, changes nothing in docs
	@bench/install.sh
	@$(TARGET_DIR)/release/juggler-bench run --quick --out $(TARGET_DIR)/bench

bench-program: all
	$(CARGO) build --release $(BENCH_FLAGS)

bench-micro: ## Measure codecs, dispatcher and buffers in nanoseconds (BENCH=name: only those whose name matches)
	@CARGO="$(CARGO)" benches/micro.sh $(BENCH)

doc: ## Make the documentation of the source: target/doc/juggler/index.html
	$(CARGO) doc --locked --no-deps --document-private-items --lib
	@echo "see $(TARGET_DIR)/doc/juggler/index.html"

install: bin/juggler ## Install program, configuration and systemd unit (PREFIX, DESTDIR); nothing configured is overwritten
	install -D -m 755 bin/juggler $(DESTDIR)$(bindir)/juggler
	install -d -m 755 $(DESTDIR)$(sysconfdir)/juggler $(DESTDIR)$(unitdir)
	install -D -m 644 -t $(DESTDIR)$(datadir)/doc/juggler README.md CHANGELOG.md LICENSE contrib/60-juggler.conf contrib/juggler.socket
	@# In the tree the certificates lie beside the folder of the configuration, installed in it.
	sed -e 's|"../certs/|"certs/|g' juggler_config/juggler.toml \
		> $(DESTDIR)$(sysconfdir)/juggler/juggler.toml.default
	cd $(DESTDIR)$(sysconfdir)/juggler && [ -e juggler.toml ] || cp juggler.toml.default juggler.toml
	sed -e 's|/usr/local/bin/|$(bindir)/|; s|/usr/local/share/|$(datadir)/|; s|/etc/juggler|$(sysconfdir)/juggler|' contrib/juggler.service \
		> $(DESTDIR)$(unitdir)/juggler.service
	@echo "Next: systemctl daemon-reload && systemctl enable --now juggler"
	@echo "For thousands of clients see $(datadir)/doc/juggler/60-juggler.conf"

uninstall: ## Remove what install installed, but not the configuration
	rm -f $(DESTDIR)$(bindir)/juggler $(DESTDIR)$(unitdir)/juggler.service
	rm -f $(DESTDIR)$(sysconfdir)/juggler/juggler.toml.default
	rm -rf $(DESTDIR)$(datadir)/doc/juggler

clean: ## Remove all that was built (certificates stay)
	$(CARGO) clean
	rm -rf bin

# For targets that only need some program to be there, so that `sudo make install` does not need cargo.
bin/juggler:
	$(MAKE) all

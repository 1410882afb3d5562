# Each target is one command of manage.py; see README.md.
.PHONY: up down test test-kernel test-guest lint format assets messages

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

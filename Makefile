# One command each: every target does its own set-up in a fresh clone.
#
#   make demo ARGS="--once --json"    arguments reach `ipaas demo`
#   make test ARGS="-k house"         arguments reach pytest
#   make demo PYTHON=python3.12       another Python, 3.11 or newer

.DEFAULT_GOAL := help
.PHONY: help demo up test check .venv
# Recipes are short and ordered; a half-written stamp must not count as an environment.
.DELETE_ON_ERROR:

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

# Set-up talks on stderr, so that `--json` leaves nothing but JSON on stdout.
STAMP := .venv/.installed

help: ## Show this list
	@echo "Targets (arguments go in ARGS=\"...\"):"
	@sed -n 's/^\([.a-z]*\): .*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

demo: $(STAMP) ## Start three simulated systems and keep them in step
	@$(BIN)/ipaas demo $(ARGS)

up: $(STAMP) ## Start the platform with your own systems and flows
	@$(BIN)/ipaas up $(ARGS)

test: $(STAMP) ## Run the tests
	@$(BIN)/python -m pytest $(ARGS)

check: $(STAMP) ## Lint, formatting, types, and the borders between the rooms
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

.venv: $(STAMP) ## Make or refresh the Python environment alone

# Made again only when the pinned versions or the project file change.
$(STAMP): requirements.lock pyproject.toml
	@set -e; exec >&2; \
	python=''; \
	for each in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
		if "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python="$$each"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "$(or $(PYTHON:%=% is not a Python 3.11 or newer),No Python 3.11 or newer was found): install one, or name one with PYTHON=."; exit 1; \
	fi; \
	if command -v uv >/dev/null 2>&1; then \
		echo "Making .venv with uv and $$("$$python" --version)"; \
		uv venv --quiet --allow-existing --python "$$("$$python" -c 'import sys; print(sys.executable)')" .venv; \
		echo "Installing the pinned packages (once, about a minute on a fresh machine)"; \
		uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock; \
		uv pip install --quiet --python $(BIN)/python --no-deps --editable .; \
	else \
		echo "Making .venv with $$("$$python" --version)"; \
		"$$python" -m venv .venv || { \
			rm -rf .venv; \
			echo "Python cannot make an environment: install its venv package (Debian and Ubuntu: apt install python3-venv) or uv."; \
			exit 1; }; \
		echo "Installing the pinned packages (once, some minutes on a fresh machine)"; \
		$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements.lock; \
		$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .; \
	fi; \
	touch $(STAMP)

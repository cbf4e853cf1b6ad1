# The checks of this repository; `make check` is what CI runs. Everything uses the Python environment that is active
# (`pip install -e ".[dev]"`). Versions of all tools come from pyproject.toml.
export NO_MKDOCS_2_WARNING = 1

.PHONY: check lint docs test format dist

check: lint docs test

lint:
	ruff check .
	ruff format --check .
	mypy

docs:
	mkdocs build --strict --quiet

test:
	pytest

format:
	ruff check --fix .
	ruff format .

# sdist and wheel: built, checked, and the wheel used in an environment of its own
dist:
	bash .ci/dist

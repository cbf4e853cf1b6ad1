"""Which hypernetwork is used where none is asked for; in a file of its own, which needs nothing."""

from __future__ import annotations

DEFAULT = "ghn2-small"
"""Name of the bundled checkpoint."""

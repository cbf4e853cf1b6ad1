"""What is said where one of several processes ended."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool


def ended(error: BrokenProcessPool, before: str, needs: str) -> str:
    """What the user may do: mostly it was a script that each process runs again, or memory.

    Args:
        error: What the pool raised.
        before: What was not done yet, `it had …`.
        needs: What each process holds in memory.
    """
    return (
        f"a process ended before {before} ({error}); a script that has workers begins below "
        f"`if __name__ == '__main__':`, and each needs memory for {needs}: pass fewer, or workers=1."
    )

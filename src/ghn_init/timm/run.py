"""Programs that can't import us: `python -m ghn_init.timm.run train.py DATA --model ghn_resnet50 …`."""

from __future__ import annotations

import argparse
import re
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from ghn_init.checkpoints.pretrained import load
from ghn_init.errors import GHNInitError
from ghn_init.models.spec import library
from ghn_init.timm.register import PREFIX, register

_NAME = re.compile(rf"(?:^|=){PREFIX}(\w+)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Registers the names `ghn_…` among a program's arguments with timm and runs the program, unchanged.

    Also as `torchrun … -m ghn_init.timm.run train.py …`.

    Raises:
        SystemExit: No such program, no name to register, or timm doesn't know it.
    """
    described = "Registers the names ghn_… among a program's arguments with timm and runs the program, unchanged."
    parser = argparse.ArgumentParser("python -m ghn_init.timm.run", description=described)
    parser.add_argument("--ghn", help="hypernetwork: bundled or published name, folder, file or hub id")
    parser.add_argument("--head", help="predict the head of this task too")
    parser.add_argument("--register", action="append", default=[], metavar="NAME", help="timm's name, where a file gives it")
    parser.add_argument("program", type=Path, help="such as timm's train.py")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the program's own")
    options = parser.parse_args(arguments)
    program, own = options.program, options.arguments
    if not program.is_file():
        parser.error(f"there is no program {program}")
    named = [match[1] for match in map(_NAME.search, own) if match]
    if not named and not options.register:
        parser.error(f"no argument of {program} names a model {PREFIX}NAME, such as {PREFIX}resnet50; --register names one")
    try:
        known = [name for name in named if library("timm").is_model(name)]  # others may be names of runs
        ghn = None if options.ghn is None else load(options.ghn)
        for name in dict.fromkeys([*options.register, *(known or named)]):
            register(name, ghn, {} if options.head is None else {"head": options.head})
    except GHNInitError as error:
        parser.error(str(error))
    sys.argv = [str(program), *own]
    sys.path[0] = str(program.parent)  # as Python does for a program
    runpy.run_path(str(program), run_name="__main__")


if __name__ == "__main__":
    main()

"""What was measured of networks, in memory and in a JSON file that a ranking writes and goes on with."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ghn_init.errors import ComparisonError
from ghn_init.ranking.measure import Judgement, Look
from ghn_init.saving import differing, save_json

log = logging.getLogger(__name__)

CANDIDATES = "candidates"
_ANEW = "a module that is made without a seed is so each time: pass a function that makes it"


class Record:
    """All measurements of a ranking. A network's depend on the settings and on itself, so those of other networks stay beside.

    Args:
        path: The file, or None.
        setting: What measurements depend on, as `json` takes it: name → value, and `candidates`: name → what tells it apart.

    Attributes:
        looks: Name → what the network is.
        judgements: Name and steps → how it did.

    Raises:
        ComparisonError: The file is damaged or of other settings, or can't be written.
    """

    def __init__(self, path: Path | None, setting: Mapping[str, Any]) -> None:
        self._path, self._setting = path, dict(setting)
        self.looks: dict[str, Look] = {}
        self.judgements: dict[tuple[str, int], Judgement] = {}
        if path is not None and path.exists():
            self._read(path)
        self.save()

    def save(self, ranking: Mapping[str, Any] | None = None) -> None:
        """Writes the file at once, where there is to be one; with the ranking where all is measured."""
        if self._path is None:
            return
        judgements = [{"name": name, "steps": steps, **_plain(one)} for (name, steps), one in self.judgements.items()]
        looks = {name: {**asdict(one), "embedding": one.embedding.tolist()} for name, one in self.looks.items()}
        contents = {"setting": self._setting, "looks": looks, "judgements": judgements, "ranking": ranking}
        try:
            save_json(self._path, contents, None)
        except OSError as error:
            raise ComparisonError(f"{self._path} can't be written ({error}); name another file.") from error

    def _read(self, path: Path) -> None:
        try:
            found = json.loads(path.read_text())
            setting = dict(found["setting"])
            setting[CANDIDATES] = dict(setting[CANDIDATES])
            for name, one in found["looks"].items():
                self.looks[name] = Look(**{**one, "embedding": torch.tensor(one["embedding"], device="cpu")})
            for one in found["judgements"]:
                self.judgements[one["name"], one["steps"]] = _judgement(one)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ComparisonError(f"{path} holds no measurements of a ranking ({error!r}); name another file.") from error
        there, here = setting.pop(CANDIDATES), self._setting[CANDIDATES]
        if other := differing(setting, {name: value for name, value in self._setting.items() if name != CANDIDATES}):
            raise ComparisonError(
                f"{path} holds a ranking that differs in {'; '.join(other)}: call as then to go on, or name another file."
            )
        for name in sorted(name for name in there.keys() & here.keys() if there[name] != here[name]):
            log.warning("%r is another network than in %s, and is measured anew; %s", name, path, _ANEW)
            self.looks.pop(name, None)
            self.judgements = {key: one for key, one in self.judgements.items() if key[0] != name}
        self._setting[CANDIDATES] = {**there, **here}


def _plain(found: Judgement) -> dict[str, Any]:
    right = np.packbits(found.right.numpy()).tobytes().hex()
    return {"right": right, "images": len(found.right), "seconds": found.seconds, "milliseconds": found.milliseconds}


def _judgement(plain: Mapping[str, Any]) -> Judgement:
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(plain["right"]), np.uint8), count=plain["images"])
    return Judgement(torch.from_numpy(bits.astype(bool)), plain["seconds"], plain["milliseconds"])

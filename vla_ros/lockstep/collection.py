"""A folder of demonstrations: what was ordered, what is there, and one writer at a time."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vla_ros.data.bag import bag_metadata
from vla_ros.errors import ConfigurationError, DataError
from vla_ros.lockstep.demonstrate import FAILED, PARTIAL, Order, Result

ORDER_FILE, LOCK_FILE = "scripted.json", ".lock"
_NAME = re.compile(rf"episode_(\d{{6}})({FAILED})?")
_WORDS = {"robot": "robot", "tasks": "tasks", "seed": "seed", "contract": "contract", "images": "images",
          "variation": "variation", "vary_language": "wording of instructions"}  # fmt: skip
"""What must be the same of all episodes, and how it is called in a sentence."""


class Collection:
    """One folder.  A context manager that holds its lock; a folder of another order is refused."""

    def __init__(self, out: Path, order: Order) -> None:
        """Open it, make it where it is not there, and remove what was left half written.

        Raises `DataError` when it is in use, holds something else, or cannot be written, and
        `ConfigurationError` when its episodes were made to another order.
        """
        self.path, self._order = out, order
        contract = order.contract()
        given = asdict(order)
        self._asked = {
            **{key: given[key] for key in _WORDS if key in given},
            "robot": contract.robot.name, "tasks": list(order.tasks), "contract": contract.to_yaml(),
            "variation": json.loads(json.dumps(given["variation"])),
        }  # fmt: skip
        try:
            out.mkdir(parents=True, exist_ok=True)
            self._lock = (out / LOCK_FILE).open("w")
        except OSError as error:
            raise DataError(f"{out} cannot be written: {error.strerror or error}.") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise DataError(f"{out} is being written by another `vla-ros record`; wait or end it.") from error
        try:
            self.results = self._read()
            shutil.rmtree(out / PARTIAL, ignore_errors=True)
            self._drop_unknown()
            self._write()
        except BaseException:
            self._lock.close()
            raise

    def _read(self) -> dict[int, Result]:
        file = self.path / ORDER_FILE
        if not file.exists():
            others = sorted(
                entry.name for entry in self.path.iterdir() if entry.name not in (LOCK_FILE, PARTIAL)
            )
            if others:
                raise DataError(
                    f"{self.path} holds '{others[0]}' but no {ORDER_FILE}; "
                    "demonstrations go into a new folder or on in one of their own."
                )
            return {}
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            known = document["order"]
            results = {int(entry["seed"]): Result(**entry) for entry in document["episodes"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file} cannot be read: {error}.") from error
        for key, word in _WORDS.items():
            if known.get(key) != self._asked[key]:
                raise ConfigurationError(_difference(self.path, word, known.get(key), self._asked[key]))
        return results

    def _drop_unknown(self) -> None:
        """Only what is there and known counts; the rest is made again.

        Raises `DataError` for an episode that no expert made.
        """
        there: dict[int, Path] = {}
        for entry in self.path.iterdir():
            match = _NAME.fullmatch(entry.name)
            if match:
                there[int(match[1])] = entry
        self.results = {
            seed: result for seed, result in self.results.items() if seed in there or not result.size
        }
        for seed, entry in there.items():
            if seed in self.results:
                continue
            if "expert" not in bag_metadata(entry):
                raise DataError(f"{entry} is not of the scripted expert; take another folder.")
            shutil.rmtree(entry, ignore_errors=True)

    def add(self, result: Result) -> None:
        """Remember how an episode went, at once and for good.  Raises `DataError`."""
        self.results[result.seed] = result
        self._write()

    def _write(self) -> None:
        file, document = self.path / ORDER_FILE, self._document()
        partial = file.with_suffix(".json.new")
        try:
            partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            os.replace(partial, file)
        except OSError as error:
            raise DataError(f"{file} cannot be written: {error.strerror or error}.") from error

    def _document(self) -> Mapping[str, Any]:
        return {
            "order": self._asked,
            "episodes": [asdict(self.results[seed]) for seed in sorted(self.results)],
        }

    @property
    def successes(self) -> int:
        """Episodes that are there and good."""
        return sum(result.success for result in self.results.values())

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path / PARTIAL, ignore_errors=True)
        self._lock.close()


def _difference(path: Path, word: str, known: Any, asked: Any) -> str:
    if isinstance(known, (str, int, list)) and "\n" not in str(known) and "\n" not in str(asked):
        words = [", ".join(value) if isinstance(value, list) else str(value) for value in (known, asked)]
        return (
            f"{path} holds episodes of {word} {words[0]}, but {words[1]} was asked for; take another folder."
        )
    if isinstance(known, str):
        pairs = zip(known.splitlines(), str(asked).splitlines(), strict=False)
        first = next(((a.strip(), b.strip()) for a, b in pairs if a != b), ("", ""))
        return (
            f"{path} holds episodes of another contract ('{first[0]}' there, '{first[1]}' asked for); "
            "take another folder."
        )
    return f"{path} holds episodes of another {word}; take another folder."

"""The hidden folder of an unfinished conversion: what is done, of which plan, and the files so far."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_ros.errors import DataError

_JOURNAL, _DATA, _LOCK = "journal.jsonl", "data", "lock"


class WorkFolder:
    """Beside the target; becomes the target by a rename when all is there.  A context manager."""

    def __init__(self, target: Path, header: Mapping[str, Any]) -> None:
        """`header`: what must be equal for a conversion to go on, by what it is called in sentences.

        Raises `DataError` when the target exists, another conversion is at work on it, or one of something
        else was left unfinished.
        """
        self._target, self._header = Path(target), json.loads(json.dumps(dict(header)))
        self.path = self._target.parent / f".{self._target.name}.unfinished"
        self.data = self.path / _DATA
        self.finished: dict[int, dict[str, Any]] = {}
        """Reports of the groups that are done."""
        self._lock: Any = None
        self._journal: Any = None

    def __enter__(self) -> WorkFolder:
        refuse_existing(self._target)
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / _LOCK, "w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError as error:
            self.__exit__()
            raise DataError(f"another conversion to {self._target} is at work.") from error
        except OSError as error:
            self.__exit__()
            raise _cannot(self.path, error) from error
        except DataError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for file in (self._journal, self._lock):
            if file is not None:
                file.close()

    def record(self, group: int, report: Mapping[str, Any]) -> None:
        """Note that a group's files are in place.  Raises `DataError`."""
        self._write({"group": group, "report": dict(report)})
        self.finished[group] = dict(report)

    def complete(self) -> None:
        """Give the data its name; the rest of the folder goes.  Raises `DataError`."""
        refuse_existing(self._target)
        try:
            for part in list(self.data.rglob(".*.part")):
                if part.is_dir():
                    shutil.rmtree(part)
                else:
                    part.unlink(missing_ok=True)
            _sync_folders(self.data)
            os.rename(self.data, self._target)
            _sync(self._target.parent)
            shutil.rmtree(self.path)
        except OSError as error:
            raise _cannot(self._target, error) from error

    def _read(self) -> None:
        path = self.path / _JOURNAL
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        # A line that was cut off by a kill has no newline and was not kept: its group is done again.
        documents = [json.loads(line) for line in lines]
        if documents:
            for what, value in self._header.items():
                if documents[0].get(what) != value:
                    raise DataError(
                        f"{self.path} holds an unfinished conversion of other {what}; finish it as it was "
                        "begun, or delete that folder."
                    )
            self.finished = {int(d["group"]): d["report"] for d in documents[1:]}
        whole = sum(len(line) + 1 for line in lines)
        self._journal = open(path, "ab")  # noqa: SIM115
        self._journal.truncate(whole)
        if not documents:
            self._write(self._header)

    def _write(self, document: Mapping[str, Any]) -> None:
        try:
            self._journal.write(json.dumps(document).encode() + b"\n")
            self._journal.flush()
            os.fsync(self._journal.fileno())
        except OSError as error:
            raise _cannot(self.path, error) from error


def refuse_existing(target: Path) -> None:
    """Raise `DataError` when something of that name is there."""
    if target.exists() or target.is_symlink():
        raise DataError(f"{target} exists already; nothing was written, name another folder.")


def _cannot(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be written: {error.strerror or error}.")


def _sync_folders(folder: Path) -> None:
    for path in (folder, *(child for child in folder.rglob("*") if child.is_dir())):
        _sync(path)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""What is raised on a control thread: kept until the controller can be stopped for it, and the tick goes on.

A thread that ends in motion sends no more commands, which is the worst of stops.
"""

from __future__ import annotations

from types import TracebackType


class Stages:
    """The parts of a tick, entered one after the other as `with stages("the arm was commanded"): ...`.

    Whatever is raised in one is kept, running out of memory too, and the part after it is carried out all the
    same.  Used by the control thread alone; parts may be nested.
    """

    def __init__(self) -> None:
        """Nothing has failed."""
        self._doing = ""
        self._failure: tuple[str, BaseException] | None = None

    def __call__(self, doing: str) -> Stages:
        """Name what comes next, in the past tense."""
        self._doing = doing
        return self

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Keep what was raised; nothing passes."""
        if error is not None:
            self.failed(self._doing, error)
        return True

    def failed(self, doing: str, error: BaseException) -> None:
        """Keep an error; the first counts, until it is taken."""
        if self._failure is None:
            # a traceback would hold on to every object of the tick
            self._failure = (doing, error.with_traceback(None))

    def take(self) -> str | None:
        """One plain sentence about what has failed since the last time; None: nothing has."""
        if self._failure is None:
            return None
        doing, error = self._failure
        sentence = f"the controller failed while {doing}: {type(error).__name__}: {error}"
        self._failure = None
        return sentence

"""Who moves the robot: a policy or a person, and whose actions count."""

from __future__ import annotations

from collections import Counter

from vla_ros.types import Source


class Authority:
    """The rule of `/vla/authority`: only the source in charge is carried out, and nothing older than that.

    As long as nobody has been announced, a policy is in charge.  One who takes over says since when; what the
    other had already answered then is void, and so is what he himself made of observations before it.
    """

    def __init__(self) -> None:
        """A policy is in charge, since ever."""
        self.source = Source.POLICY
        self.device = ""
        """What the person moves the robot with; empty for a policy."""
        self.since = 0
        """ROS time of the change [ns]."""
        self.refused: Counter[str] = Counter()
        """Outputs that did not count, by the name of their source."""

    def announce(self, source: Source, since: int, device: str = "") -> bool:
        """Somebody is in charge since a stamp [ns]; whether that is a change.  An older one says nothing."""
        if since < self.since:
            return False
        changed = source is not self.source
        if changed or self.since == 0:
            # said again, as by a node that was started anew, it does not void what is under way
            self.since = since
        self.source, self.device = source, device
        return changed

    def allows(self, source: Source, stamp: int) -> bool:
        """Whether an output of `source`, stamped `stamp` [ns], is to be carried out; counts it if not."""
        if source is self.source and stamp >= self.since:
            return True
        self.refused[source.name.lower()] += 1
        return False

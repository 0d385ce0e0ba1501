"""Writer of bags: an episode is one imported bag, `episode_000000` and so on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vla_ros.data.episode import Episode
from vla_ros.data.episode_bag import episode_to_bag
from vla_ros.data.writing import Group, Plan


class BagsWriter:
    """See `vla_ros.data.writing.Writer`."""

    def write_group(self, plan: Plan, group: Group, episodes: Iterable[Episode]) -> Mapping[str, Any]:
        """Write each episode as a bag.  Raises `DataError`."""
        for position, episode in enumerate(episodes):
            name = f"episode_{group.first_episode + position:06d}"
            part = plan.target / f".{name}.{os.getpid()}.part"
            final = plan.target / name
            shutil.rmtree(part, ignore_errors=True)
            # The bag's file carries the folder's name: written in a folder of its own, then moved.
            try:
                start = int(episode.metadata.get("start", 0) or 0)
                episode_to_bag(
                    episode, part / name, plan.info.rate, start, episode.action_space or "unknown",
                    _texts(plan, episode),
                )  # fmt: skip
                shutil.rmtree(final, ignore_errors=True)
                os.replace(part / name, final)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        return {"group": group.index}

    def finish(self, plan: Plan, reports: Sequence[Mapping[str, Any]]) -> None:
        """Nothing is to be said of the whole: each bag carries its contract."""


def _texts(plan: Plan, episode: Episode) -> dict[str, str]:
    texts = {"contract": episode.contract} if episode.contract else {}
    return {**texts, "name": plan.name, "episode": json.dumps(dict(episode.metadata), default=str)}

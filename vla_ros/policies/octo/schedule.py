"""The noise schedule of Octo's diffusion head: squared cosine (Nichol & Dhariwal, 2021, arXiv 2102.09672)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.types import Array

_OFFSET = 0.008


@dataclass(frozen=True)
class Schedule:
    """Each (steps,), from the step nearest to the data to the noisiest."""

    betas: Array
    """Variance of the noise a step adds."""
    alphas: Array
    """1 - beta."""
    products: Array
    """Product of the alphas up to a step: the share of the data's variance that is left."""

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.betas)


def cosine_schedule(steps: int) -> Schedule:
    """The schedule with `steps` steps."""
    points = np.linspace(0.0, 1.0, steps + 1)
    left = np.cos((points + _OFFSET) / (1.0 + _OFFSET) * np.pi * 0.5) ** 2
    left = left / left[0]
    betas = np.clip(1.0 - left[1:] / left[:-1], 0.0, 0.999)
    alphas = 1.0 - betas
    return Schedule(betas, alphas, np.cumprod(alphas))

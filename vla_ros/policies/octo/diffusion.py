"""Octo's action head: a small network predicts the noise in an action chunk, twenty steps take it out.

Denoising diffusion (Ho et al., arXiv 2006.11239) with the squared-cosine schedule.  A chunk that the robot
will begin with anyway guides the sampling: see `DiffusionHead.sample`.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.policies.octo.config import HeadConfig
from vla_ros.policies.octo.schedule import cosine_schedule

GUIDANCE = 5.0
"""Largest weight of the guidance: beyond it few-step samplers become unsteady (arXiv 2506.07339, 4.2)."""


class ResidualBlock(nn.Module):
    """Two products around a swish, added to what comes in."""

    def __init__(self, width: int, layer_norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6) if layer_norm else nn.Identity()
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, states: Tensor) -> Tensor:
        """(..., width) to the same."""
        found: Tensor = states + self.narrow(functional.silu(self.wide(self.norm(states))))
        return found

    def pulled_back(self, states: Tensor, vector: Tensor) -> Tensor:
        """The Jacobian at `states`, transposed, times `vector`."""
        inner = self.wide(self.norm(states))
        pulled = _silu_slope(inner) * (vector @ self.narrow.weight) @ self.wide.weight
        if isinstance(self.norm, nn.LayerNorm):
            pulled = pulled * self.norm.weight
            centred = states - states.mean(-1, keepdim=True)
            inverse = torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.norm.eps)
            along = centred * inverse
            pulled = pulled - pulled.mean(-1, keepdim=True) - along * (pulled * along).mean(-1, keepdim=True)
            pulled = inverse * pulled
        return vector + pulled


class ScoreNetwork(nn.Module):
    """Predicts the noise in actions, given the transformer's embedding and the diffusion step."""

    def __init__(self, config: HeadConfig, width: int) -> None:
        """`width` of the embedding."""
        super().__init__()
        size = config.time_dimension
        flat = config.horizon * config.dimension
        self.frequencies = nn.Linear(1, size // 2, bias=False)
        self.time_wide = nn.Linear(size, 2 * size)
        self.time_narrow = nn.Linear(2 * size, size)
        self.enter = nn.Linear(size + width + flat, config.hidden)
        self.blocks = nn.ModuleList(
            ResidualBlock(config.hidden, config.layer_norm) for _ in range(config.blocks)
        )
        self.leave = nn.Linear(config.hidden, flat)

    def forward(self, embedding: Tensor, step: Tensor, actions: Tensor) -> Tensor:
        """Embedding (..., width), step (..., 1) counted from 0, flat actions (..., a) to noise (..., a)."""
        return self.left(self.states(embedding, step, actions)[-1])

    def left(self, states: Tensor) -> Tensor:
        """The noise (..., a), from the states behind the last block."""
        noise: Tensor = self.leave(functional.silu(states))
        return noise

    def states(self, embedding: Tensor, step: Tensor, actions: Tensor) -> list[Tensor]:
        """The states (..., hidden) before each block and behind the last."""
        phase = 2.0 * math.pi * self.frequencies(step)
        features = torch.cat([phase.cos(), phase.sin()], dim=-1)
        time = self.time_narrow(functional.silu(self.time_wide(features)))
        found = [self.enter(torch.cat([time, embedding, actions], dim=-1))]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found

    def pulled_back(self, states: list[Tensor], vector: Tensor) -> Tensor:
        """The Jacobian of noise with respect to actions, transposed, times `vector`, all (..., a).

        Written out rather than left to automatic differentiation, which neither ONNX nor a captured graph
        could hold.
        """
        vector = _silu_slope(states[-1]) * (vector @ self.leave.weight)
        blocks = cast("list[ResidualBlock]", list(self.blocks))
        for block, before in zip(reversed(blocks), reversed(states[:-1]), strict=True):
            vector = block.pulled_back(before, vector)
        return vector @ self.enter.weight[:, -self.leave.out_features :]


def _silu_slope(inputs: Tensor) -> Tensor:
    gate = torch.sigmoid(inputs)
    return gate * (1.0 + inputs * (1.0 - gate))


class DiffusionHead(nn.Module):
    """Samples action chunks."""

    def __init__(self, config: HeadConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.network = ScoreNetwork(config, width)
        self.schedule = cosine_schedule(config.steps)

    def sample(
        self,
        embedding: Tensor,
        noise: Tensor,
        step_noise: Tensor,
        kept: Tensor | None = None,
        target: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Flat normalised actions (..., a) within the head's bounds.

        Args:
            embedding: (..., width), of the time step to act on.
            noise: (..., a) standard normal, where the sampling begins.
            step_noise: (steps, ..., a) standard normal, added by each step from the noisiest on.
            kept: (a,) True for dimensions the robot has; the others hold what noise they would have had in
                training.  None: all.
            target: (..., a) normalised actions to come near to.
            weight: (..., a), 0 to 1, how near.  None: not guided.
        """
        actions = noise
        plan, largest = self.schedule, self.config.largest
        for index, step in enumerate(reversed(range(plan.steps))):
            product = float(plan.products[step])
            time = torch.full_like(actions[..., :1], float(step))
            if target is None or weight is None:
                predicted = self.network(embedding, time, actions)
            else:
                predicted = self._guided(embedding, time, actions, product, target, weight)
            alpha = float(plan.alphas[step])
            share = (1.0 - alpha) / math.sqrt(1.0 - product)
            actions = (actions - share * predicted) / math.sqrt(alpha)
            if step > 0:
                actions = actions + math.sqrt(float(plan.betas[step])) * step_noise[index]
            actions = actions.clamp(-largest, largest)
            if kept is not None:
                actions = torch.where(kept, actions, math.sqrt(1.0 - product) * step_noise[index])
        return actions

    def _guided(
        self, embedding: Tensor, time: Tensor, actions: Tensor, product: float, target: Tensor, weight: Tensor
    ) -> Tensor:
        """The noise, shifted so that the clean actions it implies come nearer to the target.

        Real-time chunking (Black et al., arXiv 2506.07339) pulls by the weighted difference between target
        and clean estimate, taken back through the network by its Jacobian, as pseudoinverse guidance does
        (Song et al., ICLR 2023; r^2 = 1 - product there).  In a denoising sampler the estimate is
        (x - sqrt(1 - product) noise) / sqrt(product), and the pull's weight 1 / sqrt(product), clipped.
        """
        root, rest = math.sqrt(product), math.sqrt(1.0 - product)
        largest = self.config.largest
        states = self.network.states(embedding, time, actions)
        predicted = self.network.left(states[-1])
        clean = (actions - rest * predicted) / root
        bounded = clean.clamp(-largest, largest)
        wish = weight * (target - bounded)
        pull = (wish - rest * self.network.pulled_back(states, wish)) / root
        moved = (clean + min(GUIDANCE, 1.0 / root) * pull).clamp(-largest, largest)
        # as much noise as the clean actions move, within their bounds
        return predicted - root / rest * (moved - bounded)

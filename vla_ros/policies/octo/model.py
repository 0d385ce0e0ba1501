"""Octo: cameras and an instruction to tokens, tokens through a transformer, a readout to a chunk of actions.

The shape is that of octo-models/octo v1.5 (arXiv 2405.12213).  Two ways lead through the transformer: all
tokens of all time steps under one mask, as the original computes them, and `Sequence`, which computes only
what the newest action needs and answers the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from vla_ros.policies.octo.config import ImageTokens, OctoConfig
from vla_ros.policies.octo.diffusion import DiffusionHead
from vla_ros.policies.octo.masks import Group, group_mask
from vla_ros.policies.octo.stem import Stem
from vla_ros.policies.octo.t5 import T5Encoder, T5Sizes
from vla_ros.policies.octo.transformer import Transformer, additive


@dataclass(frozen=True)
class Tokens:
    """Tokens (b, n, width) of the task or (b, steps, n, width); `mask` likewise, False: padding."""

    tokens: Tensor
    mask: Tensor


class CameraStem(nn.Module):
    """A camera's stem and the projection to the transformer's width."""

    def __init__(self, config: ImageTokens, width: int, tokens: int, window: int) -> None:
        """`tokens` a frame; position embeddings for `window` time steps."""
        super().__init__()
        self.stem = Stem(config.stem, 6 if config.goal else 3)
        self.projection = nn.Linear(config.stem.outputs, width)
        self.positions = nn.Parameter(torch.zeros(1, window, tokens, width))

    def forward(self, images: Tensor) -> Tensor:
        """Frames with goals behind them (n, height, width, channels) to (n, tokens, width), unplaced."""
        tokens: Tensor = self.projection(self.stem(images).flatten(1, 2))
        return tokens


class Language(nn.Module):
    """The instruction's encoder and projection."""

    def __init__(self, sizes: T5Sizes, width: int, tokens: int) -> None:
        super().__init__()
        self.encoder = T5Encoder(sizes)
        self.projection = nn.Linear(sizes.width, width)
        self.positions = nn.Parameter(torch.zeros(1, tokens, width))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Ids and mask (b, n) to tokens (b, n, width) with their positions."""
        tokens: Tensor = self.projection(self.encoder(ids, mask)) + self.positions
        return tokens


class Octo(nn.Module):
    """The whole model."""

    def __init__(self, config: OctoConfig, tokens: Mapping[str, int], t5: T5Sizes) -> None:
        """`tokens` a frame of each camera's group; `t5` are the sizes of the instruction's encoder."""
        super().__init__()
        self.config = config
        self.tokens = dict(tokens)
        width, window = config.width, config.longest_window
        self.cameras = nn.ModuleDict(
            {one.name: CameraStem(one, width, tokens[one.name], window) for one in config.images}
        )
        self.language = Language(t5, width, config.instruction_tokens) if config.language else None
        self.readouts = nn.ParameterDict(
            {
                name: nn.Parameter(torch.zeros(1, window, count, width))
                for name, count in config.readouts.items()
            }
        )
        self.transformer = Transformer(width, config.layers, config.heads, config.mlp)
        self.head = DiffusionHead(config.head, width)

    def fold(self) -> None:
        """Prepare for inference: what depends on weights alone is computed now."""
        for name in self.cameras:
            self.camera(name).stem.fold()
        self.eval().requires_grad_(False)

    def camera(self, name: str) -> CameraStem:
        """The stem of a camera's group."""
        return cast(CameraStem, self.cameras[name])

    def takes_goal(self, name: str) -> bool:
        """Whether a camera's stem sees a goal image behind the frame."""
        return any(one.name == name and one.goal for one in self.config.images)

    def frame_tokens(self, name: str, images: Tensor, goals: Tensor | None) -> Tensor:
        """Frames (n, h, w, 3) and goals of the same shape, 0 to 255, to (n, tokens, width), not yet placed.

        A goal that is not there is black, as in training; a camera without goals ignores it.
        """
        if self.takes_goal(name):
            images = torch.cat([images, torch.zeros_like(images) if goals is None else goals], dim=-1)
        tokens: Tensor = self.camera(name)(images)
        return tokens

    def groups(
        self,
        frames: Mapping[str, Tokens],
        task: Tokens | None,
        step_mask: Tensor,
    ) -> tuple[dict[str, Tokens], dict[str, Tokens]]:
        """The task's groups and each time step's, placed and in order, as they enter the transformer.

        `frames`: of each camera that is there, unplaced tokens (b, steps, n, width), mask (b, steps).
        `task`: placed tokens (b, n, width) and mask (b,).  `step_mask` (b, steps): False for padded steps.
        """
        steps = step_mask.shape[1]
        language = self.config.language
        task_groups: dict[str, Tokens] = {}
        if language is not None and task is not None:
            mask = task.mask[:, None].expand(task.tokens.shape[:2])
            task_groups[f"task_{language.name}"] = Tokens(task.tokens, mask)
        step_groups: dict[str, Tokens] = {}
        for one in self.config.images:
            if one.name in frames:
                found = frames[one.name]
                mask = (step_mask & found.mask)[:, :, None].expand(found.tokens.shape[:3])
                placed = found.tokens + self.camera(one.name).positions[:, :steps]
                step_groups[f"obs_{one.name}"] = Tokens(placed, mask)
        if self.config.repeat_task:
            for name, group in task_groups.items():
                tokens = group.tokens[:, None].expand(-1, steps, -1, -1)
                step_groups[f"obs_{name}"] = Tokens(tokens, group.mask[:, None].expand(-1, steps, -1))
        for name in self.config.readouts:
            positions: Tensor = self.readouts[name]
            tokens = positions[:, :steps].expand(step_mask.shape[0], -1, -1, -1)
            step_groups[f"readout_{name}"] = Tokens(tokens, torch.ones_like(tokens[..., 0], dtype=torch.bool))
        return task_groups, step_groups

    def attend(
        self, task: Mapping[str, Tokens], step: Mapping[str, Tokens]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """All groups behind the transformer, of the task and of the steps, and the mask (b, n, n) applied."""
        batch, steps = next(iter(step.values())).tokens.shape[:2]
        timed = torch.cat([group.tokens for group in step.values()], dim=2)
        timed_mask = torch.cat([group.mask for group in step.values()], dim=2)
        sequence = torch.cat([*(group.tokens for group in task.values()), timed.flatten(1, 2)], dim=1)
        padding = torch.cat([*(group.mask for group in task.values()), timed_mask.flatten(1, 2)], dim=1)
        rule = _rule(
            tuple(Group(name, group.tokens.shape[1]) for name, group in task.items()),
            tuple(Group(name, group.tokens.shape[2]) for name, group in step.items()),
            steps,
            self.config.correct_attention,
            sequence.device,
        )
        mask = rule[None] & padding[:, None, :]
        states = self.transformer(sequence, additive(mask[:, None], sequence.dtype))
        prefix = sum(group.tokens.shape[1] for group in task.values())
        sizes = [group.tokens.shape[1] for group in task.values()]
        parts = states[:, :prefix].split(sizes, dim=1) if sizes else ()
        of_task = dict(zip(task, parts, strict=True))
        rest = states[:, prefix:].view(batch, steps, -1, states.shape[-1])
        step_parts = rest.split([group.tokens.shape[2] for group in step.values()], dim=2)
        return of_task, dict(zip(step, step_parts, strict=True)), mask

    def embeddings(self, step: Mapping[str, Tensor]) -> Tensor:
        """What the head reads (b, steps, width): the mean of its readout's tokens."""
        return step[f"readout_{self.config.head.readout}"].mean(dim=2)


class Sequence(nn.Module):
    """The transformer from a window of frames to what the head reads for the newest step, with less work.

    Left out, for nothing depends on it: other heads' readouts, everything but the newest readout in the last
    layer, and pairs of tokens that do not see each other because one is of a later time step.  (Under the
    oldest checkpoints' attention observations see readouts: then all of these stay.)
    """

    rule: Tensor
    """Which token may attend to which, before padding, (n, n)."""

    def __init__(self, model: Octo, names: tuple[str, ...], steps: int) -> None:
        """`names` of the cameras that are there, in any order; `steps` of the window."""
        super().__init__()
        self.model = model
        self.steps = steps
        config = model.config
        self.names = tuple(one.name for one in config.images if one.name in names)
        language = config.language
        self.task = [] if language is None else [Group(f"task_{language.name}", config.instruction_tokens)]
        groups = [Group(f"obs_{name}", model.tokens[name]) for name in self.names]
        groups += [Group(f"obs_{group.name}", group.size) for group in self.task if config.repeat_task]
        groups += [Group(f"readout_{name}", count) for name, count in config.readouts.items()]
        self.step = groups
        self.read = f"readout_{config.head.readout}"
        order = self._order()
        rule = group_mask(self.task, self.step, steps, config.correct_attention)[order][:, order]
        self.register_buffer("rule", torch.from_numpy(rule.copy()), persistent=False)

    def _order(self) -> list[int]:
        """Positions in the whole sequence of the tokens that are computed; sets where each step ends."""
        prefix = sum(group.size for group in self.task)
        order, self.ends, place = list(range(prefix)), [prefix] if prefix else [], prefix
        read: list[int] = []
        for step in range(self.steps):
            for group in self.step:
                tokens = range(place, place + group.size)
                place += group.size
                if self._is_read(group, step):
                    read = list(tokens)
                elif self._is_used(group):
                    order += tokens
            self.ends.append(len(order))
        self.count = len(read)
        self.ends[-1] += self.count
        return order + read

    def _is_read(self, group: Group, step: int) -> bool:
        return group.name == self.read and step == self.steps - 1

    def _is_used(self, group: Group) -> bool:
        return (
            group.name.startswith("obs_")
            or group.name == self.read
            or not self.model.config.correct_attention
        )

    def forward(self, task: Tensor, task_mask: Tensor, frames: list[Tensor], masks: list[Tensor]) -> Tensor:
        """(b, width) for the head.

        Args:
            task: tokens of the instruction (b, n, width), placed.
            task_mask: (b,), False: no instruction.
            frames: of each camera (b, steps, n, width), not yet placed.
            masks: of each camera (b, steps): False for padded steps and missing frames.
        """
        shown = task_mask[:, None].expand(task.shape[:2])
        tokens, keys = ([task], [shown]) if self.task else ([], [])
        for step in range(self.steps):
            for group in self.step:
                if self._is_used(group) and not self._is_read(group, step):
                    part, mask = self._part(group, step, task, shown, frames, masks)
                    tokens.append(part)
                    keys.append(mask)
        last, mask = self._readout(self.read, self.steps - 1, task)
        states, padding = torch.cat([*tokens, last], dim=1), torch.cat([*keys, mask], dim=1)
        bias = additive(self.rule[None, None] & padding[:, None, None, :], states.dtype)
        found = self.model.transformer.in_steps(states, bias, self.ends, self.count)
        embedding: Tensor = found.mean(dim=1)
        return embedding

    def _part(
        self, group: Group, step: int, task: Tensor, shown: Tensor, frames: list[Tensor], masks: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Tokens (b, n, width) of a group at a step, and which are no padding (b, n)."""
        if group.name.startswith("readout_"):
            return self._readout(group.name, step, task)
        name = group.name.removeprefix("obs_")
        if name not in self.names:
            return task, shown
        index = self.names.index(name)
        placed = frames[index][:, step] + self.model.camera(name).positions[:, step]
        return placed, masks[index][:, step : step + 1].expand(placed.shape[:2])

    def _readout(self, name: str, step: int, task: Tensor) -> tuple[Tensor, Tensor]:
        embeddings: Tensor = self.model.readouts[name.removeprefix("readout_")]
        positions = embeddings[:, step]
        tokens = positions.expand(task.shape[0], -1, -1)
        return tokens, torch.ones_like(tokens[..., 0], dtype=torch.bool)


@lru_cache(maxsize=8)
def _rule(
    task: tuple[Group, ...], step: tuple[Group, ...], steps: int, correct: bool, device: torch.device
) -> Tensor:
    return torch.from_numpy(group_mask(task, step, steps, correct)).to(device)


def random_octo(config: OctoConfig, tokens: Mapping[str, int], t5: T5Sizes, seed: int = 0) -> Octo:
    """A model with random weights, spread as in a fresh training: for tests and for measuring speed."""
    generator = torch.Generator().manual_seed(seed)
    model = Octo(config, tokens, t5)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if one.ndim > 1:
                fan: Any = one[0].numel() if not name.endswith("positions") else 2500
                one.normal_(0.0, float(fan) ** -0.5, generator=generator)
            elif name.endswith("bias"):
                one.normal_(0.0, 0.02, generator=generator)
    return model

"""What OpenVLA-OFT adds to OpenVLA (arXiv 2502.19645): an action head, and a token for the robot's own state.

Names of parameters are those of action_head--*.pt and proprio_projector--*.pt (moojink/openvla-oft).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """x + relu(linear(norm(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        return x + self.ffn(x)  # type: ignore[no-any-return]


class ResidualNetwork(nn.Module):
    """A norm and a layer, blocks, and a norm and a layer."""

    def __init__(self, inputs: int, width: int, outputs: int, blocks: int = 2) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(inputs)
        self.fc1 = nn.Linear(inputs, width)
        self.mlp_resnet_blocks = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.layer_norm2 = nn.LayerNorm(width)
        self.fc2 = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        x = functional.relu(self.fc1(self.layer_norm1(x)))
        for block in self.mlp_resnet_blocks:
            x = block(x)
        return self.fc2(self.layer_norm2(x))  # type: ignore[no-any-return]


class ActionHead(nn.Module):
    """Hidden states of a step's numbers, side by side, to that step's action; trained by L1 distance."""

    def __init__(self, width: int, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.model = ResidualNetwork(width * dimension, width, dimension)

    def forward(self, hidden: Tensor) -> Tensor:
        """(b, chunk * dimension, width) to normalised actions (b, chunk, dimension)."""
        return self.model(hidden.reshape(len(hidden), -1, self.dimension * hidden.shape[2]))  # type: ignore[no-any-return]


class StateProjector(nn.Module):
    """The robot's normalised state to an embedding of the language model."""

    def __init__(self, state: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(state, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, state: Tensor) -> Tensor:
        """(b, state) to (b, width); the GELU between is the exact one."""
        return self.fc2(functional.gelu(self.fc1(state)))  # type: ignore[no-any-return]

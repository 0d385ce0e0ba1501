"""SmallStem: the few convolutions Octo has in front of its transformer ("Early Convolutions Help
Transformers See Better", arXiv 2106.14881), with standardised weights (arXiv 1903.10520).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from vla_ros.policies.octo.config import StemConfig

_EPSILON = 1e-5


class StandardConv(nn.Conv2d):
    """A convolution whose weight is shifted and scaled, per output, to mean 0 and deviation 1.

    The deviation is that of the population, as flax's modules have it.
    """

    def standardised(self) -> Tensor:
        """The weight that is applied, (outputs, inputs, k, k)."""
        axes = (1, 2, 3)
        centred = self.weight - self.weight.mean(axes, keepdim=True)
        deviation = centred.square().mean(axes, keepdim=True).sqrt()
        return centred / (deviation + _EPSILON)

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.conv2d(inputs, self.standardised(), self.bias, self.stride, self.padding)

    def folded(self) -> nn.Conv2d:
        """A plain convolution that does the same: nothing is standardised again at every call."""
        outputs, inputs, side, _ = self.weight.shape
        plain = nn.Conv2d(inputs, outputs, side, self.stride[0], padding=int(self.padding[0]))
        plain.weight = nn.Parameter(self.standardised().detach())
        plain.bias = self.bias
        return plain


class Stem(nn.Module):
    """Images to tokens, a patch each."""

    def __init__(self, config: StemConfig, channels: int) -> None:
        """`channels`: 3 of the image, 6 with the goal image."""
        super().__init__()
        sizes = (channels, *config.features)
        layers = zip(sizes, config.features, config.kernels, config.strides, config.padding, strict=False)
        self.convolutions = nn.ModuleList(StandardConv(*layer) for layer in layers)
        self.norms = nn.ModuleList(nn.GroupNorm(32, size, eps=1e-6) for size in config.features)
        side = config.patch // 16
        self.embedding = nn.Conv2d(sizes[-1], config.outputs, side, side)

    def forward(self, images: Tensor) -> Tensor:
        """(n, height, width, channels), 0 to 255, to (n, height / patch, width / patch, features)."""
        features = images.to(self.embedding.weight.dtype).permute(0, 3, 1, 2) / 127.5 - 1.0
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = functional.relu(norm(convolution(features)))
        patches: Tensor = self.embedding(features)
        return patches.permute(0, 2, 3, 1)

    def fold(self) -> None:
        """Standardise the weights once and for all; training ends here."""
        self.convolutions = nn.ModuleList(
            one.folded() if isinstance(one, StandardConv) else one for one in self.convolutions
        )

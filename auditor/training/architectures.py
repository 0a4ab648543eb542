"""The networks of S2 and S3 by name, untrained."""

from __future__ import annotations

from collections.abc import Callable

import torchvision.models
from torch import Tensor, nn


def lenet() -> nn.Module:
    """S2's network for 28×28 gray images: two convolutions, 32 and 64, and a dense layer of 1,024.

    Each convolution is 5×5 with ReLU and 2×2 max-pooling (S2 appendix A; Chalasani et al. 2020).
    """
    return _sized(
        nn.Sequential(
            nn.Conv2d(1, 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 7 * 7, 1024),
            nn.ReLU(),
            nn.Linear(1024, 10),
        ),
        side=28,
    )


def wide_resnet_28_10() -> nn.Module:
    """WideResNet-28-10 for 32×32 color images: 28 layers, ten times as wide (Zagoruyko 2016)."""
    return _sized(WideResNet(depth=28, widening=10, classes=10), side=32)


def vgg16_cifar() -> nn.Module:
    """VGG-16 with batch normalization for 32×32 color images, with one dense layer.

    The convolutions are torchvision's; at 32×32 they end in 1×1 maps, so that S2's appendix F
    needs no dense layers of 4,096.
    """
    features = torchvision.models.vgg16_bn().features
    return _sized(nn.Sequential(features, nn.Flatten(), nn.Linear(512, 10)), side=32)


def resnet18() -> nn.Module:
    """ResNet-18 of torchvision for ten classes of 224×224 color images, as those of ImageNette."""
    return _sized(torchvision.models.resnet18(num_classes=10), side=224)


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "lenet": lenet,
    "wide_resnet_28_10": wide_resnet_28_10,
    "vgg16_cifar": vgg16_cifar,
    "resnet18": resnet18,
}
"""Name → factory; ``--model auditor.training.architectures:NAME`` names one as well."""


class WideResNet(nn.Module):
    """Residual network with pre-activation and three stages, for small images.

    Parameters
    ----------
    depth
        6n + 4: n residual blocks of two convolutions in each stage.
    widening
        k: the stages have 16k, 32k and 64k channels.
    classes
        Number of logits.

    References
    ----------
    Zagoruyko and Komodakis 2016, *Wide Residual Networks*, Table 1.
    """

    def __init__(self, *, depth: int, widening: int, classes: int) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError("depth is 6n + 4, n at least 1")
        blocks, widths = (depth - 4) // 6, [width * widening for width in (16, 32, 64)]
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.stage1 = _stage(16, widths[0], blocks=blocks, stride=1)
        self.stage2 = _stage(widths[0], widths[1], blocks=blocks, stride=2)
        self.stage3 = _stage(widths[1], widths[2], blocks=blocks, stride=2)
        self.head = nn.Sequential(
            nn.BatchNorm2d(widths[2]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.fc = nn.Linear(widths[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, 3, H, W)."""
        features = self.stage3(self.stage2(self.stage1(self.conv(x))))
        logits: Tensor = self.fc(self.head(features))
        return logits


class _Residual(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        same = channels == width and stride == 1
        self.skip = None if same else nn.Conv2d(channels, width, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.before(x)
        past = x if self.skip is None else self.skip(active)
        added: Tensor = past + self.body(active)
        return added


def _stage(channels: int, width: int, *, blocks: int, stride: int) -> nn.Sequential:
    first = _Residual(channels, width, stride)
    return nn.Sequential(first, *(_Residual(width, width, 1) for _ in range(blocks - 1)))


def _sized(network: nn.Module, *, side: int) -> nn.Module:
    network.input_size = side  # type: ignore[assignment]  # what load_model reads
    return network

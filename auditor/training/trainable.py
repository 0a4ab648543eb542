"""A classifier's network as training sees it: logits from pixel space, in train mode."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from auditor.errors import InputError
from auditor.models import Classifier
from auditor.outputs import pick
from auditor.usercode import plain_errors


class Trainable(nn.Module):
    """Copy of a classifier's network behind the classifier's own preparation and reading.

    Attributes
    ----------
    network
        The copy, with gradients of its weights, in train mode.

    Raises
    ------
    InputError
        If the format cannot be trained, or the network cannot be copied.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        able = classifier.capabilities.training
        if not able.able:
            raise InputError(f"{classifier.name}: cannot be trained. {able.reason}")
        with plain_errors(f"{classifier.name}: its network cannot be copied"):
            self.network = copy.deepcopy(classifier.network)
            # In torch 2.14 the weight gradient of a channels-last 1×1 convolution with stride 2
            # and four input channels writes beyond its memory on processors with AVX2 only.
            self.network.to(memory_format=torch.contiguous_format)
        self.network.requires_grad_(True).train()
        # In a tuple, or the classifier's own network would be trained as well.
        self._classifier = (classifier,)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W) in [0, 1]."""
        (classifier,) = self._classifier
        returned = self.network(classifier.prepared(x))
        return classifier.output.logits(pick(returned, classifier.output.key, name=classifier.name))

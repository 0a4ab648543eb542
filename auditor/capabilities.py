"""What a model's format can do, with the reason where it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SurrogateKind = Literal["eager mode", "graph", "none"]


@dataclass(frozen=True)
class Ability:
    """Whether something can be done; ``reason`` says why not, and what to do instead."""

    able: bool = True
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What can be asked of a classifier beyond its logits; the default is a network from code.

    Attributes
    ----------
    first_derivative, second_derivative
        Of the logits with respect to the image, by automatic differentiation.
    layers
        Hooks that see the activations of a layer, as Grad-CAM needs them.
    training
        Train mode, with gradients of the weights.
    reinitialization
        The same architecture with random weights: the control of every audit.
    surrogate
        How ReLU and its kin get smooth twins: a mode around the eager network
        (:class:`attacks.Surrogate`), a rewritten graph (``attacks.graph_surrogate``), or not.
    surrogate_reason
        Why there is no surrogate.
    batches
        Smallest and largest number of images in one call (``None``: any). The classifier itself
        cuts and pads what does not fit, so that this is a matter of speed only.
    """

    first_derivative: Ability = Ability()
    second_derivative: Ability = Ability()
    layers: Ability = Ability()
    training: Ability = Ability()
    reinitialization: Ability = Ability()
    surrogate: SurrogateKind = "eager mode"
    surrogate_reason: str = ""
    batches: tuple[int, int | None] = (1, None)


EAGER = Capabilities()
"""Of a network that is there as code."""

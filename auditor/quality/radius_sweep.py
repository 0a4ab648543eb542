"""Infidelity and sensitivity over the smoothing radius: how much smoothing helps or hurts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from torch import Tensor

from auditor.attributions import Method
from auditor.evaluation import Evaluator
from auditor.quality.infidelity import Infidelity
from auditor.quality.scores import Scores
from auditor.quality.sensitivity import Sensitivity


def radius_sweep(
    evaluator: Evaluator,
    make: Callable[[float], Method],
    radii: Sequence[float],
    x: Tensor,
    target: Tensor,
    *,
    images: Sequence[int],
    infidelity: Infidelity,
    sensitivity: Sensitivity,
) -> Mapping[float, tuple[Scores, Scores]]:
    """Infidelity and sensitivity of ``make(radius)`` for each radius, or each σ (S4 B.3, Figure 6).

    All radii see the same perturbations, and the infidelity of all of them takes one forward pass
    a perturbation. S4 expects the infidelity to fall and then to rise as the radius grows, and the
    sensitivity to fall.

    Parameters
    ----------
    make
        The method smoothed by so much, 0 for not at all; with the same noise seed for all radii,
        they are compared under common random numbers.
    radii
        In pixel units.
    """
    methods = [make(radius) for radius in radii]
    maps = [method(evaluator, x, target, images=images, draw=0)[0] for method in methods]
    unfaithful = infidelity.of_each(evaluator, maps, x, target, images=images)
    sensitive = [
        sensitivity(evaluator, method, x, target, images=images, maps=clean)
        for method, clean in zip(methods, maps, strict=True)
    ]
    pairs = zip(unfaithful, sensitive, strict=True)
    return MappingProxyType(dict(zip(radii, pairs, strict=True)))

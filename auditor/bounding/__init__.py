"""From the measured sides of an audit's bounds to the records of its result."""

from __future__ import annotations

from auditor.bounding.facts import Facts
from auditor.bounding.images import cosines, curvature, overlaps, scores
from auditor.bounding.layers import layers
from auditor.bounds.record import Bound

__all__ = ["Facts", "all_bounds"]


def all_bounds(facts: Facts) -> tuple[Bound, ...]:
    """Every bound that the audit's measurements and the model allow."""
    return (
        *overlaps(facts),
        *cosines(facts),
        *curvature(facts),
        *scores(facts),
        *layers(facts),
    )

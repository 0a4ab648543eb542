"""Attacks on attribution maps: move the map, keep the prediction."""

from attacks.ball import project, random_signs, random_start
from attacks.explain import Explain, Margin
from attacks.search import Found, TopKSearch
from attacks.topk import Boundary, Mass, overlap, top_set

__all__ = [
    "Boundary",
    "Explain",
    "Found",
    "Margin",
    "Mass",
    "TopKSearch",
    "overlap",
    "project",
    "random_signs",
    "random_start",
    "top_set",
]

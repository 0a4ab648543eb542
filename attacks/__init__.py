"""Attacks on attribution maps: move the map, keep the prediction."""

from attacks.ball import L2, Linf, project, random_signs, random_start
from attacks.center import MassCenter
from attacks.clean import Clean, Objective, top_set
from attacks.cosine import Cosine
from attacks.explain import Explain, Margin
from attacks.manipulation import Manipulation, as_target_map
from attacks.rank import Rank
from attacks.region import TargetRegion
from attacks.search import Found, Search
from attacks.surrogate import Surrogate, smooth
from attacks.topk import Boundary, Mass, overlap

__all__ = [
    "L2",
    "Boundary",
    "Clean",
    "Cosine",
    "Explain",
    "Found",
    "Linf",
    "Manipulation",
    "Margin",
    "Mass",
    "MassCenter",
    "Objective",
    "Rank",
    "Search",
    "Surrogate",
    "TargetRegion",
    "as_target_map",
    "overlap",
    "project",
    "random_signs",
    "random_start",
    "smooth",
    "top_set",
]

"""Attacks on attribution maps: move the map, keep the prediction."""

from attacks.ball import L2, Linf, project, random_signs, random_start
from attacks.center import MassCenter
from attacks.clean import Clean, Objective, top_set
from attacks.cosine import Cosine
from attacks.distance import Distance
from attacks.ensemble import POLISH, Best, Strongest, inherit
from attacks.explain import Explain, Margin, Twin
from attacks.manipulation import Manipulation, as_target_map
from attacks.oracles import (
    Difference,
    DifferencePullback,
    DoubleBackward,
    Oracle,
    SurrogateDifference,
    fastest,
)
from attacks.pool import Found, choose, merge
from attacks.problem import Fees, Problem
from attacks.random_search import RandomSearch
from attacks.rank import Rank
from attacks.region import TargetRegion
from attacks.rules import Annealed, Apgd, FixedSign
from attacks.search import Search
from attacks.surrogate import Surrogate, smooth
from attacks.topk import Boundary, Mass, overlap

__all__ = [
    "L2",
    "POLISH",
    "Annealed",
    "Apgd",
    "Best",
    "Boundary",
    "Clean",
    "Cosine",
    "Difference",
    "DifferencePullback",
    "Distance",
    "DoubleBackward",
    "Explain",
    "Fees",
    "FixedSign",
    "Found",
    "Linf",
    "Manipulation",
    "Margin",
    "Mass",
    "MassCenter",
    "Objective",
    "Oracle",
    "Problem",
    "RandomSearch",
    "Rank",
    "Search",
    "Strongest",
    "Surrogate",
    "SurrogateDifference",
    "TargetRegion",
    "Twin",
    "as_target_map",
    "choose",
    "fastest",
    "inherit",
    "merge",
    "overlap",
    "project",
    "random_signs",
    "random_start",
    "smooth",
    "top_set",
]

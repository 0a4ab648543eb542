"""Quality of attribution maps: sparse, faithful, stable."""

from auditor.perturbations import (
    GaussianNoise,
    NoisyBaseline,
    Perturbation,
    SquareRemoval,
    UniformNoise,
    square_sizes,
)
from auditor.quality.attacked_sensitivity import AttackedSensitivity
from auditor.quality.infidelity import Infidelity
from auditor.quality.noise_ssim import NoiseSsim
from auditor.quality.planted import OneBlock, Pairs, PlantedTruth, side_by_side, trained
from auditor.quality.radius_sweep import radius_sweep
from auditor.quality.randomization import Randomization, layers_of
from auditor.quality.registry import METRICS, Metric
from auditor.quality.road import Curve, Road
from auditor.quality.robust_infidelity import RobustInfidelity
from auditor.quality.scores import Scores
from auditor.quality.sensitivity import Sensitivity
from auditor.quality.sparseness import gini, sparseness
from auditor.quality.stability import RelativeStability

__all__ = [
    "METRICS",
    "AttackedSensitivity",
    "Curve",
    "GaussianNoise",
    "Infidelity",
    "Metric",
    "NoiseSsim",
    "NoisyBaseline",
    "OneBlock",
    "Pairs",
    "Perturbation",
    "PlantedTruth",
    "Randomization",
    "RelativeStability",
    "Road",
    "RobustInfidelity",
    "Scores",
    "Sensitivity",
    "SquareRemoval",
    "UniformNoise",
    "gini",
    "layers_of",
    "radius_sweep",
    "side_by_side",
    "sparseness",
    "square_sizes",
    "trained",
]

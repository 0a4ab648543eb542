"""What a profile may say: its sections and keys, its probes, and the metrics of each."""

from __future__ import annotations

import math
from collections.abc import Mapping

# Metric → (least value, largest value, comparison that asks for a good value).
METRICS: Mapping[str, tuple[float, float, str]] = {
    "topk_intersection": (0.0, 1.0, ">="),
    "topk_iou": (0.0, 1.0, ">="),
    "topk_mass": (0.0, 1.0, ">="),
    "spearman": (-1.0, 1.0, ">="),
    "ssim": (-1.0, 1.0, ">="),
    "cosine_distance": (0.0, 2.0, "<="),
    "center_shift": (0.0, math.inf, "<="),
    "relative_l2": (0.0, math.inf, "<="),
    "normalized_fidelity_error": (0.0, math.inf, "<="),
    "normalized_stability_error": (0.0, math.inf, "<="),
    "self_overlap": (0.0, 1.0, ">="),
    "label_kept": (0.0, 1.0, ">="),
    "map_error": (0.0, math.inf, "<="),
    "norm_ratio": (0.0, math.inf, ">="),
    "gini": (0.0, 1.0, ">="),
    "infd_scaled_noisy_baseline": (0.0, math.inf, "<="),
    "infd_scaled_squares": (0.0, math.inf, "<="),
    "sens_max": (0.0, math.inf, "<="),
    "sens_attack": (0.0, math.inf, "<="),
    "log10_ris": (-math.inf, math.inf, "<="),
    "log10_ros": (-math.inf, math.inf, "<="),
    "log10_rrs": (-math.inf, math.inf, "<="),
    "road_morf": (-1.0, 1.0, ">="),
    "road_lerf": (-1.0, 1.0, "<="),
    "ssim_noise_0.02": (-1.0, 1.0, ">="),
    "ssim_noise_0.05": (-1.0, 1.0, ">="),
    "ssim_noise_0.1": (-1.0, 1.0, ">="),
    "ssim_noise_0.2": (-1.0, 1.0, ">="),
}
_QUALITY = (
    *("gini", "infd_scaled_noisy_baseline", "infd_scaled_squares", "sens_max", "sens_attack"),
    *("log10_ris", "log10_ros", "log10_rrs", "road_morf", "road_lerf"),
    *("ssim_noise_0.02", "ssim_noise_0.05", "ssim_noise_0.1", "ssim_noise_0.2"),
)
_DRIFT = ("topk_intersection", "topk_iou", "topk_mass", "spearman", "ssim", "cosine_distance")
# The attack searches for the least top-k overlap, so of the attacked figures only that one is a
# worst case. Plain ℓ₂ errors are absent: a map that vanishes would improve them.
PROBES: Mapping[str, tuple[str, ...]] = {
    "attack": ("topk_intersection",),
    "smoothing": (
        *_DRIFT,
        "center_shift",
        "relative_l2",
        "normalized_fidelity_error",
        "self_overlap",
        "label_kept",
        "map_error",
        "norm_ratio",
    ),
    "twin": (*_DRIFT, "normalized_stability_error"),
    # Of the infidelities only those that do not depend on the scale of the map: smoothing shrinks
    # it. RIS, ROS and RRS by their logarithm, for single pixels move their means.
    "quality": _QUALITY,
}
COMPARISONS = {"minimize": "<=", "maximize": ">="}

BASES = ("paper", "regulation", "standard", "judgment", "own words")
"""Where a limit comes from; ``because`` says it in full."""

AT_ZERO: Mapping[str, float] = {
    "topk_intersection": 1.0,
    "topk_iou": 1.0,
    "spearman": 1.0,
    "ssim": 1.0,
    "cosine_distance": 0.0,
    "center_shift": 0.0,
    "relative_l2": 0.0,
    "normalized_fidelity_error": 0.0,
    "self_overlap": 1.0,
    "label_kept": 1.0,
    "map_error": 0.0,
}
"""Metrics of the probe ``smoothing`` → their value at σ = 0, which no other σ can better."""

KEYS: Mapping[str, Mapping[str, str]] = {
    "": {
        "name": "Short name, printed wherever the profile is used.",
        "title": "Name in words.",
        "summary": "When to use it: a paragraph of at most 1,000 characters.",
        "confidence": "Level of the two-sided intervals on which criteria are judged, in (0, 1).",
    },
    "threat": {
        "epsilon": "Size of the attack in 1/255, in (0, 255]; σ are compared at it.",
        "epsilon_large": "Optional: the size from 128×128 pixels on.",
        "because": "Why this size.",
    },
    "measure": {
        "sigmas": "Optional: the σ to measure, numbers in [0, 1]; 0 is added.",
        "samples": "Optional: noise draws per smoothed map, from 2.",
        "budget": "Optional: gradients for each image and ε of the attack on the plain map.",
    },
    "objective": {
        "probe": "attack, smoothing, twin or quality.",
        "metric": "What is best among the σ that meet every criterion.",
        "attack": "strongest; with the probe attack only.",
        "epsilon": "Optional: a size of the attack other than [threat]'s.",
        "epsilon_large": "Optional: that size from 128×128 pixels on.",
        "direction": "minimize or maximize.",
        "indifference": "Optional: a difference of the objective that does not matter "
        "[default: 0.02].",
        "because": "Why this quantity decides.",
    },
    "criteria": {
        "name": "Short name, unique in the profile.",
        "title": "The words of the report.",
        "probe": "attack, smoothing, twin or quality.",
        "metric": "A metric of that probe.",
        "attack": "strongest; with the probe attack only.",
        "epsilon": "Optional: a size of the attack other than [threat]'s.",
        "epsilon_large": "Optional: that size from 128×128 pixels on.",
        "comparison": ">= or <=, whichever asks for a good map.",
        "bound": "The limit, in the metric's own unit.",
        "compared_to": "Optional: unsmoothed; the limit then holds for the difference to σ = 0.",
        "method": "Optional: hold only this attribution method to it.",
        "confidence": "Optional: instead of the profile's, in (0, 1).",
        "images": "Optional: images that must count in each half, from 30.",
        "basis": "Optional: paper, regulation, standard, judgment, or own words, the default.",
        "because": "Where the limit comes from, in full.",
    },
    "gates": {
        "map_present": "Least share of images whose smoothed map has not vanished.",
        "self_overlap": "Least overlap of two maps made with different noise.",
        "label_kept": "Least share of noise draws that keep the explained class.",
        "reinitialized_margin": "Most that a re-initialized network's map may exceed chance.",
        "because": "Where these thresholds come from.",
    },
}
"""Section → key → what it says. ``criteria`` may be repeated, ``measure`` left out."""

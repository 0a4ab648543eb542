"""Every number of an audit in one frozen record, and where each came from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from auditor.attributions import Method
from auditor.errors import InputError
from auditor.glance import GLANCE
from auditor.metrics.drift import default_k
from auditor.probes.subject import SIMPLE_GRAD, fees
from auditor.probes.suite import strongest
from auditor.results import Setting
from profiles import Profile
from profiles.records import LARGE_INPUT

EFFORTS = ("quick", "standard", "thorough")
CHOICES = (GLANCE, *EFFORTS)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Numbers that decide what an audit measures; the same settings give the same results.

    Attributes
    ----------
    sigmas
        Smoothing in pixel space, ascending, starting with 0 (the unsmoothed map).
    epsilons
        ℓ∞ attack sizes in 1/255 against the unsmoothed map, ascending.
    smooth_epsilons
        Attack sizes in 1/255 against the smoothed maps: those on which the profile decides.
    samples
        Noise draws per smoothed map: of an effort, given, or found by a pilot.
    budget
        Gradients that the attack on the unsmoothed map may take for each image and ε.
    smooth_budget, search_samples, select_samples
        Against smoothed maps: the same for each σ, fresh draws per map in the search, draws for
        the choice among candidates.
    smooth_objectives
        Whether mass-center and manipulation attack the smoothed maps too, with half the budget,
        and everyday changes of the pictures are tried on them.
    transfer_images
        Images for which perturbations found at one σ are tried at others; 0 leaves that out.
    quality_images
        Images on which the quality of maps is measured, in even steps through the audit; all of
        them if the profile decides on it.
    quality_smoothed
        Whether metrics that explain perturbed images are measured on smoothed maps as well.
    bound_images
        Images on which certificates are set against attacks, in even steps through the audit.
    bound_draws
        Independent noise draws behind each side of a bracket.
    k
        Number of top pixels that are compared.
    seed
        Seed of everything random.
    chunk
        Images per task.
    hessian_classes
        Most classes of the closed-form Hessian.
    """

    sigmas: tuple[float, ...]
    epsilons: tuple[float, ...]
    smooth_epsilons: tuple[float, ...]
    samples: int
    budget: int
    smooth_budget: int
    search_samples: int
    select_samples: int
    smooth_objectives: bool
    transfer_images: int
    quality_images: int
    quality_smoothed: bool
    bound_images: int
    bound_draws: int
    k: int
    seed: int
    chunk: int
    hessian_classes: int


_SMALL: Mapping[str, Mapping[str, Any]] = {
    "quick": {"grid": 6, "samples": 50, "budget": 240, "smooth_budget": 300},
    "standard": {"grid": 9, "samples": 100, "budget": 600, "smooth_budget": 900},
    "thorough": {"grid": 13, "samples": 200, "budget": 1200, "smooth_budget": 1800},
}
_LARGE: Mapping[str, Mapping[str, Any]] = {
    "quick": {"grid": 5, "samples": 24, "budget": 90, "smooth_budget": 120},
    "standard": {"grid": 7, "samples": 50, "budget": 300, "smooth_budget": 400},
    "thorough": {"grid": 11, "samples": 100, "budget": 600, "smooth_budget": 900},
}
_LARGE_EPSILONS: Mapping[str, tuple[float, ...]] = {
    "quick": (0.25, 0.5, 2.0),
    "standard": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
    "thorough": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
}


_BOUND_IMAGES = {False: (4, 8, 16), True: (1, 2, 4)}
_BOUND_DRAWS = (10, 20, 50)
"""For each effort, in units of the draws per smoothed map."""
_QUALITY_IMAGES = {False: (16, 32, 64), True: (4, 8, 16)}
"""By whether images are large: for each effort."""


def sigma_grid(points: int, *, large: bool) -> tuple[float, ...]:
    """σ in pixel space with 0 first.

    Small inputs: σ = t², t equally spaced from 0 to √0.3 (S0 Fig. 16), ``points`` in all. From
    128×128 pixels on: 0 and ``points`` values spaced evenly in log σ from .0025 to .3, because
    there a map has changed beyond recognition long before the first steps of the other grid.
    """
    if large:
        spaced = np.geomspace(0.0025, 0.3, points)
        return (0.0, *(float(f"{s:.3g}") for s in spaced))
    return tuple(float(f"{t * t:.3g}") for t in np.linspace(0.0, np.sqrt(0.3), points))


def effort_preset(effort: str, input_shape: tuple[int, int, int]) -> Mapping[str, Any]:
    """What an effort means for images (C, H, W): ``samples``, ``budget``, ``smooth_budget``, …."""
    _, height, width = input_shape
    presets = _LARGE if height * width >= LARGE_INPUT else _SMALL
    return presets["quick" if effort == GLANCE else effort]


def plan_settings(
    *,
    effort: str,
    profile: Profile,
    input_shape: tuple[int, int, int],
    origin: str,
    method: Method = SIMPLE_GRAD,
    **given: Any,
) -> tuple[Settings, tuple[Setting, ...]]:
    """Settings of an effort, each replaced by what profile or user gave, with the origin of each.

    ``given`` holds any of ``sigmas``, ``epsilons``, ``samples``, ``budget``, ``k`` and ``seed``
    (``None`` = not given); ``origin`` names where these came from. A ``method`` whose maps take
    several gradients gets an effort's budget that many times, so that it is attacked as hard.

    Raises
    ------
    InputError
        If a value is out of range.
    """
    if effort not in CHOICES:
        raise InputError(f"effort {effort!r} is unknown. Choose one of {', '.join(CHOICES)}.")
    given = {name: value for name, value in given.items() if value is not None}
    _, height, width = input_shape
    large = height * width >= LARGE_INPUT
    preset = effort_preset(effort, input_shape)
    decisive = profile.attack_epsilons(height, width)
    glance = effort == GLANCE
    if glance and ("epsilons" in given or "budget" in given):
        raise InputError("effort glance runs no attack: leave out epsilon and budget.")
    rank = 0 if glance else EFFORTS.index(effort)
    usual = _LARGE_EPSILONS[EFFORTS[rank]] if large else (2.0, 4.0, 8.0, 16.0)
    values: dict[str, Any] = {
        "sigmas": sigma_grid(preset["grid"], large=large),
        "epsilons": usual,
        "samples": preset["samples"],
        "budget": method.price * preset["budget"],
        "k": default_k(height, width),
        "seed": 0,
    }
    declared = {n: v for n, v in vars(profile.measure).items() if v is not None}
    values |= declared | given
    _check(values, pixels=height * width)
    origins = dict.fromkeys(("sigmas", "epsilons", "samples", "budget"), "effort")
    origins |= {"k": "default", "seed": "default"}
    origins |= dict.fromkeys(declared, "profile") | dict.fromkeys(given, origin)
    samples = values["samples"]
    settings = Settings(
        sigmas=tuple(sorted({0.0, *map(float, values["sigmas"])})),
        epsilons=() if glance else tuple(sorted({*map(float, values["epsilons"]), *decisive})),
        smooth_epsilons=() if glance else decisive,
        samples=samples,
        budget=values["budget"],
        smooth_budget=round(preset["smooth_budget"] * values["budget"] / preset["budget"]),
        search_samples=min(2 if large and effort == "quick" else 4, samples),
        select_samples=max(1, min(16, samples // 3)),
        smooth_objectives=effort not in (GLANCE, "quick"),
        transfer_images=0 if glance or (large and effort == "quick") else 16,
        quality_images=0 if glance else _QUALITY_IMAGES[large][rank],
        quality_smoothed=effort == "thorough" or (effort == "standard" and not large),
        bound_images=_BOUND_IMAGES[large][rank],
        bound_draws=_BOUND_DRAWS[rank] * samples,
        k=values["k"],
        seed=values["seed"],
        chunk=4 if large else 32,
        hessian_classes=20,
    )
    _check_budget(settings, method)
    derived = {
        "smooth_epsilons": "profile",
        "smooth_budget": origins["budget"],
        "search_samples": origins["samples"] if samples < 4 else "effort",
        "select_samples": origins["samples"],
        "smooth_objectives": "effort",
        "transfer_images": "effort",
        "quality_images": "effort",
        "quality_smoothed": "effort",
        "bound_images": "effort",
        "bound_draws": origins["samples"],
        "chunk": "default",
        "hessian_classes": "default",
    }
    rows = tuple(
        Setting(name=f.name, value=_words(getattr(settings, f.name)), origin=label)
        for f in dataclasses.fields(Settings)
        for label in [origins.get(f.name) or derived[f.name]]
    )
    return settings, (Setting(name="effort", value=effort, origin=origin), *rows)


def _check(values: Mapping[str, Any], *, pixels: int) -> None:
    for sigma in values["sigmas"]:
        if not 0 <= sigma <= 1:
            raise InputError(
                f"sigma {sigma:g} is out of range: give values from 0 to 1 (pixel units)."
            )
    for epsilon in values["epsilons"]:
        if not 0 < epsilon <= 255:
            raise InputError(
                f"epsilon {epsilon:g} is out of range: give values in (0, 255], in 1/255 units."
            )
    if not values["sigmas"] or not values["epsilons"]:
        raise InputError("At least one sigma and one epsilon are needed.")
    if not isinstance(values["samples"], Integral):
        raise InputError(
            f"samples {values['samples']!r} is not understood: give a number from 2, or auto."
        )
    if values["samples"] < 2:
        raise InputError(f"samples {values['samples']} is too small: give at least 2.")
    if not 1 <= values["k"] < pixels:
        raise InputError(f"k {values['k']} is out of range: a map has {pixels} pixels.")
    if not 0 <= values["seed"] < 2**63:
        raise InputError(f"seed {values['seed']} is out of range: give 0 to 2**63 - 1.")


def _check_budget(settings: Settings, method: Method) -> None:
    """Refuse a budget that does not allow one step of every attack."""
    plain = fees(sigma=0.0, samples=1, select_samples=1, method=method)
    least = math.ceil(2 * strongest(sigma=0.0, method=method).least(plain))
    if settings.budget < least:
        raise InputError(f"budget {settings.budget} is too small: give at least {least} gradients.")
    if len(settings.sigmas) == 1:
        return
    samples = {"samples": settings.search_samples, "select_samples": settings.select_samples}
    noisy = fees(sigma=1.0, method=method, **samples)
    wanted = strongest(sigma=1.0, method=method).least(noisy)
    wanted *= 2 if settings.smooth_objectives else 1
    if settings.smooth_budget < wanted:
        least = math.ceil(settings.budget * wanted / settings.smooth_budget) + 1
        raise InputError(
            f"budget {settings.budget} is too small for smoothed maps of {settings.samples} draws: "
            f"give at least {least} gradients."
        )


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{item:g}" for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)

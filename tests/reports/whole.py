"""A made-up audit with everything that an audit can hold, and as much of it as a report prints."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from auditor.comparisons import compare_ensembles
from auditor.results import (
    Assumption,
    AuditResult,
    Bound,
    Check,
    Measurement,
    MethodAnswer,
    ProfileAnswer,
)
from auditor.subgroups import by_subgroup
from reports.definitions import QUALITY
from reports.series import ALL_ATTACKS
from reports.text import NATURAL

from .measurements import Maker, Scenario
from .synthetic import make_result

SIGMAS = (0.0, 0.0033, 0.0075, 0.0133, 0.03, 0.0675, 0.12, 0.27)
EPSILONS = (0.5, 2.0, 4.0, 8.0, 16.0)
ENSEMBLES = (
    "DT, disjoint training splits; 4 members of 500 images, seed 10007",
    "DR, another recipe; 4 members of 2,000 images, seed 10011",
    "DA, another architecture; 4 members of 2,000 images, seed 10013",
    "seed; 4 members of 2,000 images, seed 10017",
)


def make_whole(**changes: object) -> AuditResult:
    """An audit with every probe, six methods, three twins, four ensembles, eight σ, five ε."""
    wanted = {
        "sigmas": SIGMAS,
        "epsilons": EPSILONS,
        "smooth_epsilons": (2.0, 8.0),
        "twins": tuple(f"runs/2026-03/twins/recipe-{i}/twin.safetensors" for i in range(3)),
        "gallery": 8,
        **changes,
    }
    made = make_result(**wanted)
    maker = Maker(Scenario(**wanted))  # type: ignore[arg-type]
    ensembles = tuple(_ensembles(maker))
    more = (*_quality(maker), *_natural(maker), *_attacks(maker), *_transfer(maker), *ensembles)
    groups = tuple(f"site {i % 12:02d}" for i in range(len(made.images.names)))
    chosen = made.recommendation.considered
    return dataclasses.replace(
        made,
        measurements=made.measurements + more,
        comparisons=compare_ensembles(ensembles, seed=0),
        images=dataclasses.replace(made.images, subgroups=groups),
        subgroups=by_subgroup(made.measurements, groups, sigma=chosen, epsilon=8.0, seed=0),
        bounds=_bounds(made),
        gallery={**made.gallery, **_pictures(made)},
        methods=_methods(made),
        other_profiles=tuple(
            ProfileAnswer(
                name=name,
                sha256="0" * 64,
                decided="",
                verdict="no_sigma",
                sigma=None,
                considered=chosen,
                reason="Top-k overlap at ε = 4/255 is 0.552; 0.6 was required.",
                missing=("the quality of maps at ε = 1/255",),
            )
            for name in ("debugging", "discovery", "clinical")
        ),
        model=_checked(made.model),
        twins=tuple(map(_checked, made.twins)),
        timings={f"sigma {sigma}": 60.0 for sigma in SIGMAS} | dict(made.timings),
    )


def _methods(made: AuditResult) -> tuple[MethodAnswer, ...]:
    names = ("simple_grad", "grad_x_input", "integrated_gradients", "grad_cam", "guided_backprop")
    found = tuple(
        MethodAnswer(
            name=name,
            verdict="no_sigma" if place else "recommended",
            sigma=None if place else made.recommendation.sigma,
            objective=None if place else made.recommendation.options[0].objective,
            gradients=1600,
            chosen=not place,
            reason="Top-k overlap at ε = 4/255 is 0.552 on the screening half; 0.6 was required.",
        )
        for place, name in enumerate(names)
    )
    impossible = MethodAnswer(
        name="deep_lift",
        verdict="not applicable",
        sigma=None,
        objective=None,
        gradients=None,
        chosen=False,
        reason="The model has a layer for which no rule is known.",
    )
    return (*found, impossible)


def _checked(model: object) -> object:
    checks = tuple(
        Check(name=f"check {i}", status="ok", message="It answers as it has to: " + 8 * "found ")
        for i in range(9)
    )
    return dataclasses.replace(model, preflight=checks)  # type: ignore[type-var]


def _quality(maker: Maker) -> list[Measurement]:
    return [
        maker.measure("quality", metric, "ratio", 0.3 + sigma, lost=7, sigma=sigma)
        for sigma in maker.scenario.sigmas
        for metric in QUALITY
    ]


def _natural(maker: Maker) -> list[Measurement]:
    return [
        m
        for sigma in (0.0, maker.scenario.sigmas[len(maker.scenario.sigmas) // 2])
        for change in NATURAL
        for m in maker.drifts("natural", 0.2, sigma=sigma, attack=change)
    ]


def _attacks(maker: Maker) -> list[Measurement]:
    """Every attack, where the others have only the strongest and the controls."""
    known = ("random_signs", "transfer", "strongest")
    found = []
    for sigma in maker.scenario.sigmas:
        sizes = maker.scenario.smooth_epsilons if sigma else maker.scenario.epsilons
        for epsilon, attack in itertools.product(sizes, (a for a in ALL_ATTACKS if a not in known)):
            found += maker.drifts("attack", 0.4, sigma=sigma, epsilon=epsilon, attack=attack)
    for attack in ("manipulation", "random_signs"):
        at = {"sigma": 0.0, "epsilon": 8.0, "attack": attack}
        found.append(maker.measure("attack", "target_cosine", "ratio", 0.4, **at))
    return found


def _transfer(maker: Maker) -> list[Measurement]:
    at = [0.0, *maker.scenario.sigmas[-2:]]
    return [
        maker.measure(
            "transfer_matrix",
            "topk_intersection",
            "ratio",
            0.5,
            sigma=shown,
            epsilon=8.0,
            partner=f"σ = {found:g}",
        )
        for found, shown in itertools.product(at, at)
    ]


def _ensembles(maker: Maker) -> list[Measurement]:
    found = []
    for name in ENSEMBLES:
        for sigma in maker.scenario.sigmas:
            at = {"sigma": sigma, "partner": name}
            scale = 1 / (1 + 12 * sigma)
            found += [
                maker.measure("ensemble", metric, unit, mean, **at)
                for metric, unit, mean in (
                    ("stability_error", "map units", 11 * scale),
                    ("normalized_stability_error", "ratio", 0.9 - 0.8 * sigma),
                    ("fidelity_error", "map units", 9 * (1 - scale)),
                    ("normalized_fidelity_error", "ratio", 1 - scale),
                    ("variance", "map units²", 40 * scale),
                    ("ssim", "ratio", 0.3 + sigma),
                    ("topk_iou", "ratio", 0.2 + sigma),
                    ("topk_intersection", "ratio", 0.35 + sigma),
                )
            ]
        found.append(maker.measure("ensemble", "agreement", "ratio", 0.93, partner=name))
    return [_positive(m) for m in found]


def _positive(m: Measurement) -> Measurement:
    return dataclasses.replace(m, values=tuple(None if v is None else abs(v) for v in m.values))


def _bounds(made: AuditResult) -> tuple[Bound, ...]:
    looked_at = tuple(range(min(6, len(made.images.names))))
    n = len(looked_at)
    kinds = (
        *(("topk_certificate", "lower", radius) for radius in (0.01, 0.02, 0.05, 0.1, 0.2)),
        *(("cosine_certificate", "upper", radius) for radius in (0.01, 0.05)),
        ("logit_curvature", "estimate", 0.01),
        *((f"theorem_{i}", "upper", None) for i in range(14)),
    )
    return tuple(
        Bound(
            name=name,
            title=f"What the {name.replace('_', ' ')} says of the map",
            source="Levine, Singla and Feizi 2019 (arXiv 1905.12105), Theorem 1",
            kind=kind,
            unit="ratio",
            values=(0.3,) * n,
            measured=(0.9 if kind == "lower" else 0.2,) * n,
            vacuous=(kind == "upper",) * n,
            images=looked_at,
            sigma=0.03,
            radius=radius,
            note=f"Remark {radius} on the {name.replace('_', ' ')}, in a sentence of its own.",
            assumptions=tuple(
                Assumption(
                    text=f"{what} is bounded by {name.replace('_', ' ')}",
                    status="not met",
                    reason="Ramps have kinks, and noise leaves the box of pixels.",
                )
                for what in ("The score",)
            ),
        )
        for name, kind, radius in kinds
    )


def _pictures(made: AuditResult) -> dict[str, np.ndarray]:
    """Two images of each ensemble, as two of its members see them."""
    side, e = made.gallery["image"].shape[-1], len(ENSEMBLES)
    maps = np.random.default_rng(0).random((e, 2, 2, 2, side, side))
    return {
        "member_index": np.zeros((e, 2)),
        "member_place": np.tile([0.0, 1.0], (e, 1)),
        "member_sigma": np.array(made.sigmas[-1]),
        "member_image": np.zeros((e, 2, *made.gallery["image"].shape[1:])),
        "member_maps": maps,
    }

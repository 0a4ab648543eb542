"""Every metric of map quality in one table: what it is, what it costs, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from auditor.quality.noise_ssim import STDS

FORWARD = 1 / 3
"""Cost of a forward pass in gradients (forward and backward pass)."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of map quality, with the default settings.

    Attributes
    ----------
    name
        Its key in :attr:`auditor.quality.Scores.values`.
    group
        Metrics of one group are measured together, at the cost of one of them.
    formula
        In one line.
    source
        Where it is defined.
    unit, better
        Of its values; whether higher or lower is better, ``"neither"`` for a baseline.
    maps, forwards
        Further maps and forward passes of the model for each image, at most.
    view
        What of the map it looks at.
    needs
        What model and images must offer beyond logits and maps.
    """

    name: str
    group: str
    formula: str
    source: str
    unit: str
    better: Literal["higher", "lower", "neither"]
    maps: int
    forwards: int
    view: Literal["raw", "magnitude", "visual"]
    needs: str = ""

    def gradients(self, *, of_a_map: float = 1.0) -> float:
        """Cost of its group for each image, when a map costs so many gradients."""
        return self.maps * of_a_map + self.forwards * FORWARD


_INFD, _SENS = "Yeh 2019; S4 B.1", "Yeh 2019; S4 B.1"
_ROAD = "Rong 2022; S2 4.1"
_SQUARED = {
    "infd": "E_I (IᵀΦ − (f(x) − f(x−I)))²",
    "infd_scaled": "min_α E_I (αIᵀΦ − (f(x) − f(x−I)))²",
}
_ROBUST = {
    "rinfd": "max E_I (IᵀΦ(x+u) − (f(x+u) − f(x+u−I)))², 20 random u and u = 0",
    "rinfd_bound": "max(0, A − B(x) − B(x−I))²/4, A and B changes of IᵀΦ and of f by u",
}
_WHERE = {"noisy_baseline": "I = x − noise", "squares": "I = a square of x"}
_STABLE = {
    "ris": ("‖(Φ−Φ′)/Φ‖ / ‖(x−x′)/x‖", "Agarwal 2022; S2 (37)", "ratio", ""),
    "ros": ("‖(Φ−Φ′)/Φ‖ / ‖z−z′‖, z logits", "Agarwal 2022; S2 (38)", "1/logit", ""),
    "rrs": (
        "‖(Φ−Φ′)/Φ‖ / ‖(h−h′)/h‖, h input of the last linear layer",
        "Agarwal 2022",
        "ratio",
        "layers, one of them linear",
    ),
}


def _table() -> list[Metric]:
    rows = [
        Metric(
            name="gini",
            group="sparseness",
            formula="1 − 2 Σₖ a₍ₖ₎/‖a‖₁ · (d − k + ½)/d",
            source="Chalasani 2020; S2 (36)",
            unit="ratio",
            better="higher",
            maps=0,
            forwards=0,
            view="magnitude",
        )
    ]
    rows += [
        Metric(
            name=f"{name}_{where}",
            group=f"infidelity {where}",
            formula=f"{formula}, {what}",
            source=_INFD,
            unit="logit²",
            better="lower",
            maps=0,
            forwards=1001,
            view="raw",
        )
        for where, what in _WHERE.items()
        for name, formula in _SQUARED.items()
    ]
    rows += [
        Metric(
            name=f"{name}_{where}",
            group=f"robust infidelity {where}",
            formula=f"{formula}, {what}",
            source="S4 C.1, corrected" if name == "rinfd_bound" else "S4 C.1",
            unit="logit²",
            better="lower",
            maps=20,
            forwards=2121,
            view="raw",
        )
        for where, what in _WHERE.items()
        for name, formula in _ROBUST.items()
    ]
    rows += [
        Metric(
            name=name,
            group=group,
            formula=formula,
            source=_SENS,
            unit="ratio",
            better="lower",
            maps=maps,
            forwards=0,
            view="raw",
        )
        for name, group, formula, maps in (
            ("sens_max", "sensitivity", "max ‖Φ(y)−Φ(x)‖/‖Φ(x)‖, 50 random y", 50),
            ("sens_max_unit", "sensitivity", "the same of maps at unit norm", 50),
            ("sens_attack", "attacked sensitivity", "max ‖Φ(y)−Φ(x)‖/‖Φ(x)‖, y searched", 151),
        )
    ]
    for name, (formula, source, unit, needs) in _STABLE.items():
        for prefix in ("", "log10_"):
            rows.append(
                Metric(
                    name=prefix + name,
                    group="relative stability",
                    formula=f"{'log₁₀ ' if prefix else ''}max {formula}",
                    source=source,
                    unit="log10" if prefix else unit,
                    better="lower",
                    maps=50,
                    forwards=52,
                    view="raw",
                    needs=needs,
                )
            )
    orders: tuple[tuple[str, str, Literal["higher", "lower", "neither"]], ...] = (
        ("road_morf", "most relevant pixels first", "higher"),
        ("road_lerf", "least relevant pixels first", "lower"),
        ("road_random", "random map", "neither"),
    )
    rows += [
        Metric(
            name=name,
            group="ROAD",
            formula=f"Σₖ (p₀ − pₖ)/(L + 1), {what} imputed, 5% a step",
            source=_ROAD,
            unit="ratio",
            better=better,
            maps=0,
            forwards=60,
            view="magnitude",
        )
        for name, what, better in orders
    ]
    rows += [
        Metric(
            name=f"ssim_noise_{std:g}",
            group="SSIM under noise",
            formula=f"mean SSIM of maps at x and x + z, z of std {std:g}, same prediction",
            source="Adebayo 2018; S2 I.4",
            unit="ratio",
            better="higher",
            maps=5 * len(STDS),
            forwards=5 * len(STDS) + 1,
            view="visual",
            needs="11 pixels a side",
        )
        for std in STDS
    ]
    return rows


METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _table()})
"""Name → metric."""

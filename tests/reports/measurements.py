"""Made-up measurements that look like real ones: smooth rules plus noise of a fixed seed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from auditor.results import (
    Estimate,
    Measurement,
    Setting,
)

DRIFTS = {
    "topk_intersection": "ratio",
    "topk_mass": "ratio",
    "topk_iou": "ratio",
    "spearman": "ratio",
    "center_shift": "pixels",
    "cosine_distance": "ratio",
    "ssim": "ratio",
    "l2": "map units",
    "relative_l2": "ratio",
}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What kind of audit to make up."""

    images: int = 16
    sigmas: tuple[float, ...] = (0.0, 0.0675, 0.27)
    epsilons: tuple[float, ...] = (2.0, 8.0)
    smooth_epsilons: tuple[float, ...] = (8.0,)
    verdict: str = "recommended"
    twins: tuple[str, ...] = ("twin.safetensors",)
    probes: tuple[str, ...] = ("smoothing", "attack", "twin", "control", "curvature")
    gallery: int = 1
    channels: int = 1
    side: int = 28
    model_name: str = "demo.model:build"
    name_prefix: str = "digits/7/held-out-"
    unreadable: tuple[tuple[str, str], ...] = (("digits/3/broken.png", "cannot be decoded"),)
    misclassified: int | None = 3
    classes: tuple[str, ...] = tuple("0123456789")
    settings: tuple[Setting, ...] = field(
        default=(
            Setting(name="effort", value="quick", origin="command line"),
            Setting(name="samples", value="32", origin="effort"),
            Setting(name="attack steps", value="40", origin="effort"),
            Setting(name="k", value="20", origin="default"),
            Setting(name="seed", value="0", origin="default"),
            Setting(name="confidence", value="0.95", origin="profile"),
        )
    )


class Maker:
    """Fills in the measurements of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.random = np.random.default_rng(7)
        count = scenario.images
        wrong = min(scenario.misclassified or 0, max(0, count - 1))
        self.counted = np.arange(count) < count - wrong
        self.wrong = wrong

    def measure(
        self, probe: str, metric: str, unit: str, mean: float, *, lost: int = 0, **where: object
    ) -> Measurement:
        spread = 0.25 * abs(mean) if unit != "ratio" else 0.12 * min(1.0, abs(mean))
        raw = mean + spread * self.random.standard_normal(self.scenario.images)
        if unit == "ratio" and metric != "normalized_stability_error":
            raw = np.clip(raw, 0, 1)
        counted = self.counted.copy()
        lost = min(lost, max(0, int(counted.sum()) - 1))
        counted[:lost] = False
        values = tuple(float(v) if c else None for v, c in zip(raw, counted, strict=True))
        excluded = {"misclassified": self.wrong} if self.wrong else {}
        if lost:
            excluded["no feasible perturbation"] = lost
        return Measurement(
            probe=probe,
            metric=metric,
            unit=unit,
            values=values,
            estimate=summarize(values),
            excluded=excluded,
            **where,  # type: ignore[arg-type]
        )

    def drifts(self, probe: str, strength: float, **where: object) -> list[Measurement]:
        """All nine drifts; ``strength`` 0 is an unchanged map, 1 an unrelated one."""
        likeness = 1 - strength
        means = {
            "topk_intersection": 0.026 + 0.97 * likeness,
            "topk_mass": 0.3 * likeness,
            "topk_iou": likeness / (2 - likeness),
            "spearman": likeness,
            "center_shift": 4.2 * strength,
            "cosine_distance": strength,
            "ssim": likeness,
            "l2": 13.7 * strength,
            "relative_l2": strength,
        }
        return [
            self.measure(
                probe,
                metric,
                unit,
                means[metric],
                lost=2 if probe == "attack" else 0,
                chance=20 / 784 if metric.startswith("strongest") else None,
                **where,
            )
            for metric, unit in DRIFTS.items()
        ]

    def smoothing(self) -> list[Measurement]:
        found: list[Measurement] = []
        for sigma in self.scenario.sigmas:
            at = {"sigma": sigma}
            shrink = 1 / (1 + 12 * sigma)
            found += [
                self.measure("smoothing", "self_overlap", "ratio", 1 - 0.6 * sigma, **at),
                self.measure("smoothing", "label_kept", "ratio", 1 - 0.4 * sigma, **at),
                self.measure("smoothing", "map_error", "ratio", 0.4 * sigma, **at),
                self.measure("smoothing", "norm_ratio", "ratio", shrink, **at),
                self.measure("smoothing", "fidelity_error", "map units", 9 * (1 - shrink), **at),
                self.measure("smoothing", "normalized_fidelity_error", "ratio", 1 - shrink, **at),
            ]
            found += self.drifts("smoothing", 0.9 * (1 - shrink), **at)
        return found

    def attack(self) -> list[Measurement]:
        found: list[Measurement] = []
        for sigma in self.scenario.sigmas:
            epsilons = self.scenario.smooth_epsilons if sigma else self.scenario.epsilons
            kinds = (
                ("random_signs", "transfer", "strongest")
                if sigma
                else ("random_signs", "strongest")
            )
            for epsilon in epsilons:
                for kind in kinds:
                    share = {"random_signs": 0.4, "transfer": 0.7, "strongest": 1.0}[kind]
                    strength = share * (1 - np.exp(-epsilon / 8)) / (1 + 8 * sigma)
                    where = {"sigma": sigma, "epsilon": epsilon, "attack": kind}
                    found += self.drifts("attack", float(strength), **where)
                    if sigma:
                        found.append(
                            self.measure(
                                "attack",
                                "topk_intersection_common",
                                "ratio",
                                float(1 - 0.8 * strength),
                                lost=2,
                                chance=20 / 784,
                                **where,
                            )
                        )
        found.append(
            self.measure(
                "attack", "auc_over_eps", "overlap over ε", 1.31, sigma=0.0, attack="strongest"
            )
        )
        return found

    def twin(self) -> list[Measurement]:
        found: list[Measurement] = []
        for partner in self.scenario.twins:
            for sigma in self.scenario.sigmas:
                at = {"sigma": sigma, "partner": partner}
                scale = 1 / (1 + 12 * sigma)
                for metric, unit, mean in (
                    ("stability_error", "map units", 11 * scale * (0.9 - 0.5 * sigma)),
                    ("normalized_stability_error", "ratio", 0.9 - 0.8 * sigma),
                    ("fidelity_error", "map units", 9 * (1 - scale)),
                    ("normalized_fidelity_error", "ratio", 1 - scale),
                    ("ssim", "ratio", 0.3 + sigma),
                    ("topk_iou", "ratio", 0.2 + sigma),
                    ("topk_intersection", "ratio", 0.35 + sigma),
                ):
                    found.append(self.measure("twin", metric, unit, mean, **at))
            found.append(self.measure("twin", "agreement", "ratio", 0.93, partner=partner))
        return found

    def control(self) -> list[Measurement]:
        return [
            self.measure(
                "control",
                metric,
                "ratio",
                0.08 + 0.1 * sigma,
                sigma=sigma,
                partner="reinitialized",
                chance=20 / 784 if metric == "topk_intersection" else None,
            )
            for sigma in self.scenario.sigmas
            for metric in ("topk_intersection", "ssim", "spearman")
        ]

    def curvature(self) -> list[Measurement]:
        logs = self.random.normal(-2, 1.5, self.scenario.images)
        drift = logs + self.random.normal(-0.3, 0.25, self.scenario.images)
        tiny = self.random.random(self.scenario.images) < 0.1
        columns = [
            ("hessian_eigenvalue", "1/pixel units²", None, 10.0 ** np.where(tiny, -15, logs)),
            ("hessian_residual", "1/pixel²", None, np.zeros(self.scenario.images)),
            *(
                ("loss_gradient_drift", "1/pixel units²", e, 10.0 ** (drift - 0.02 * e))
                for e in self.scenario.epsilons[:2]
            ),
            *(
                ("rho", "pixel units", e, np.full(self.scenario.images, 28 * e / 255))
                for e in self.scenario.epsilons[:2]
            ),
        ]
        return [
            Measurement(
                probe="curvature",
                metric=metric,
                unit=unit,
                epsilon=epsilon,
                values=tuple(float(v) for v in values),
                estimate=summarize(tuple(float(v) for v in values)),
            )
            for metric, unit, epsilon, values in columns
        ]


def summarize(values: tuple[float | None, ...]) -> Estimate | None:
    """A plain normal interval, good enough to look at."""
    counted = np.array([v for v in values if v is not None])
    if counted.size == 0:
        return None
    mean = float(counted.mean())
    half = float(1.96 * counted.std() / np.sqrt(counted.size))
    return Estimate(mean=mean, low=mean - half, high=mean + half, n=counted.size, confidence=0.95)

"""Made-up audits that look like real ones, to render reports of."""

from __future__ import annotations

import hashlib

import numpy as np

from auditor.results import (
    AuditResult,
    Check,
    Cost,
    CriterionResult,
    Gate,
    ImageIdentity,
    Measurement,
    ModelIdentity,
    ProfileRecord,
    Recommendation,
    SigmaOption,
)

from .measurements import Maker, Scenario


def make_result(**changes: object) -> AuditResult:
    """An audit of the given :class:`Scenario`."""
    scenario = Scenario(**changes)  # type: ignore[arg-type]
    maker = Maker(scenario)
    measurements: list[Measurement] = []
    for probe in scenario.probes:
        measurements += getattr(maker, probe)()
    names = tuple(f"{scenario.name_prefix}{i:05d}.png" for i in range(scenario.images))
    usable = [i for i in range(scenario.images) if maker.counted[i]]
    classes = len(scenario.classes)
    return AuditResult(
        auditor_version="0.1.0",
        created="2026-03-01T09:30:00+00:00",
        seed=0,
        k=20,
        sigmas=scenario.sigmas,
        epsilons=scenario.epsilons,
        samples=32,
        effort="quick",
        model=_model(scenario.model_name, scenario),
        twins=tuple(_model(name, scenario) for name in scenario.twins),
        images=ImageIdentity(
            source="data/held-out",
            format="ImageFolder",
            manifest_sha256=hashlib.sha256(b"images").hexdigest(),
            available=scenario.images + 936,
            selection=f"{scenario.images} drawn without replacement, seed 0",
            names=names,
            predicted=tuple(i % classes for i in range(scenario.images)),
            labels=tuple(i % classes for i in range(scenario.images)),
            class_balance={
                name: len(range(c, scenario.images, classes))
                for c, name in enumerate(scenario.classes)
            },
            class_names=scenario.classes,
            misclassified=None if scenario.misclassified is None else maker.wrong,
            unreadable=scenario.unreadable,
            screen=tuple(usable[::2]),
            confirm=tuple(usable[1::2]),
        ),
        profile=ProfileRecord(
            name="compliance",
            title="Compliance",
            summary="Explanations are shown to people whom a decision concerns.",
            sha256=hashlib.sha256(b"profile").hexdigest(),
            declared="2026-03-01T09:24:11+00:00",
            confidence=0.95,
            objective="largest overlap under the adaptive attack",
            tried=(
                (
                    "compliance",
                    hashlib.sha256(b"profile").hexdigest(),
                    "2026-03-01T09:24:11+00:00",
                ),
            ),
        ),
        recommendation=_recommendation(scenario, maker),
        measurements=tuple(measurements),
        settings=scenario.settings,
        environment={"python": "3.11.7", "torch": "2.14.1", "device": "cpu", "threads": "2"},
        costs=(
            Cost(probe="attack", gradients=312_400, forwards=120_000),
            Cost(probe="smoothing", gradients=28_672, forwards=14_336),
        ),
        notes=("The pixel range of 64 images was 0 to 1.",),
        command="auditor audit --model demo.model:build --images data/held-out --profile compliance"
        " --twin twin.safetensors --effort quick --out runs/demo",
        timings={"attack": 171.2, "smoothing": 20.5},
        gallery=_gallery(scenario, maker),
    )


def _model(name: str, scenario: Scenario) -> ModelIdentity:
    return ModelIdentity(
        name=name,
        format="factory",
        architecture="SmallCNN(conv 32, conv 64, dense 1024)",
        sha256=hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest(),
        parameters=3_274_634,
        classes=len(scenario.classes),
        input_shape=(scenario.channels, scenario.side, scenario.side),
        mean=(0.1307,) * scenario.channels,
        std=(0.3081,) * scenario.channels,
        preflight=(
            Check(name="eval mode", status="ok", message="Two calls gave the same output."),
            Check(name="ReLU", status="note", message="Only ReLU: the second derivative is 0."),
        ),
    )


def _recommendation(scenario: Scenario, maker: Maker) -> Recommendation:
    options = tuple(_option(scenario, maker, sigma) for sigma in scenario.sigmas)
    chosen = options[len(options) // 2]
    recommended = scenario.verdict == "recommended"
    sigma = chosen.sigma if recommended else None
    return Recommendation(
        verdict=scenario.verdict,
        sigma=sigma,
        sigma_255=None if sigma is None else 255 * sigma,
        sigma_normalized=() if sigma is None else (sigma / 0.3081,) * scenario.channels,
        considered=chosen.sigma,
        samples=32,
        interval=(scenario.sigmas[0], scenario.sigmas[-1]) if recommended else None,
        interval_confidence=0.9,
        none_share=0.03 if recommended else 0.71,
        criteria=chosen.criteria,
        gates=chosen.gates,
        options=options,
        reasons=()
        if recommended
        else (
            "Top-k overlap at ε = 4/255 is 0.552 on the confirming half; 0.6 was required.",
            "The self-overlap of the smoothed map, 0.71, is below the gate of 0.8 at n = 32.",
        ),
        advice=() if recommended else ("Audit more images: at least 30 in each half.",),
    )


def _option(scenario: Scenario, maker: Maker, sigma: float) -> SigmaOption:
    passing = scenario.verdict == "recommended"
    estimate = maker.measure("x", "x", "ratio", 0.71).estimate
    few = scenario.images < 4
    statuses = ("pass", "pass", "pass" if passing else "fail", "not run")
    if scenario.verdict == "inconclusive":
        statuses = ("inconclusive", "pass", "inconclusive", "not run")
    titles = (
        "Worst-case overlap at ε = 8/255",
        "Fidelity to the unsmoothed map",
        "Stability against the twin",
        "Similarity under other preprocessing",
    )
    metrics = (
        "topk_intersection",
        "normalized_fidelity_error",
        "normalized_stability_error",
        "ssim",
    )
    criteria = tuple(
        CriterionResult(
            name=f"c{i}",
            title=titles[i],
            metric=metrics[i],
            comparison=">=" if i in (0, 3) else "<=",
            bound=0.6,
            because="Readers notice when more than four of ten top pixels move (pilot study).",
            sigma=sigma,
            screen=None if statuses[i] == "not run" else estimate,
            confirm=None if few or statuses[i] == "not run" else estimate,
            status=statuses[i],
            reason="The lower limit of the interval is compared with the bound.",
        )
        for i in range(4)
    )
    gates = (
        Gate(
            name="self_overlap",
            title="Self-overlap of the smoothed map",
            value=1 - 0.6 * sigma,
            comparison=">=",
            limit=0.8,
            passed=passing,
            reason="",
        ),
        Gate(
            name="label_kept",
            title="Label kept under the noise",
            value=1 - 0.4 * sigma,
            comparison=">=",
            limit=0.9,
            passed=True,
            reason="",
        ),
        Gate(
            name="control",
            title="Less like the re-initialized network than like the twin",
            value=None if not scenario.twins else 0.1,
            comparison="<",
            limit=0.4,
            passed=None if not scenario.twins else True,
            reason="" if scenario.twins else "No twin was given.",
        ),
    )
    middle = len(scenario.sigmas) // 2
    distance = abs(scenario.sigmas.index(sigma) - middle)
    return SigmaOption(
        sigma=sigma,
        status="admissible" if passing and distance < 2 else "rejected",
        gates=gates,
        criteria=criteria,
        objective=estimate,
        on_front=distance < 3,
        wins={0: 0.61, 1: 0.18}.get(distance, 0.0) if passing else 0.02,
    )


def _gallery(scenario: Scenario, maker: Maker) -> dict[str, np.ndarray]:
    count = min(scenario.gallery, scenario.images)
    if count == 0:
        return {}
    side, random = scenario.side, maker.random
    rows, columns = np.mgrid[0:side, 0:side] / side
    blob = np.exp(-((rows - 0.5) ** 2 + (columns - 0.4) ** 2) / 0.05)
    image = np.repeat(blob[None, None], count, 0).repeat(scenario.channels, 1)
    noise = random.uniform(-8 / 255, 8 / 255, image.shape)

    def maps() -> np.ndarray:
        scales = np.array([2 / (1 + 100 * sigma) for sigma in scenario.sigmas])[:, None, None, None]
        return scales * blob * random.gamma(1.0, 1.0, (len(scenario.sigmas), count, side, side))

    arrays = {
        "index": np.arange(count),
        "worst": np.array(min(4, count)),
        "sigmas": np.array(scenario.sigmas),
        "epsilon": np.array(8.0),
        "image": image,
        "perturbed": np.stack([np.clip(image + noise, 0, 1)] * len(scenario.sigmas)),
        "before": maps(),
        "after": maps(),
        "overlap": np.linspace(0.1, 0.65, len(scenario.sigmas))[:, None].repeat(count, 1),
    }
    return {name: np.asarray(a, dtype=np.float32) for name, a in arrays.items()}

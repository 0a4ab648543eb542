"""Bounds on the audited images: certificates beside attacks, smoothed scores, curvature."""

from __future__ import annotations

import math

from auditor.bounding.facts import S0, S3, Facts, largest, log10
from auditor.bounds.certificate import fewest_draws
from auditor.bounds.record import Assumption, Bound, numbers
from auditor.bounds.smoothing import bounded, crossover, lipschitz
from auditor.errors import InputError
from auditor.probes.bounds import ALONG, BETA, CONFIDENCE
from auditor.records import Values

LEVINE = "Levine, Singla, Feizi 2019 (arXiv 1905.12105), Theorem 1; exact binomial limits"
FIXED = Assumption(text="The explained class is fixed", status="met")
INDEPENDENT = Assumption(text="Noise draws are independent, and not clipped", status="met")


def overlaps(facts: Facts) -> list[Bound]:
    """The certificate of top-k overlap at every radius, beside attacks at some of them."""
    found = []
    for radius in facts.radii("certified_overlap"):
        certified = facts.values("certified_overlap", radius)
        attacked = facts.values("attacked_overlap", radius)
        assert certified is not None
        found.append(
            Bound(
                name="topk_certificate",
                title="Top-k overlap of the expected sparsified map",
                source=LEVINE,
                kind="lower",
                unit="ratio",
                values=numbers(list(certified)),
                measured=(None,) * len(certified)
                if attacked is None
                else numbers(attacked.tolist()),
                vacuous=tuple(bool(v == 0) for v in certified),
                assumptions=(FIXED, INDEPENDENT),
                images=facts.rows,
                sigma=facts.sigma,
                radius=radius,
                method=f"sparsified {facts.method}",
                note=_too_few(facts, radius),
            )
        )
    return found


def _too_few(facts: Facts, radius: float) -> str:
    pixels = facts.shape[1] * facts.shape[2]
    if 2 * facts.k > pixels:
        return f"No certificate: 2k = {2 * facts.k} exceeds the {pixels} pixels."
    each = (1 + CONFIDENCE) / 2
    try:
        needed = fewest_draws(pixels=pixels, confidence=each, radius=radius, sigma=facts.sigma)
    except InputError:
        return "No number of draws could certify anything at this radius."
    if needed <= facts.draws:
        return ""
    return f"{facts.draws:,} draws cannot certify anything here: {needed:,} are needed."


def cosines(facts: Facts) -> list[Bound]:
    """The certificate of cosine distance at every radius that was attacked."""
    found = []
    for radius in facts.radii("certified_cosine"):
        certified = facts.values("certified_cosine", radius)
        attacked = facts.values("attacked_cosine", radius)
        assert certified is not None
        found.append(
            Bound(
                name="cosine_certificate",
                title="Cosine distance of the expected map of the smoothed probability",
                source=f"{S3}, Theorem 2, with the sharp constant at p_σ (docs/bounds.md)",
                kind="upper",
                unit="ratio",
                values=numbers(list(certified)),
                measured=(None,) * len(certified)
                if attacked is None
                else numbers(attacked.tolist()),
                vacuous=tuple(bool(math.isnan(v)) for v in certified),
                assumptions=(
                    FIXED,
                    INDEPENDENT,
                    Assumption(
                        text="The variance of a draw is the one seen",
                        status="not checkable",
                        reason=f"Estimated from {facts.draws:,} draws.",
                    ),
                ),
                images=facts.rows,
                sigma=facts.sigma,
                radius=radius,
                method="smoothed gradient of the probability",
            )
        )
    return found


def scores(facts: Facts) -> list[Bound]:
    """Global Lipschitz constants of maps of smoothed scores, beside a lower bound on them."""
    found = []
    seen = facts.values("probability_lipschitz")
    if seen is not None:
        for sharp in (False, True):
            found.append(
                Bound(
                    name="smoothed_probability" + ("_sharp" if sharp else ""),
                    title="Lipschitz constant of the map of the smoothed probability, "
                    + ("0.484/σ²" if sharp else "2F/σ² with F = 1/2"),
                    source="docs/bounds.md, proposition 1" if sharp else f"{S3}, Theorem 2",
                    kind="upper",
                    unit="1/pixel²",
                    values=(bounded(0.5, facts.sigma, sharp=sharp),),
                    measured=numbers([largest(seen)]),
                    vacuous=(None,),
                    assumptions=(
                        Assumption(text="0 ≤ f ≤ 1 on all of ℝᵈ: a probability", status="met"),
                    ),
                    sigma=facts.sigma,
                )
            )
    seen = facts.values("logit_lipschitz")
    setting = facts.setting()
    if seen is None or setting is None or facts.chain is None:
        return found
    constant = setting.longest_map
    for sharp in (False, True):
        factor = math.log10(lipschitz(1.0, facts.sigma, sharp=sharp))
        found.append(
            Bound(
                name="smoothed_logit" + ("_sharp" if sharp else ""),
                title="Lipschitz constant of SmoothGrad, " + ("0.798·L/σ" if sharp else "L/σ"),
                source="docs/bounds.md, proposition 2" if sharp else f"{S0}, Lemma D.2",
                kind="upper",
                unit="1/pixel²",
                values=numbers([constant + factor]),
                measured=numbers([log10(largest(seen))]),
                vacuous=(None,),
                log10=True,
                assumptions=facts.chain.assumptions[:2],
                sigma=facts.sigma,
                note="L is the product of the layers' norms.",
            )
        )
    radius = facts.sigma
    found.append(
        Bound(
            name="crossover",
            title=f"σ above which the bound of Theorem 2 is below the plain one, δ₂ = {radius:g}",
            source=f"{S3}, Proposition 2",
            kind="estimate",
            unit="pixel units",
            values=numbers([crossover(radius, 0.5, 10 ** min(constant, 300.0))]),
            measured=(facts.sigma,),
            vacuous=(None,),
            radius=radius,
            note="It compares two upper bounds and proves nothing about the maps (take f linear); "
            "it is never a reason for a σ. F = 1/2, L is the product of the layers' norms.",
        )
    )
    return found


def curvature(facts: Facts) -> list[Bound]:
    """First-order drift along the dominant direction of each image, beside the measured one."""
    eigenvalues, drift = facts.values("logit_eigenvalue"), facts.values("logit_drift")
    residual = facts.values("logit_residual")
    if eigenvalues is None or drift is None or residual is None:
        return []
    return [
        Bound(
            name="logit_curvature",
            title="Drift of the logit's map per unit along the dominant direction, |λ|",
            source=f"{S3}, Theorem 3",
            kind="estimate",
            unit="1/pixel²",
            values=numbers(list(abs(eigenvalues))),
            measured=numbers(list(drift)),
            vacuous=(None,) * len(eigenvalues),
            assumptions=(
                Assumption(
                    text="The model is smooth",
                    status="not checkable",
                    reason=f"Ramps such as ReLU are smoothed at β = {BETA:g}; across the kinks of "
                    "the model itself the estimate does not hold.",
                ),
            ),
            images=facts.rows,
            radius=ALONG,
            note=f"Largest residual of an eigenvalue: {max(residual):.1e}.",
        )
    ]


def _seen(values: Values | None, count: int) -> tuple[float | None, ...]:
    return (None,) * count if values is None else numbers(list(values))

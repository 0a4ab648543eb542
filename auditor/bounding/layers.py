"""Bounds that follow from the norms of a network's layers, and from its training record."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from auditor.bounding.facts import S0, Facts, largest, log10
from auditor.bounds.record import Assumption, Bound, numbers
from auditor.bounds.stability import Setting, add_logs
from auditor.probes.bounds import BETA

TITLES = {
    "stability": "Stability error of the gradient",
    "stability_smooth": "Stability error of SmoothGrad",
    "stability_integrated": "Stability error of integrated gradients",
    "stability_convex": "Stability error of the gradient, convex loss",
}


def layers(facts: Facts) -> list[Bound]:
    """What follows from the layers' norms, with the training record or without."""
    setting = facts.setting()
    if setting is None or facts.chain is None:
        return [_out_of_scope(facts)]
    chain, sigma = facts.chain, facts.sigma
    smooth = Assumption(
        text="Activations have 1-Lipschitz derivatives",
        status="met" if chain.smooth else "not met",
        reason="" if chain.smooth else "ReLU and its kin have kinks.",
    )
    usual = (*chain.assumptions, smooth)

    found = [
        _error(
            facts,
            usual,
            "fidelity",
            "Fidelity error of SmoothGrad",
            "Proposition 7",
            setting.fidelity(sigma),
            facts.mean("smoothing", "fidelity_error", sigma),
        ),
        _error(
            facts,
            usual,
            "fidelity_integrated",
            "Fidelity error of smoothed integrated gradients",
            "Proposition 7",
            setting.fidelity(sigma, integrated=True),
            None,
        ),
        _softplus(facts, setting, usual),
    ]
    return found if facts.training is None else found + _trained(facts, setting, usual)


def _error(
    facts: Facts,
    usual: tuple[Assumption, ...],
    name: str,
    title: str,
    where: str,
    value: float,
    seen: float | None,
) -> Bound:
    """An error of maps, log₁₀; vacuous beyond twice the longest map of the audited images."""
    norms = facts.values("map_norm")
    trivial = math.inf if norms is None else log10(2 * largest(norms))
    return Bound(
        name=name,
        title=title,
        source=f"{S0}, {where}",
        kind="upper",
        unit="map units",
        values=numbers([value]),
        measured=(None,) if seen is None else numbers([log10(seen)]),
        vacuous=(value >= trivial,),
        log10=True,
        assumptions=usual,
        sigma=facts.sigma if name.endswith("smooth") or name.startswith("fidelity") else None,
    )


def _trained(facts: Facts, setting: Setting, usual: tuple[Assumption, ...]) -> list[Bound]:
    """Theorems 5, 6 and D.1, Lemma D.10 and Proposition 1, which need the training record."""
    training, sigma = facts.training, facts.sigma
    assert training is not None
    _, smoothness = setting.constants(training)
    given = (
        "given"
        if training.beta is not None
        else "L/κ of noisy SGD"
        if training.kappa is not None
        else "from the layers (Lemma D.8)"
    )
    plain, smoothed = (facts.mean("twin", "stability_error", s) for s in (0.0, sigma))
    bent = add_logs([0.0, smoothness + math.log10(training.c)])
    words = (
        f"n = {training.n:,}, T = {training.T:,}, c = {training.c:g}; β {given}; "
        f"1/(βc + 1) = 10^{-bent:.1f}."
    )
    rows = (
        ("stability", "Theorem 5", setting.simple_grad(training), plain),
        ("stability_smooth", "Theorem 6", setting.smooth_grad(training, sigma), smoothed),
        ("stability_integrated", "Theorem D.1", setting.integrated_gradients(training), None),
        ("stability_convex", "Lemma D.10", setting.convex(training), plain),
    )
    convex = Assumption(
        text="The loss is convex in the weights",
        status="met" if len(setting.norms) == 1 else "not met",
        reason="" if len(setting.norms) == 1 else "The network has several layers.",
    )
    found = []
    for name, where, value, seen in rows:
        assumed = (*usual, convex) if name == "stability_convex" else usual
        record = _error(facts, assumed, name, TITLES[name], where, value, seen)
        found.append(dataclasses.replace(record, note=words))
    if training.kappa is not None:
        found.append(
            Bound(
                name="noisy_loss",
                title="Smoothness of the loss under noisy SGD, L/κ",
                source=f"{S0}, Proposition 1",
                kind="upper",
                unit="1/weight²",
                values=numbers([setting.constants(training)[0] - log10(training.kappa)]),
                measured=(None,),
                vacuous=(None,),
                log10=True,
                assumptions=usual,
            )
        )
    return found


def _softplus(facts: Facts, setting: Setting, usual: tuple[Assumption, ...]) -> Bound:
    seen = facts.values("logit_eigenvalue")
    return Bound(
        name="softplus_curvature",
        title=f"Curvature of the logit, ramps smoothed at β = {BETA:g}",
        source="Yeh et al. 2019 (arXiv 1901.09392), Prop. A.1, corrected (docs/bounds.md)",
        kind="upper",
        unit="1/pixel²",
        values=numbers([setting.softplus_curvature(BETA)]),
        measured=(None,) if seen is None else numbers([log10(largest(np.abs(seen)))]),
        vacuous=(None,),
        log10=True,
        assumptions=usual[:2],
    )


def _out_of_scope(facts: Facts) -> Bound:
    chain = facts.chain
    if chain is None:
        why = "There is no code of the network to read its layers from."
    elif chain.assumptions[0].status != "met":
        why = chain.assumptions[0].reason
    else:
        why = "A layer has no finite norm above zero."
    return Bound(
        name="layers",
        title="Bounds from the norms of the layers",
        source=f"{S0}, Theorems 5, 6, D.1, Propositions 1, 7",
        kind="upper",
        unit="map units",
        values=(None,),
        measured=(None,),
        vacuous=(None,),
        assumptions=() if chain is None else chain.assumptions,
        note=f"Not computed: {why}",
    )

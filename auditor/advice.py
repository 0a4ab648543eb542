"""Plain sentences: why there is or is not a recommendation, and what to try instead."""

from __future__ import annotations

from collections.abc import Iterable

from auditor.criteria import Finding, Judged
from auditor.evidence import FEWEST_IMAGES
from auditor.gates import shortfall
from auditor.results import Gate

_GATES = {
    "map_present": (
        "Try smaller values of σ or another attribution method: the smoothed map vanishes."
    ),
    "self_overlap": "Average over more noise draws, or try smaller values of σ.",
    "label_kept": (
        "Try smaller values of σ, or train the model with noise (auditor harden --recipe "
        "gaussian_noise): the noise changes its decision."
    ),
    "reinitialized": (
        "Try another attribution method: this map hardly depends on what the network has learned."
    ),
}
_FAILED = {
    "attack": (
        "Try another attribution method, or harden the model (auditor harden --recipe "
        "adversarial, ssr or gaussian_noise): smoothing alone does not withstand this attack."
    ),
    "smoothing": "Try smaller values of σ or another attribution method.",
    "twin": (
        "Train on more data, or average the maps of several trained networks: networks trained "
        "alike disagree about this map."
    ),
    "quality": (
        "Try another attribution method: this map does not describe the model well enough, however "
        "much it is smoothed."
    ),
}
_CAUSES = {
    "undecided": "Audit more images: the intervals are too wide to decide.",
    "few": f"Audit at least {2 * FEWEST_IMAGES} images that count, {FEWEST_IMAGES} in each half.",
    "weak": "Give the attack a larger budget (--effort thorough).",
    "unconverged": "Give the attack a larger budget (--effort thorough).",
    "saturated": "Declare a smaller epsilon in a profile of your own.",
    "floor": "Average over more noise draws, so that the map repeats better than it is attacked.",
}
_MISSING = {
    "twin": "Give a second network trained on other data (--twin).",
    "attack": "Run the attack and its controls at the size that the profile declares.",
    "smoothing": "Measure the smoothed map at every σ.",
    "quality": "Measure the quality of the maps at every σ and on every image.",
}


def gate_sentence(gate: Gate) -> str:
    """Why a gate does not count as met, and by how much it is missed."""
    if gate.value is None or gate.passed is None:
        return f"{gate.title}: the gate could not be evaluated. {gate.reason}"
    words = "at least" if gate.comparison == ">=" else "less than"
    return (
        f"{gate.title}: {gate.value:.3f}, {words} {gate.limit:.3f} is needed "
        f"(missed by {shortfall(gate):.3f}). {gate.reason}"
    )


def criterion_sentences(judged: Judged) -> list[str]:
    """Why a criterion does not pass."""
    title = judged.criterion.title
    reasons = dict.fromkeys(finding.reason for finding in judged.decisive)
    return [f"{title}, {judged.status}: {reason}" for reason in reasons]


def advice(gates: Iterable[Gate], criteria: Iterable[Judged]) -> tuple[str, ...]:
    """What to try, for every gate and criterion that stands in the way, each once."""
    found = [_GATES[gate.name] for gate in gates if gate.passed is False]
    for judged in criteria:
        if judged.status != "pass":
            # Nothing to do about "unchecked": the audit repeats the attack on a chosen σ itself.
            open_ = (finding for finding in judged.decisive if finding.cause != "unchecked")
            found += [_remedy(judged, finding) for finding in open_]
    return tuple(dict.fromkeys(found))


def _remedy(judged: Judged, finding: Finding) -> str:
    probe = judged.criterion.probe
    if finding.cause == "limit":
        return _FAILED[probe]
    if finding.cause == "missing":
        return _MISSING[probe]
    return _CAUSES[finding.cause]

"""What an attack is asked to do, checked: which searches, with what budget, towards what."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attacks import (
    L2,
    Annealed,
    Apgd,
    Boundary,
    Cosine,
    Difference,
    Fees,
    FixedSign,
    Linf,
    Manipulation,
    MassCenter,
    Objective,
    Oracle,
    RandomSearch,
    Rank,
    Search,
    Strongest,
    TargetRegion,
    as_target_map,
)
from auditor.attributions import Method
from auditor.errors import InputError
from auditor.metrics.drift import default_k
from auditor.oracle_choice import ASKED, ORACLES
from auditor.probes.subject import SIMPLE_GRAD, fees
from auditor.probes.suite import aim, strongest
from auditor.settings import effort_preset

TARGETED = ("manipulation", "region")
ATTACKS = (
    "strongest",
    "topk",
    "mass-center",
    *TARGETED,
    "cosine",
    "rank",
    "random-signs",
)
NORMS: Mapping[str, Linf | L2] = {"linf": Linf(), "l2": L2()}
RULES: Mapping[str, Annealed | Apgd | FixedSign] = {
    "annealed": Annealed(),
    "apgd": Apgd(),
    "fixed": FixedSign(),
}
_PLAIN: Mapping[str, Callable[[], Objective]] = {
    "topk": Boundary,
    "mass-center": MassCenter,
    "cosine": Cosine,
    "rank": Rank,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """A checked request; fields as in :func:`auditor.attacking.attack`, defaults filled in."""

    attack: str
    epsilons: tuple[float, ...]
    norm: str
    sigma: float
    samples: int
    search_samples: int
    select_samples: int
    k: int
    rule: str | None
    seed: int
    oracle: str
    steps: int | None
    budget: int
    toward: Tensor | None
    method: Method = SIMPLE_GRAD
    transfer_to: Mapping[str, Method] = field(default_factory=dict)

    @property
    def fees(self) -> Fees:
        """What looking at a map costs."""
        return fees(
            sigma=self.sigma,
            samples=self.search_samples,
            select_samples=self.select_samples,
            method=self.method,
        )

    def spend(self, attacker: Search | RandomSearch | Strongest) -> int:
        """Gradients for each image and ε: the budget, or what the steps take."""
        if self.steps is None:
            return self.budget
        return _cost(attacker, self.fees, steps=self.steps)

    def objective(self, target: Tensor | None) -> Objective:
        """What is attacked; ``target`` (B, H, W) or (1, H, W) for the attacks that have one."""
        if self.attack in TARGETED and target is not None:
            region = self.attack == "region"
            return TargetRegion(mask=target) if region else Manipulation(target=target)
        return _PLAIN.get(self.attack, Boundary)()

    def attacker(self, target: Tensor | None, oracle: Oracle) -> Search | RandomSearch | Strongest:
        """The searches without their budget.

        A rule or an oracle of the kind that a search has anyway leaves it as it is tuned.
        """
        changes: dict[str, object] = {}
        if self.rule not in (None, "annealed"):
            changes["rule"] = RULES[str(self.rule)]
        if not isinstance(oracle, Difference):
            changes["oracle"] = oracle

        def fitted(search: Search | RandomSearch) -> Search | RandomSearch:
            if isinstance(search, RandomSearch):  # it has neither rule nor oracle
                return search
            return dataclasses.replace(search, **changes)  # type: ignore[arg-type]

        if self.attack != "strongest":
            return fitted(aim(self.objective(target), sigma=self.sigma, method=self.method))
        best = strongest(sigma=self.sigma, method=self.method)
        return dataclasses.replace(
            best,
            members=tuple(fitted(member) for member in best.members),
            polish=best.polish and fitted(best.polish),
        )


def make_request(
    *,
    attack: str,
    input_shape: tuple[int, int, int],
    epsilons: Sequence[float],
    norm: str,
    sigma: float,
    samples: int | None,
    steps: int | None,
    budget: int | None,
    k: int | None,
    rule: str | None,
    oracle: str,
    toward: Tensor | None,
    seed: int,
    method: Method = SIMPLE_GRAD,
    transfer_to: Mapping[str, Method] | None = None,
) -> Request:
    """Check what was asked and fill in what was not.

    Raises
    ------
    InputError
        If a value is out of range, or two do not go together.
    """
    for what, value, known in (
        ("attack", attack, ATTACKS),
        ("norm", norm, tuple(NORMS)),
        ("rule", rule or "annealed", tuple(RULES)),
        ("oracle", oracle, ASKED),
    ):
        if value not in known:
            raise InputError(f"{what} {value!r} is unknown. Choose one of {', '.join(known)}.")
    channels, height, width = input_shape
    pixels = height * width
    largest = 255 * (math.sqrt(channels * pixels) if norm == "l2" else 1.0)
    for epsilon in epsilons:
        if not 0 < epsilon <= largest:
            raise InputError(
                f"epsilon {epsilon:g} is out of range: give values in (0, {largest:g}], in 1/255 "
                "units."
            )
    if not epsilons:
        raise InputError("At least one epsilon is needed.")
    if not 0 <= sigma <= 1:
        raise InputError(f"sigma {sigma:g} is out of range: give 0 to 1 (pixel units).")
    if samples is not None and (samples < 2 or sigma == 0):
        what = f"samples {samples} is too small: give at least 2."
        raise InputError(what if samples < 2 else "samples belong to smoothing: give a sigma > 0.")
    k = default_k(height, width) if k is None else k
    if not 1 <= k < pixels:
        raise InputError(f"k {k} is out of range: a map has {pixels} pixels.")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed {seed} is out of range: give 0 to 2**63 - 1.")
    if steps is not None and budget is not None:
        raise InputError("steps and budget say the same thing: give one of them.")
    if steps is not None and steps < 1:
        raise InputError(f"steps {steps} is too small: give at least 1.")
    preset = effort_preset("standard", input_shape)
    usual = preset["smooth_budget" if sigma > 0 else "budget"]
    draws = (samples or preset["samples"]) if sigma > 0 else 1
    asked = Request(
        attack=attack,
        epsilons=tuple(sorted({float(epsilon) for epsilon in epsilons})),
        norm=norm,
        sigma=sigma,
        samples=draws,
        search_samples=min(4, draws),
        select_samples=max(1, min(16, draws // 3)),
        k=k,
        rule=rule,
        seed=seed,
        oracle=oracle,
        steps=steps,
        budget=method.price * usual if budget is None else budget,
        toward=check_toward(toward, attack, (height, width)),
        method=method,
        transfer_to=transfer_to or {},
    )
    _check_budget(asked)
    return asked


def check_toward(toward: Tensor | None, attack: str, size: tuple[int, int]) -> Tensor | None:
    """What the attack draws maps to, (1, H, W), as it takes it: a map of sum 1, or a mask.

    A mask holds what is above half of the picture's largest value.

    Raises
    ------
    InputError
        If the attack takes none or needs one, or it is no map of this size.
    """
    if attack not in TARGETED:
        if toward is not None:
            raise InputError(
                f"{attack} draws maps to nothing. Leave toward out, or use {TARGETED[0]}."
            )
        return None
    if toward is None:
        if attack == "region":
            raise InputError("region needs a mask: give a picture or an array (toward).")
        return None
    if tuple(toward.shape) != size:
        found, needed = ("×".join(map(str, shape)) for shape in (tuple(toward.shape), size))
        raise InputError(f"toward is {found or 'a number'}, maps are {needed}. Give that size.")
    try:
        wanted = as_target_map(toward)[None]
    except ValueError as error:
        raise InputError(f"toward cannot be used: {error}") from error
    if attack == "manipulation":
        return wanted
    mask = wanted > wanted.max() / 2
    if mask.all():
        raise InputError("The mask holds every pixel of the map. Leave some out.")
    return mask


def _check_budget(asked: Request) -> None:
    """Refuse a budget that does not allow one step of every search, whatever the oracle."""
    if asked.attack == "random-signs" or asked.steps is not None:
        return
    oracles = ORACLES.values() if asked.oracle == "auto" else [ORACLES[asked.oracle]]
    attackers = [asked.attacker(asked.toward, oracle) for oracle in oracles]
    least = max(_cost(attacker, asked.fees, steps=1) for attacker in attackers)
    if asked.budget < least:
        raise InputError(
            f"budget {asked.budget} is too small for one step of {asked.attack}: give at least "
            f"{least} gradients."
        )


def _cost(attacker: Search | RandomSearch | Strongest, paid: Fees, *, steps: int) -> int:
    """Gradients for each image and ε that allow so many steps of every search."""
    searches = _searches(attacker)
    each = [dataclasses.replace(search, steps=steps).cost(paid) for search in searches]
    extra = 0.0
    if isinstance(attacker, Strongest):
        one = [dataclasses.replace(search, steps=1).cost(paid) for search in searches]
        extra = attacker.least(paid) - len(searches) * max(one)
    return math.ceil(len(searches) * max(each) + extra)


def describe_searches(
    attacker: Search | RandomSearch | Strongest, budget: float, paid: Fees
) -> tuple[str, ...]:
    """Each search in words, with its steps."""
    if isinstance(attacker, Search | RandomSearch):
        return (_words(attacker.within(budget, paid)),)
    fitted = attacker.split(paid, budget=budget)
    polish = ["polish, "] if attacker.polish is not None else []
    return tuple(
        lead + _words(search)
        for lead, search in zip([""] * len(attacker.members) + polish, fitted, strict=True)
    )


def _words(search: Search | RandomSearch) -> str:
    parts: tuple[object, ...] = (search.objective, search)
    if isinstance(search, Search):
        parts = (search.objective, search.rule, search.oracle)
    names = ", ".join(type(part).__name__ for part in parts)
    return f"{names}, restart {search.restart}: {search.steps} steps"


def _searches(attacker: Search | RandomSearch | Strongest) -> tuple[Search | RandomSearch, ...]:
    if isinstance(attacker, Search | RandomSearch):
        return (attacker,)
    return (*attacker.members, *(() if attacker.polish is None else (attacker.polish,)))


def no_target(wanted: Tensor) -> Tensor:
    """Which images (B,) have no map (B, H, W) to be drawn to: it is zero or not finite."""
    flat = wanted.flatten(1)
    return ~(flat.isfinite().all(dim=1) & flat.any(dim=1))


def as_targets(wanted: Tensor) -> Tensor:
    """Maps (B, H, W) as targets of sum 1; what `no_target` tells apart gets an even one."""
    return as_target_map(wanted.where(~no_target(wanted).reshape(-1, 1, 1), torch.ones(())))

"""Several methods in one audit: each is a whole run, and the best one is found with its σ.

The pair of method and σ is chosen on the screening half, and that pair alone is judged on the
confirmation half, so that the number of methods that were tried does not touch the probability
that a bad one passes. No other method takes its place if it fails there.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from auditor.attributions import Method
from auditor.attributions.registry import spec_of
from auditor.attributions.traced import NotApplicableError
from auditor.engine import execute, write_result
from auditor.errors import InputError
from auditor.executors import Executor, choose_executor
from auditor.explanation import load_explanation
from auditor.glance import GLANCE, provisional
from auditor.images import ImageSet
from auditor.models import Classifier
from auditor.plan import Plan, known_profile, make_plan
from auditor.results import AuditResult, MethodAnswer, SigmaOption
from auditor.run import Progress
from auditor.store import METHODS, RunFolder
from profiles import Profile

NOT_APPLICABLE = "not applicable"
_ORDER = ("recommended", "provisional", "inconclusive", "no_sigma")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Several:
    """A plan for each method by name, and why others are not applicable to the model."""

    plans: Mapping[str, Plan]
    refused: Mapping[str, str]
    profile: Profile

    @classmethod
    def of(cls, methods: Sequence[Method], profile: Profile, make: Callable[..., Plan]) -> Several:
        """Plan all; each is held to the profile's criteria for it and for all methods.

        Raises
        ------
        InputError
            If two methods have one name, a criterion is for another method, none is applicable, or
            something else than a method cannot be audited.
        """
        names = [method.name for method in methods]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"Method {name} is given twice. One audit takes it once.")
        for criterion in profile.criteria:
            if criterion.method not in (None, *names):
                raise InputError(
                    f"profile {profile.name}, criterion {criterion.name!r}: method = "
                    f"{criterion.method!r} is not audited ({', '.join(names)} are)."
                )
        plans, refused = {}, {}
        for method in methods:
            try:
                held = _held_to(profile, method.name)
                plans[method.name] = make(profile=held, explain=method)
            except NotApplicableError as error:
                refused[method.name] = str(error)
        if not plans:
            raise InputError("No method is applicable. " + " ".join(refused.values()))
        return cls(plans=plans, refused=refused, profile=profile)

    def execute(
        self,
        folder: RunFolder,
        *,
        command: str,
        executor: Callable[[], Executor | None],
        progress: Progress | None = None,
    ) -> AuditResult:
        """Audit one method after the other in folders of their own, and choose.

        ``executor`` makes one for each method. The result is that of the chosen method, with the
        answers of all.

        Raises
        ------
        InputError
            If the folder holds a run with other methods or settings.
        IncompleteRunError
            If something cannot be written.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        asked = [f"{name} {plan.method.identity}" for name, plan in self.plans.items()]
        request = {"methods": [*asked, *self.refused]}
        command = folder.open(request, {"created": now, "command": command})["command"]
        results = {
            name: execute(
                plan,
                RunFolder(folder.path / METHODS / name),
                command=_of_one(command, spec_of(plan.method)),
                progress=progress,
                executor=executor(),
            )
            for name, plan in self.plans.items()
        }
        first = next(iter(self.plans.values()))
        held = provisional(self.profile) if first.effort == GLANCE else self.profile
        chosen = choose_method(results, minimize=held.objective.direction == "minimize")
        answers = tuple(
            _answer(result, held, chosen=name == chosen) for name, result in results.items()
        )
        refused = tuple(_refused(name, reason) for name, reason in self.refused.items())
        whole = dataclasses.replace(results[chosen], methods=(*answers, *refused), command=command)
        return write_result(folder, whole)


def audit_methods(
    classifier: Classifier,
    images: ImageSet,
    methods: Sequence[object],
    *,
    run: str | Path,
    resume: bool = False,
    profile: str | Path | Profile = "compliance",
    workers: int = 1,
    progress: Progress | None = None,
    **settings: Any,
) -> AuditResult:
    """Audit several methods, and recommend the best one together with its σ.

    Each method is a complete run in ``run/methods/NAME``; the result is that of the best one, with
    the answers of all in ``methods``. A method that the model cannot support is ``not applicable``.

    Parameters
    ----------
    methods
        What ``explain`` of :func:`auditor.audit` takes, at least one.
    settings
        All else that :func:`auditor.audit` takes.

    Raises
    ------
    InputError
        If the input cannot be audited as asked.
    IncompleteRunError
        If the run could not be completed.
    """
    if not methods:
        raise InputError("methods: none is given. Give at least one.")
    folder = RunFolder.check(Path(run), resume=resume)
    make = functools.partial(make_plan, classifier, images, **settings)
    loaded = [load_explanation(method) for method in methods]
    return Several.of(loaded, known_profile(profile), make).execute(
        folder,
        command="auditor.audit_methods(...)",
        executor=lambda: choose_executor(workers=workers),
        progress=progress,
    )


def choose_method(results: Mapping[str, AuditResult], *, minimize: bool) -> str:
    """The method whose best σ has the best objective on the screening half; the cheaper of equals.

    Where no method has an admissible σ, the one whose verdict leaves most open.
    """
    sign = 1 if minimize else -1

    def rank(name: str) -> tuple[float, ...]:
        result = results[name]
        best = best_option(result, minimize=minimize)
        if best is None or best.objective is None:
            return (1, _ORDER.index(result.recommendation.verdict))
        return (0, round(sign * best.objective.mean, 9), _gradients(result, best.sigma))

    return min(results, key=rank)


def best_option(result: AuditResult, *, minimize: bool) -> SigmaOption | None:
    """The σ that a method's own audit chose on the screening half, if one is admissible."""
    sign = 1 if minimize else -1
    found = [
        (round(sign * option.objective.mean, 9), option.sigma, option)
        for option in result.recommendation.options
        if option.status == "admissible" and option.on_front and option.objective is not None
    ]
    return min(found, key=lambda entry: entry[:2])[2] if found else None


def _gradients(result: AuditResult, sigma: float) -> int:
    return result.explanation.price * (result.samples if sigma else 1)


def _answer(result: AuditResult, profile: Profile, *, chosen: bool) -> MethodAnswer:
    best = best_option(result, minimize=profile.objective.direction == "minimize")
    reasons = result.recommendation.reasons
    # A glance says first what it did not look at.
    reason = reasons[-1 if result.effort == GLANCE else 0] if reasons else ""
    return MethodAnswer(
        name=result.explanation.name,
        verdict=result.recommendation.verdict,
        sigma=None if best is None else best.sigma,
        objective=None if best is None else best.objective,
        gradients=None if best is None else _gradients(result, best.sigma),
        chosen=chosen,
        reason=reason,
    )


def _refused(name: str, reason: str) -> MethodAnswer:
    return MethodAnswer(
        name=name,
        verdict=NOT_APPLICABLE,
        sigma=None,
        objective=None,
        gradients=None,
        chosen=False,
        reason=reason,
    )


def _of_one(command: str, spec: str) -> str:
    """The command line that audits one of the methods alone."""
    if not command.startswith("auditor audit "):
        return command
    words, kept = iter(shlex.split(command)), []
    for word in words:
        if word == "--method":
            next(words, None)
        elif not word.startswith("--method="):
            kept.append(word)
    return shlex.join([*kept, "--method", spec])


def _held_to(profile: Profile, method: str) -> Profile:
    criteria = tuple(c for c in profile.criteria if c.method in (None, method))
    return dataclasses.replace(profile, criteria=criteria)

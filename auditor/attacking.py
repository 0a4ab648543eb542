"""One attack on a model's maps, from its arguments to its result; what 8 bits hold counts."""

from __future__ import annotations

import datetime
import functools
import time
from collections.abc import Sequence

from torch import Tensor

from auditor.attack_plan import TARGETED, make_request
from auditor.attack_result import AttackResult
from auditor.attack_run import AttackRun
from auditor.attributions import Method
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.explanation import examine, load_explanation
from auditor.images import ImageSet
from auditor.models import Classifier
from auditor.plan import check_labels, check_size, environment, usual_batch
from auditor.preflight import run_preflight
from auditor.results import Cost
from auditor.run import Progress
from auditor.target import Target, ask, check_target
from auditor.version import __version__

EIGHT_BIT = 1e-4
"""Farthest, in 1/255, that a float32 pixel of an 8-bit image lies from its level (2e-5)."""


def attack(
    classifier: Classifier,
    images: ImageSet,
    *,
    attack: str = "strongest",
    epsilons: Sequence[float] = (8.0,),
    norm: str = "linf",
    sigma: float = 0.0,
    samples: int | None = None,
    steps: int | None = None,
    budget: int | None = None,
    rule: str | None = None,
    oracle: str = "auto",
    target: Target = "predicted",
    explain: object = None,
    transfer_to: Sequence[object] = (),
    toward: Tensor | None = None,
    toward_name: str | None = None,
    k: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch: int | None = None,
    command: str = "auditor.attack(...)",
    progress: Progress | None = None,
) -> AttackResult:
    """Move the maps of some images while their prediction stays, and measure how far they went.

    The images are rounded to 8 bits first: what is attacked is what a file can hold. The perturbed
    images are rounded as well, inside the ball, and measured again.

    Parameters
    ----------
    attack
        ``strongest`` (worst top-k overlap of several searches), ``topk`` (one search),
        ``mass-center``, ``manipulation``, ``region``, ``cosine``, ``rank`` or ``random-signs``.
    epsilons
        Sizes of the perturbation in 1/255: of every pixel value for ``linf``, of the length of the
        whole change for ``l2``.
    sigma
        Attack the map smoothed by this σ (pixel units of [0, 1]), adaptively; it is measured with
        noise that the attack never saw.
    samples
        Noise draws of the smoothed map that is measured.
    steps, budget
        Steps of every search, or gradients for each image and ε; by default the budget of an audit
        of standard effort. Bringing a lost label back comes on top.
    rule
        ``annealed``, ``apgd`` or ``fixed``; ``None`` leaves every search as it is tuned.
    oracle
        ``difference``, ``surrogate``, ``double-backward``, or ``auto`` for the fastest.
    target
        Class that is explained, as in :func:`auditor.audit`: the one ``predicted``, the ``label``,
        or an index. Images whose prediction is another are not attacked, and counted apart. Of a
        model with independent labels an index asks one label alone: it is there (1) or not (0).
    explain
        The explanation, if it is not the plain gradient, as in :func:`auditor.audit`.
    transfer_to
        Other explanations, given like ``explain``, whose maps are compared as well under the
        perturbations that were found: a row of the transfer matrix (S3, Experiment III).
    toward
        Map or mask (H, W), not negative, for ``manipulation`` and ``region``; without one,
        manipulation draws each map to that of the next image.
    toward_name
        What to call it in the result.
    k
        Number of top pixels; by default that of an audit.

    Raises
    ------
    InputError
        If the input cannot be attacked as asked.
    """
    request = functools.partial(
        make_request,
        attack=attack,
        input_shape=classifier.input_shape,
        epsilons=epsilons,
        norm=norm,
        sigma=sigma,
        samples=samples,
        steps=steps,
        budget=budget,
        k=k,
        rule=rule,
        oracle=oracle,
        toward=toward,
        seed=seed,
    )
    request()  # complain now, before anything is computed
    method, others = load_explanation(explain), _named(transfer_to)
    if batch is not None and batch < 1:
        raise InputError(f"batch {batch} is too small: give at least 1.")
    if attack == "manipulation" and toward is None and len(images.names) < 2:
        raise InputError("manipulation needs a second image to aim at, or a map (toward).")
    check_size(classifier, images)
    checks = run_preflight(classifier, images.batch(range(len(images.names))[:4]).to(device))
    check_labels(classifier, images)
    check_target(target, classifier, images)
    question, (classifier,), images = ask(target, (classifier,), images)
    batch = batch or usual_batch(classifier.input_shape)
    method, tried = examine(
        method,
        Evaluator(model=classifier, batch=batch, device=device),
        images.batch(range(len(images.names))[:4]),
    )
    others = {
        name: examine(
            other,
            Evaluator(model=classifier, batch=batch, device=device),
            images.batch(range(len(images.names))[:4]),
        )[0]
        for name, other in others.items()
    }
    asked = request(method=method, transfer_to=others)
    run = AttackRun(asked, classifier, images.pixels, batch=batch, device=device, watch=progress)
    begin = time.perf_counter()
    run.run(images.labels, question)
    seconds = time.perf_counter() - begin
    if attack not in TARGETED:
        toward_name = ""
    elif not toward_name:
        toward_name = "the next image's map" if toward is None else "a given map"
    spent = run.meter
    return AttackResult(
        auditor_version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command,
        attack=attack,
        norm=norm,
        sigma=sigma,
        samples=asked.samples,
        search_samples=asked.search_samples,
        select_samples=asked.select_samples,
        k=asked.k,
        seed=seed,
        rule=rule or "default",
        budget=run.budget,
        searches=run.searches,
        oracle=run.choice,
        target=str(target),
        toward=toward_name,
        explanation=method.name,
        model=classifier.identity((*checks, *tried)),
        names=images.names,
        source=images.source,
        manifest_sha256=images.manifest_sha256,
        selection=images.selection,
        unreadable=images.unreadable,
        predicted=tuple(run.predicted.tolist()),
        labels=images.labels,
        rounded_images=int((run.rounding > EIGHT_BIT).sum()),
        largest_rounding=float(run.rounding.max()),
        attacked=len(run.rows),
        misclassified=int((~run.correct).sum()),
        another_class=int(run.another_class.sum()),
        no_target=int((run.correct & ~run.another_class).sum()) - len(run.rows),
        rows=run.book.rows(),
        natural=run.book.natural(),
        transfer=run.book.transfers(others) if run.rows else (),
        costs=tuple(
            Cost(probe=p, gradients=spent.gradients.get(p, 0), forwards=spent.forwards.get(p, 0))
            for p in sorted({*spent.gradients, *spent.forwards})
        ),
        seconds=seconds,
        model_share=run.clock.seconds / seconds,
        environment=environment(device=device, batch=batch),
        arrays=run.arrays,
    )


def _named(explanations: Sequence[object]) -> dict[str, Method]:
    """Explanations by what they were asked as."""
    found: dict[str, Method] = {}
    for spec in explanations:
        try:
            method = load_explanation(spec)
        except InputError as error:
            raise InputError(str(error).replace("--explain", "--transfer-to", 1)) from error
        name = spec if isinstance(spec, str) else method.name
        if name in found:
            raise InputError(f"transfer_to: {name} is given twice. Give it once.")
        found[name] = method
    return found

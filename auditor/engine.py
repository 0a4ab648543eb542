"""An audit from its arguments to its result on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from auditor.again import of_every_profile
from auditor.bounds.training import Training, parse_training
from auditor.conclude import conclude
from auditor.ensembles import Ensemble
from auditor.errors import IncompleteRunError, InputError
from auditor.executors import Executor, Here, choose_executor
from auditor.expected import expected_tasks
from auditor.images import ImageSet
from auditor.lock import Lock
from auditor.memory import parse_memory
from auditor.models import Classifier
from auditor.plan import Plan, environment, make_plan, request
from auditor.results import AuditResult
from auditor.run import Progress, Run
from auditor.seal import SEAL, seal_text
from auditor.store import RunFolder, write_atomically, write_npz
from auditor.usercode import describe
from profiles import Profile


def audit(
    classifier: Classifier,
    images: ImageSet,
    *,
    profile: str | Path | Profile = "compliance",
    twins: Sequence[Classifier] = (),
    ensembles: Sequence[Ensemble] = (),
    effort: str = "standard",
    run: str | Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    batch: int | None = None,
    memory: str | None = None,
    sigmas: Sequence[float] | None = None,
    epsilons: Sequence[float] | None = None,
    samples: int | Literal["auto"] | None = None,
    budget: int | None = None,
    k: int | None = None,
    seed: int | None = None,
    target: str | int = "predicted",
    explain: object = None,
    training: Training | str | None = None,
    workers: int = 1,
    executor: str = "processes",
    progress: Progress | None = None,
) -> AuditResult:
    """Audit a classifier's explanations and recommend a σ, or say that none will do.

    Parameters
    ----------
    classifier
        From :func:`auditor.load_model` or :func:`auditor.from_network`.
    images
        From :func:`auditor.load_images` or :func:`auditor.from_arrays`; at least 60 for a verdict.
    profile
        Name of a shipped profile, a TOML file, or a :class:`profiles.Profile`.
    twins
        The same task learned anew: other data, seed, recipe or architecture.
    ensembles
        Which of the model (0) and its twins (1, …) are compared with each other as members.
    effort
        ``quick``, ``standard`` or ``thorough``: sets what is ``None`` below; or ``glance``: a
        provisional σ, without attacks and twins.
    run
        Folder for the run; without one nothing stays on disk.
    resume
        Continue the run that is in the folder.
    memory
        What the audit may take, as ``4G``; caps the batch. Where memory runs out all the same, the
        batch is halved.
    sigmas
        Smoothing in pixel units of [0, 1]; 0 is always among them.
    epsilons
        ℓ∞ sizes of attacks in 1/255; those of the profile are always among them.
    samples, budget, k, seed
        Draws per map, gradients that the attack may take for each image and ε, number of top
        pixels, seed of everything random. ``samples="auto"`` finds out on a few images how many
        draws bring the error of a map to a tenth of its norm (:func:`auditor.samples.pilot`).
    target
        Class that is explained: the one ``predicted``, the ``label``, or an index for all images.
        Images whose prediction is another are explained but not attacked, and counted apart.

    explain
        The explanation, if it is not the plain gradient: a function ``fn(model, x, target)`` that
        returns a map (see :class:`auditor.Custom`), a captum ``Attribution`` (see
        :func:`auditor.from_captum` for its arguments), a pytorch-grad-cam object, or
        ``"file.py:fn"``.

    training
        How the model was trained, for the bounds of algorithmic stability: a record or its text,
        ``"n=60000,T=5000,c=0.1"``.
    workers
        More than one: as many processes of one thread each. They import the calling script, so it
        needs its ``if __name__ == "__main__"``.
    executor
        ``processes`` of this machine, or ``ray`` or ``ray:ADDRESS`` for a cluster.

    Raises
    ------
    InputError
        If the input cannot be audited as asked.
    IncompleteRunError
        If the run could not be completed.
    """
    planned = make_plan(
        classifier,
        images,
        profile=profile,
        twins=twins,
        ensembles=ensembles,
        effort=effort,
        device=device,
        batch=batch,
        memory=None if memory is None else parse_memory(memory) // workers,
        sigmas=sigmas,
        epsilons=epsilons,
        samples=samples,
        budget=budget,
        k=k,
        seed=seed,
        target=target,
        explain=explain,
        training=parse_training(training) if isinstance(training, str) else training,
    )
    command = "auditor.audit(...)"
    performing = choose_executor(kind=executor, workers=workers)
    if resume and run is None:
        raise InputError("resume needs the folder of the run: give run as well.")
    if run is not None:
        folder = RunFolder.check(Path(run), resume=resume)
        return execute(planned, folder, command=command, progress=progress, executor=performing)
    with tempfile.TemporaryDirectory() as temporary:
        return execute(
            planned,
            RunFolder(Path(temporary)),
            command=command,
            progress=progress,
            executor=performing,
        )


def execute(
    plan: Plan,
    folder: RunFolder,
    *,
    command: str,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> AuditResult:
    """Measure, decide, and write ``audit.json`` and ``maps.npz`` to the run folder.

    ``command`` is what the report gives for reproducing the run; a resumed run keeps its first.
    The ``executor`` is closed at the end; without one everything is done in this process.

    Raises
    ------
    InputError
        If the folder holds a run with other settings, or another process is at it.
    IncompleteRunError
        If something cannot be written.
    """
    with Lock(folder.path), contextlib.closing(executor or Here()) as performing:
        return _execute(plan, folder, command, progress, performing)


def _execute(
    plan: Plan, folder: RunFolder, command: str, progress: Progress | None, executor: Executor
) -> AuditResult:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    here = environment(device=plan.device, batch=plan.batch)
    fixed = folder.open(
        request(plan),
        {
            "created": now,
            "command": command,
            "environment": here,
            "seconds_per_gradient": plan.estimate.seconds_per_gradient,
            "origins": [dataclasses.asdict(setting) for setting in plan.origins],
        },
    )
    expected = {kind: dataclasses.astuple(of) for kind, of in expected_tasks(plan).items()}
    folder.log("started", environment=here, workers=executor.slots, expected=expected)
    run = Run(plan, folder, progress, executor)
    try:
        found, recommendation, bounds, gallery, clean = run.measure()
    except BaseException as error:
        with contextlib.suppress(IncompleteRunError):  # a full disk, which is the error itself
            folder.log("stopped", reason=describe(error), elapsed=run.elapsed)
        raise
    if run.batch < plan.batch:
        note = (
            f"Memory ran out with batches of {plan.batch} images: from then on they had "
            f"{run.batch}. Figures do not depend on it beyond rounding."
        )
        plan = dataclasses.replace(plan, notes=(*plan.notes, note))
    result = conclude(
        plan,
        fixed=fixed,
        predicted=clean["predicted"],
        halves=run.halves,
        correct=run.correct,
        found=found,
        recommendation=recommendation,
        follow_ups=run.follow_ups,
        bounds=bounds,
        costs=run.costs(),
        timings=run.timings | {"one gradient": fixed["seconds_per_gradient"]},
    )
    result = dataclasses.replace(result, other_profiles=of_every_profile(result))
    result = write_result(folder, dataclasses.replace(result, gallery=gallery))
    folder.log("finished", verdict=recommendation.verdict, elapsed=run.elapsed)
    return result


def write_result(folder: RunFolder, result: AuditResult) -> AuditResult:
    """Write ``audit.json``, ``maps.npz`` and their hashes, and read the result back."""
    if result.gallery:
        write_npz(folder.path / "maps.npz", result.gallery)
    text = result.to_json()
    write_atomically(folder.path / "audit.json", text.encode("utf-8", "backslashreplace"))
    seal = seal_text(folder.path, ("audit.json", "maps.npz"))
    write_atomically(folder.path / SEAL, seal.encode())
    # Read back, so that a report made now and one made from the folder are the same to the byte.
    return dataclasses.replace(AuditResult.from_json(text), gallery=result.gallery)

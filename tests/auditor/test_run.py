"""What a run keeps in memory."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import pytest

import auditor
from auditor import engine
from auditor.plan import make_plan
from auditor.run import Run
from auditor.store import RunFolder


class Watch:
    """Weak references to every array of perturbations that a run makes or reads, by task."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: dict[str, list[weakref.ref]] = {}
        self.most = 0
        save, load, work = RunFolder.save, RunFolder.load, Run._work

        def watched_save(folder, name, arrays):
            self._note(name, arrays)
            save(folder, name, arrays)

        def watched_load(folder, name, **only):
            arrays = load(folder, name, **only)
            self._note(name, arrays)
            return arrays

        def watched_work(run, job):
            gc.collect()
            self.most = max(self.most, len(self.alive()))
            return work(run, job)

        monkeypatch.setattr(RunFolder, "save", watched_save)
        monkeypatch.setattr(RunFolder, "load", watched_load)
        monkeypatch.setattr(Run, "_work", watched_work)

    def _note(self, name, arrays):
        found = [weakref.ref(value) for key, value in arrays.items() if key.startswith("delta|")]
        self.seen.setdefault(name, []).extend(found)

    def alive(self) -> set[str]:
        """Tasks of which an array of perturbations is in memory."""
        return {name for name, refs in self.seen.items() if any(ref() is not None for ref in refs)}


@pytest.fixture
def plan(classifier, images, tiny):
    """Twelve images in three parts, at three σ: nine tasks that find perturbations."""
    planned = make_plan(classifier, images, **tiny)
    return dataclasses.replace(planned, settings=dataclasses.replace(planned.settings, chunk=4))


@pytest.fixture
def small_heap():
    """Only what the test makes is looked at by the collector, which runs before every task."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("small_heap")
@pytest.mark.parametrize("again", [False, True], ids=["measured", "resumed"])
def test_perturbations_of_one_task_at_a_time_are_in_memory(again, plan, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    if again:
        engine.execute(plan, folder, command="")
    watch = Watch(monkeypatch)
    engine.execute(plan, folder, command="")
    found = [name for name, refs in watch.seen.items() if refs]
    assert len(found) == 9
    # When a task begins, the one before it may still be in the hands of who gathers its values.
    assert watch.most <= 1
    gc.collect()
    assert watch.alive() == set()


def test_parts_change_no_value_but_where_a_tie_is_crossed(plan, classifier, images, tiny, tmp_path):
    """The perturbations that are read again are those of the right image, σ and ε."""
    parts = engine.execute(plan, RunFolder(tmp_path / "run"), command="")
    whole = auditor.audit(classifier, images, **tiny)
    pairs = zip(parts.measurements, whole.measurements, strict=True)
    same = [a == b for p, w in pairs for a, b in zip(p.values, w.values, strict=True)]
    assert len(same) > 1000
    assert sum(same) >= 0.9 * len(same)  # other batches: rounding, ties and kinks


def test_the_gallery_shows_the_perturbations_that_were_found(plan, tmp_path):
    folder = RunFolder(tmp_path / "run")
    result = engine.execute(plan, folder, command="")
    rows = result.gallery["index"].astype(int).tolist()
    assert len({row // 4 for row in rows}) > 1  # of several parts
    epsilon = float(result.gallery["epsilon"])
    for place, row in enumerate(rows):
        part = [r for r in range(4 * (row // 4), 4 * (row // 4) + 4) if r != 2]
        deltas = folder.load(f"sigma-0-{row // 4}", only="delta|")[f"delta|{epsilon}"]
        moved = result.gallery["image"][place] + deltas[part.index(row)]
        assert (moved == result.gallery["perturbed"][0][place]).all()

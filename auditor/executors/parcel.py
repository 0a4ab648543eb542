"""Models, images and settings as bytes for another process; what came from files stays in them.

A model that was loaded is not pickled: in its place goes how it was loaded, and the worker loads it
again, with the same vetting, and sees whether it is still the same. What a user of the Python
interface holds in memory is pickled, on its way from that process to its own children.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
from collections.abc import Callable
from typing import Any

import safetensors.torch

from auditor.attributions.custom import Custom
from auditor.errors import AuditorError, IncompleteRunError, InputError
from auditor.evaluation import Meter
from auditor.explanation import load_explanation
from auditor.models import Classifier
from auditor.preprocess import Preprocess, load_preprocess
from auditor.tasks import Bench
from auditor.usercode import describe
from auditor.weights import packed


def pack(bench: Bench) -> bytes:
    """The bench without its meter.

    Raises
    ------
    InputError
        If something of it exists in this process only, such as a function inside a function.
    """
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(
            dataclasses.replace(bench, meter=Meter())
        )
    except AuditorError:
        raise
    except Exception as error:  # a user's objects may refuse in many ways
        raise InputError(
            f"Something cannot be sent to worker processes ({describe(error)}). Name model, "
            "preprocessing and explanation as FILE.py:NAME, or leave out the workers."
        ) from error
    return buffer.getvalue()


def unpack(parcel: bytes) -> Bench:
    """The bench again, with a meter of its own.

    Raises
    ------
    AuditorError
        If a file that it was loaded from is gone, or is another one now.
    """
    bench: Bench = pickle.loads(parcel)  # bytes of the process that started this one
    return bench


class _Pickler(pickle.Pickler):
    def reducer_override(self, thing: object) -> Any:
        """Replace what came from files by the way to load it."""
        if isinstance(thing, Classifier) and thing.loading is not None:
            state = packed(thing.network.state_dict()) if thing.loading.copied else None
            return _model, (thing.loading.load, thing.sha256(), thing.name, state)
        if isinstance(thing, Preprocess) and thing.source is not None:
            return _preprocess, (thing.source, thing.sha256)
        if isinstance(thing, Custom) and thing.source is not None:
            found = {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing)}
            del found["function"]
            return _explanation, (found,)
        return NotImplemented


def _model(
    load: Callable[[], Classifier], sha256: str, name: str, state: bytes | None
) -> Classifier:
    model = load()
    if state is not None:
        model.network.load_state_dict(safetensors.torch.load(state), strict=False)
        model.name, model.digest = name, None
    _check(name, model.sha256(), sha256)
    return model


def _preprocess(source: str, sha256: str) -> Preprocess:
    found = load_preprocess(source)
    _check(source, found.sha256, sha256)
    return found


def _explanation(known: dict[str, Any]) -> Custom:
    found = load_explanation(known["source"])
    assert isinstance(found, Custom)
    _check(known["source"], found.identity, known["identity"])
    return dataclasses.replace(found, **known)


def _check(name: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise IncompleteRunError(
            f"{name}: a worker that loaded it has another one. Put back what changed during the "
            "audit, or give the weights of a factory that draws them; then use --resume."
        )

"""How far a run is, from its folder alone: while it runs, or after."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import InputError
from auditor.expected import Expected, kind_of
from auditor.lock import Holder, read_holder
from auditor.store import REQUEST, RunFolder


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Tasks of one kind: how many of how many are done, and what those took."""

    name: str
    done: int
    tasks: int
    seconds: float
    gradients: int
    forwards: int


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a run is.

    Attributes
    ----------
    state
        ``running``, ``stopped`` or ``finished``.
    holder
        The process that is at it.
    elapsed, remaining
        Seconds; ``remaining`` is ``None`` where nothing can be told yet.
    """

    state: str
    holder: Holder | None
    workers: int
    kinds: tuple[Kind, ...]
    elapsed: float
    remaining: float | None
    lost_workers: int
    reason: str

    @property
    def share(self) -> float:
        """Done of all, in seconds."""
        whole = self.elapsed + (self.remaining or 0.0)
        return self.elapsed / whole if whole else 0.0


def status(run: Path) -> Status:
    """Read how far a run is.

    Raises
    ------
    InputError
        If there is none.
    """
    if not (run / REQUEST).is_file():
        raise InputError(f"{run}: no run here. Name the folder that --run named.")
    folder = RunFolder(run)
    events = [event for event in folder.events() if isinstance(event.get("event"), str)]
    starts = [event for event in events if event["event"] == "started"]
    expected = _expected(starts[-1]) if starts else {}
    took = {str(e.get("task")): e for e in events if e["event"] == "task"}
    done: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(path.stem for path in (run / "tasks").glob("*.npz")):
        done.setdefault(kind_of(name), []).append(took.get(name, {}))
    kinds = tuple(
        _kind(name, expected.get(name), done.get(name, [])) for name in _ordered(expected, done)
    )
    last = events[-1] if events else {}
    holder = read_holder(run)
    held = holder is not None and holder.alive is not False
    finished = last.get("event") == "finished"
    workers = max(1, int(_number(starts[-1], "workers"))) if starts else 1
    return Status(
        state="finished" if finished else "running" if held else "stopped",
        holder=holder if held else None,
        workers=workers,
        kinds=kinds,
        elapsed=_elapsed(events, holder if held and not finished else None),
        remaining=0.0 if finished else _remaining(kinds, expected, workers),
        lost_workers=int(sum(_number(event, "lost_workers") for event in took.values())),
        reason=str(last.get("reason", "")),
    )


def _kind(name: str, expected: Expected | None, done: list[dict[str, Any]]) -> Kind:
    return Kind(
        name=name,
        done=len(done),
        tasks=max(len(done), expected.tasks if expected else 0),
        seconds=sum(_number(event, "seconds") for event in done),
        gradients=int(sum(_number(event, "gradients") for event in done)),
        forwards=int(sum(_number(event, "forwards") for event in done)),
    )


def _remaining(
    kinds: tuple[Kind, ...], expected: Mapping[str, Expected], workers: int
) -> float | None:
    """Seconds left: a kind's own mean where some are done, else its gradients at the usual rate."""
    known = [kind for kind in kinds if kind.done and kind.name in expected]
    gradients = sum(kind.done * expected[kind.name].gradients for kind in known)
    if not gradients:
        return None
    rate = sum(kind.seconds for kind in known) / gradients
    left = 0.0
    for kind in kinds:
        each = kind.seconds / kind.done if kind.done else expected[kind.name].gradients * rate
        left += each * (kind.tasks - kind.done)
    return left / workers


def _elapsed(events: list[dict[str, Any]], holder: Holder | None) -> float:
    """Seconds of all sessions, each as long as its last event says; the clock may have changed."""
    sessions = [0.0]
    for event in events:
        if event["event"] == "started":
            sessions.append(0.0)
        sessions[-1] = max(sessions[-1], _number(event, "elapsed"))
    if holder is not None:
        sessions[-1] = max(sessions[-1], holder.elapsed)
    return sum(sessions)


def _expected(start: Mapping[str, Any]) -> dict[str, Expected]:
    found = start.get("expected")
    kinds = {}
    for kind, pair in found.items() if isinstance(found, dict) else ():
        if isinstance(pair, list) and len(pair) == 2 and all(map(_finite, pair)):
            kinds[kind] = Expected(int(pair[0]), float(pair[1]))
    return kinds


def _ordered(expected: Mapping[str, Any], done: Mapping[str, Any]) -> list[str]:
    return [*expected, *(name for name in done if name not in expected)]


def _number(event: Mapping[str, Any], name: str) -> float:
    value = event.get(name)
    return float(value) if value is not None and _finite(value) else 0.0


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e15 and math.isfinite(value)

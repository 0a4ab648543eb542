"""Read a profile from TOML and refuse, in one or two lines, everything that is not one."""

from __future__ import annotations

import difflib
import reprlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from profiles.contradictions import contradiction
from profiles.records import (
    FEWEST,
    INDIFFERENCE,
    Criterion,
    Gates,
    Measure,
    Objective,
    Profile,
    ProfileError,
    Quantity,
    Threat,
)
from profiles.schema import BASES, COMPARISONS, KEYS, METRICS, PROBES

FOLDER = Path(__file__).parent
LARGEST_FILE = 64 * 1024  # bytes; a profile is a page of text
LONGEST_TEXT = 1000  # characters of one string, which a report must print


def available() -> tuple[str, ...]:
    """Names of the profiles that come with the auditor, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_profile(name_or_path: str | Path) -> Profile:
    """Read a profile that comes with the auditor, or a TOML file of the user.

    Parameters
    ----------
    name_or_path
        One of :func:`available`, or a path to a file in the same layout.

    Raises
    ------
    ProfileError
        If it is unknown, unreadable, or any key, type or value in it is wrong.
    """
    if str(name_or_path) in available():
        path = FOLDER / f"{name_or_path}.toml"
        where = f"profile {name_or_path}"
    else:
        path = Path(name_or_path)
        where = str(name_or_path)
    text = _read(path, where)
    try:
        declared = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{where}: not valid TOML: {error}.") from error
    return _profile(declared, text, where)


def _read(path: Path, where: str) -> str:
    try:
        if not path.is_file():
            known = ", ".join(available())
            raise ProfileError(
                f"{_short(where)}: no such profile or file.\nKnown profiles: {known}."
            )
        if path.stat().st_size > LARGEST_FILE:
            raise ProfileError(f"{where}: larger than {LARGEST_FILE} bytes, so not a profile.")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ProfileError(f"{where}: not UTF-8 text. Save the profile as UTF-8.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, ProfileError):
            raise
        raise ProfileError(f"{_short(where)}: cannot be read ({error}).") from error


def _profile(declared: Mapping[str, Any], text: str, where: str) -> Profile:
    names = (*KEYS[""], *(section for section in KEYS if section))
    _keys(declared, allowed=names, required=set(names) - {"measure"}, where=where)
    threat_table = _table(declared["threat"], Threat, f"{where}, [threat]")
    threat = Threat(
        epsilon=_epsilon(threat_table, "epsilon", f"{where}, [threat]"),
        epsilon_large=_epsilon_large(threat_table, f"{where}, [threat]"),
        because=_text(threat_table, "because", f"{where}, [threat]"),
    )
    criteria = declared["criteria"]
    if not isinstance(criteria, list) or not criteria:
        raise ProfileError(f"{where}: 'criteria' must be one or more [[criteria]] sections.")
    built = tuple(
        _criterion(table, threat, f"{where}, [[criteria]] number {number}")
        for number, table in enumerate(criteria, start=1)
    )
    doubled = [c.name for i, c in enumerate(built) if c.name in {b.name for b in built[:i]}]
    if doubled:
        raise ProfileError(f"{where}: two criteria are called {_short(doubled[0])}; rename one.")
    if reason := contradiction(built):
        raise ProfileError(f"{where}, [[criteria]]: {reason}")
    return Profile(
        name=_text(declared, "name", where),
        title=_text(declared, "title", where),
        summary=_text(declared, "summary", where),
        confidence=_confidence(declared, where),
        threat=threat,
        objective=_objective(declared["objective"], threat, f"{where}, [objective]"),
        criteria=built,
        gates=_gates(declared["gates"], f"{where}, [gates]"),
        measure=_measure(declared.get("measure", {}), f"{where}, [measure]"),
        text=text,
    )


def _criterion(declared: object, threat: Threat, where: str) -> Criterion:
    table = _table(declared, Criterion, where)
    quantity = _quantity(table, threat, where)
    low, high, good = METRICS[quantity.metric]
    comparison = _choice(table, "comparison", (">=", "<="), where)
    if comparison != good:
        raise ProfileError(
            f"{where}: {quantity.metric} {comparison} asks for a bad map; write '{good}'."
        )
    compared_to = None
    if "compared_to" in table:
        compared_to = _choice(table, "compared_to", ("unsmoothed",), where)
        low, high = low - high, high - low
    bound = _number(table, "bound", where)
    if not low <= bound <= high:
        raise ProfileError(f"{where}: bound is {bound:g}; it must lie in [{low:g}, {high:g}].")
    return Criterion(
        name=_text(table, "name", where),
        title=_text(table, "title", where),
        comparison=comparison,
        bound=bound,
        because=_text(table, "because", where),
        compared_to=compared_to,
        method=_text(table, "method", where) if "method" in table else None,
        confidence=_confidence(table, where) if "confidence" in table else None,
        images=_whole(table, "images", FEWEST, where) if "images" in table else FEWEST,
        basis=_choice(table, "basis", BASES, where) if "basis" in table else BASES[-1],
        **vars(quantity),
    )


def _objective(declared: object, threat: Threat, where: str) -> Objective:
    table = _table(declared, Objective, where)
    quantity = _quantity(table, threat, where)
    direction = _choice(table, "direction", tuple(COMPARISONS), where)
    if COMPARISONS[direction] != METRICS[quantity.metric][2]:
        raise ProfileError(f"{where}: to {direction} {quantity.metric} prefers bad maps.")
    indifference = INDIFFERENCE
    if "indifference" in table:
        indifference = _number(table, "indifference", where)
    if indifference < 0:
        raise ProfileError(f"{where}: indifference is {indifference:g}; it cannot be negative.")
    return Objective(
        direction=direction,
        because=_text(table, "because", where),
        indifference=indifference,
        **vars(quantity),
    )


def _measure(declared: object, where: str) -> Measure:
    table = _table(declared, Measure, where)
    sigmas = table.get("sigmas")
    if sigmas is not None:
        if not isinstance(sigmas, list) or not sigmas:
            raise ProfileError(f"{where}: sigmas must be a list of numbers, as [0.05, 0.1].")
        numbers = [_number({"sigmas": sigma}, "sigmas", where) for sigma in sigmas]
        if not all(0 <= sigma <= 1 for sigma in numbers):
            raise ProfileError(f"{where}: sigmas must lie in [0, 1], in pixel units.")
        sigmas = tuple(sorted(set(numbers)))
    return Measure(
        sigmas=sigmas,
        samples=_whole(table, "samples", 2, where) if "samples" in table else None,
        budget=_whole(table, "budget", 1, where) if "budget" in table else None,
    )


def _gates(declared: object, where: str) -> Gates:
    table = _table(declared, Gates, where)
    ratios = ("map_present", "self_overlap", "label_kept", "reinitialized_margin")
    values = {key: _number(table, key, where) for key in ratios}
    for key, value in values.items():
        if not 0 <= value <= 1:
            raise ProfileError(f"{where}: {key} is {value:g}; it must lie in [0, 1].")
    return Gates(because=_text(table, "because", where), **values)


def _quantity(table: Mapping[str, Any], threat: Threat, where: str) -> Quantity:
    probe = _choice(table, "probe", tuple(PROBES), where)
    metric = _metric(table, probe, where)
    if probe != "attack":
        for key in ("attack", "epsilon", "epsilon_large"):
            if key in table:
                raise ProfileError(f"{where}: '{key}' belongs to the probe 'attack' only.")
        return Quantity(probe=probe, metric=metric)
    attack = _choice(table, "attack", ("strongest",), where)
    if "epsilon" in table:
        epsilon, large = _epsilon(table, "epsilon", where), _epsilon_large(table, where)
    else:
        epsilon = threat.epsilon
        large = _epsilon_large(table, where) or threat.epsilon_large
    return Quantity(probe=probe, metric=metric, attack=attack, epsilon=epsilon, epsilon_large=large)


def _metric(table: Mapping[str, Any], probe: str, where: str) -> str:
    """Name of a metric that the probe measures; for others the message says which probe would."""
    name = table.get("metric")
    if isinstance(name, str) and name not in PROBES[probe]:
        others = [other for other, measured in PROBES.items() if name in measured]
        if others:
            raise ProfileError(
                f"{where}: the probe {probe!r} does not measure metric {name!r}.\n"
                f"Write probe = {' or '.join(repr(o) for o in others)}."
            )
        near = difflib.get_close_matches(name, PROBES[probe], n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(PROBES[probe])}."
        raise ProfileError(f"{where}: no probe measures metric {_short(name)}.\n{hint}")
    return _choice(table, "metric", PROBES[probe], where)


def _table(declared: object, kind: type, where: str) -> Mapping[str, Any]:
    """Check that a section has exactly the keys of a record; those with a default are optional."""
    if not isinstance(declared, dict):
        raise ProfileError(f"{where}: must be a section with keys, not {_short(declared)}.")
    optional = {f.name for f in fields(kind) if f.default is not MISSING}
    names = [f.name for f in fields(kind)]
    required = [name for name in names if name not in optional]
    _keys(declared, allowed=names, required=required, where=where)
    return declared


def _keys(
    table: Mapping[str, Any], *, allowed: Iterable[str], required: Iterable[str], where: str
) -> None:
    allowed = list(allowed)
    for key in table:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known keys: {', '.join(allowed)}."
            raise ProfileError(f"{where}: unknown key {_short(key)}.\n{hint}")
    for key in required:
        if key not in table:
            raise ProfileError(f"{where}: the key '{key}' is missing.")


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table[key]
    if not isinstance(value, str):
        raise ProfileError(f"{where}: {key} must be text, not {_short(value)}.")
    value = " ".join(value.split())
    if not value or len(value) > LONGEST_TEXT or not value.isprintable():
        raise ProfileError(f"{where}: {key} must be 1 to {LONGEST_TEXT} printable characters.")
    return value


def _number(table: Mapping[str, Any], key: str, where: str) -> float:
    value = table[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise ProfileError(f"{where}: {key} must be a finite number, not {_short(value)}.")
    return float(value)


def _whole(table: Mapping[str, Any], key: str, least: int, where: str) -> int:
    value = _number(table, key, where)
    if value != int(value) or not least <= value <= 10**9:
        raise ProfileError(f"{where}: {key} is {value:g}; it must be a whole number from {least}.")
    return int(value)


def _confidence(table: Mapping[str, Any], where: str) -> float:
    value = _number(table, "confidence", where)
    if not 0 < value < 1:
        raise ProfileError(f"{where}: confidence is {value:g}; it must lie between 0 and 1.")
    return value


def _finite(value: int | float) -> bool:
    return -1e300 < value < 1e300  # false for NaN, and no overflow for huge integers


def _epsilon(table: Mapping[str, Any], key: str, where: str) -> float:
    value = _number(table, key, where)
    if not 0 < value <= 255:
        raise ProfileError(f"{where}: {key} is {value:g}; it counts 1/255 steps, in (0, 255].")
    return value


def _epsilon_large(table: Mapping[str, Any], where: str) -> float | None:
    return _epsilon(table, "epsilon_large", where) if "epsilon_large" in table else None


def _choice(table: Mapping[str, Any], key: str, known: tuple[str, ...], where: str) -> str:
    if key not in table:
        raise ProfileError(f"{where}: the key '{key}' is missing.")
    value = table[key]
    if not isinstance(value, str) or value not in known:
        known_names = ", ".join(known)
        raise ProfileError(f"{where}: {key} {_short(value)} is unknown.\nKnown: {known_names}.")
    return value


def _short(value: object) -> str:
    return reprlib.repr(value)  # bounded in length and depth, whatever the file holds

"""Every image of an audit as one row of a table: what it is, and all that was measured on it."""

from __future__ import annotations

import csv
import io

from auditor.results import AuditResult, Measurement
from reports.pictures import class_name
from reports.sections.appendix import half

DIGITS = 6
"""Significant digits; ``audit.json`` has all of them."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def images_csv(result: AuditResult) -> str:
    """Comma-separated text (RFC 4180, lines end in CR LF) with a header.

    The first columns are ``image``, ``predicted``, ``label``, ``half`` and ``subgroup``; then one
    for each measurement, named by its probe, metric and conditions. A cell is empty where an image
    is excluded from a figure. Text that a spreadsheet would take for a formula begins with an
    apostrophe.
    """
    found = result.measurements
    several = len({m.method for m in found}) > 1
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(
        ["image", "predicted", "label", "half", "subgroup", *(_title(m, several) for m in found)]
    )
    for row, name in enumerate(result.images.names):
        about = (
            name,
            class_name(result, row),
            _label(result, row),
            half(result, row),
            result.images.subgroups[row] if result.images.subgroups else "",
        )
        writer.writerow([*map(_text, about), *(_cell(m.values[row]) for m in found)])
    return buffer.getvalue()


def _title(m: Measurement, several: bool) -> str:
    """``attack topk_intersection strongest sigma=0.03 epsilon=8 (ratio)``."""
    where = [m.probe, m.metric, *([m.attack] if m.attack else [])]
    where += [
        f"{name}={value:g}"
        for name, value in (("sigma", m.sigma), ("epsilon", m.epsilon))
        if value is not None
    ]
    where += [f"partner={m.partner}"] if m.partner else []
    where += [f"method={m.method}"] if several else []
    return _text(f"{' '.join(where)} ({m.unit})")


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.{DIGITS}g}"


def _label(result: AuditResult, row: int) -> str:
    labels, names = result.images.labels, result.images.class_names
    if labels is None or row >= len(labels):
        return ""
    return names[labels[row]] if 0 <= labels[row] < len(names) else str(labels[row])


def _text(words: str) -> str:
    return f"'{words}" if words.startswith(_FORMULA) else words

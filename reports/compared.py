"""Two audits side by side: on the terminal, as PDF and as a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from reportlab.platypus import Flowable
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from auditor.comparison import CONFIDENCE, Change, Comparison
from auditor.results import AuditResult
from reports import sentences, text
from reports.blocks import bullets, paragraph, section, table
from reports.files import write_whole
from reports.formatting import NOTHING, interval, number, percent, plural, short, visible
from reports.html import static_page
from reports.pdf import render_story

TITLE = "Comparison of two audits"
_COLORS = {"better": "green", "worse": "red", "regressed": "red", "improved": "green"}
_GROUPS = (
    ("The audits", ("", "Before", "After")),
    ("Criteria", ("Criterion", "Before", "After", "Outcome")),
    ("Figures", ("Figure", "Before", "After", "Difference", "Outcome")),
)

Rows = list[tuple[str, ...]]


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write it as PDF or HTML, whichever the name of the file ends in.

    Raises
    ------
    OSError
        The folder is missing or cannot be written.
    ValueError
        Another ending.
    """
    if path.suffix == ".pdf":
        data = render_story(
            lambda: list(_story(comparison)),
            title=TITLE,
            subject=_answer(comparison),
            latest=comparison.after,
        )
    elif path.suffix == ".html":
        tables = [(title, header, rows) for title, header, rows in _tables(comparison) if rows]
        page = static_page(
            title=TITLE,
            heading=_answer(comparison),
            lead=(*comparison.notes, _reading(comparison)),
            tables=tables,
        )
        data = page.encode("utf-8", errors="backslashreplace")
    else:
        raise ValueError("the name must end in .pdf or .html")
    write_whole(path, data)


def comparison_table(comparison: Comparison) -> RenderableType:
    """Tables of 80 columns for the terminal."""
    parts: list[RenderableType] = [Text(_answer(comparison), style="bold")]
    parts += [Text(visible(note)) for note in comparison.notes]
    for title, header, rows in _tables(comparison):
        if not rows:
            continue
        grid = Table(title=title, width=80, title_justify="left")
        for name in header:
            grid.add_column(name, overflow="fold", ratio=2 if name == header[0] else 1)
        for row in rows:
            *cells, last = (visible(cell) for cell in row)
            grid.add_row(*map(Text, cells), Text(last, style=_COLORS.get(last, "")))
        parts.append(grid)
    return Group(*parts, Text(_reading(comparison)))


def _story(comparison: Comparison) -> Iterator[Flowable]:
    yield paragraph(TITLE, "title")
    yield paragraph(_answer(comparison), "verdict")
    yield from bullets(comparison.notes)
    for title, header, rows in _tables(comparison):
        if rows:
            yield section(title)
            yield table(header, rows, (2.4, *[1.4] * (len(header) - 1)))
    yield paragraph(_reading(comparison))


def _answer(comparison: Comparison) -> str:
    outcomes = [change.outcome for change in comparison.changes]
    words = "A criterion regressed" if comparison.regressed else "No criterion regressed"
    better = plural(outcomes.count("better"), "figure")
    return f"{words}; {better} better, {outcomes.count('worse')} worse"


def _reading(comparison: Comparison) -> str:
    return text.COMPARISON_READING.format(
        images=plural(comparison.shared, "image"), confidence=percent(CONFIDENCE)
    )


def _tables(comparison: Comparison) -> list[tuple[str, tuple[str, ...], Rows]]:
    found = (_audits(comparison), _criteria(comparison), [_row(c) for c in comparison.changes])
    return [(title, header, rows) for (title, header), rows in zip(_GROUPS, found, strict=True)]


def _audits(comparison: Comparison) -> Rows:
    says: Sequence[tuple[str, Callable[[AuditResult], str]]] = (
        ("Model", lambda r: r.model.name),
        ("SHA-256 of the model", lambda r: r.model.sha256[:16]),
        ("Date", lambda r: r.created),
        ("Images", lambda r: f"{len(r.images.names):,}"),
        ("Profile", lambda r: r.profile.name),
        ("Verdict", sentences.verdict),
        ("Bootstrap interval of σ", sentences.sigma_interval),
    )
    return [(name, say(comparison.before), say(comparison.after)) for name, say in says]


def _criteria(comparison: Comparison) -> Rows:
    rows: Rows = []
    for change in comparison.criteria:
        outcome = "regressed" if change.regressed else "no change"
        if not change.regressed and change.before != change.after:
            outcome = "improved" if change.after == "pass" else "changed"
        before, after = (
            status if sigma is None else f"{status} at σ = {short(sigma)}"
            for status, sigma in (
                (change.before, change.sigma_before),
                (change.after, change.sigma_after),
            )
        )
        rows.append((change.title, before, after, outcome))
    return rows


def _row(change: Change) -> tuple[str, ...]:
    at = [f"σ = {short(change.sigma)}"]
    if change.epsilon is not None:
        at.append(f"ε = {short(change.epsilon)}/255")
    if change.partner:
        at.append(change.partner)
    name = text.METRICS.get(change.metric, change.metric)
    if change.epsilon is not None:
        name += " under attack"
    before, after = (number(e.mean) if e else NOTHING for e in (change.before, change.after))
    found = change.difference
    difference = f"{number(found.mean)} ({interval(found)})" if found else NOTHING
    return f"{name}, {', '.join(at)}", before, after, difference, change.outcome

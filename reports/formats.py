"""The forms a report can have, each a pure function of a result, and the file it goes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from auditor.results import AuditResult, Recommendation
from reports.files import write_whole
from reports.html import html
from reports.images_csv import images_csv
from reports.junit import junit
from reports.markdown import markdown
from reports.pdf import render

FILES = {
    "pdf": "report.pdf",
    "html": "report.html",
    "json": "report.json",
    "csv": "images.csv",
    "junit": "report.xml",
    "markdown": "report.md",
}
"""Format → name of the file in a run folder."""

_TEXTS: dict[str, Callable[[AuditResult], str]] = {
    "json": AuditResult.to_json,
    "csv": images_csv,
    "junit": junit,
    "markdown": markdown,
}


def write_report(
    result: AuditResult,
    path: str | Path,
    *,
    form: str = "pdf",
    paper: str = "a4",
    others: Mapping[str, Recommendation] | None = None,
) -> None:
    """Write the report of an audit in one of the :data:`FILES`' formats, whole or not at all.

    The same result gives the same bytes: every date in the file is ``result.created``.

    Parameters
    ----------
    result
        A finished audit; ``gallery`` may be empty.
    path
        The file to write; its folder must exist. An existing file is replaced.
    form
        ``pdf``, ``html``, ``json`` (the results themselves, as in ``docs/schema``), ``csv`` (a row
        for each image), ``junit`` or ``markdown``.
    paper
        ``a4`` or ``letter``, for ``pdf``.
    others
        What other profiles would say of the same measurements, by name, for ``html``.

    Raises
    ------
    OSError
        The folder is missing or cannot be written.
    ModuleNotFoundError
        ``html`` without plotly.
    ValueError
        ``result.created`` is not an ISO 8601 time, or a number is not finite.
    """
    if form == "pdf":
        data = render(result, paper=paper)
    else:
        words = html(result, others) if form == "html" else _TEXTS[form](result)
        # a lone surrogate in a file name becomes its escape, so that the bytes are UTF-8
        data = words.encode("utf-8", errors="backslashreplace")
    write_whole(Path(path), data)

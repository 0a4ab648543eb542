"""From a result to one PDF file: pages, metadata, attachment; the same bytes each time."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pikepdf
from reportlab.platypus import Flowable

from auditor.results import AuditResult
from reports import sentences, text
from reports.document import report_story, typeset, typeset_once
from reports.files import write_whole
from reports.formatting import visible
from reports.images_csv import images_csv
from reports.style import PAPERS

ATTACHMENT = "audit.json"
TABLE = "images.csv"
_TYPES = {".json": "application/json", ".csv": "text/csv"}


def write_pdf(result: AuditResult, path: str | Path, *, paper: str = "a4") -> None:
    """Write the report of an audit; the file appears whole or not at all.

    The same result gives the same bytes: every date in the file is ``result.created``.

    Parameters
    ----------
    result
        A finished audit; ``gallery`` may be empty.
    path
        The file to write; its folder must exist. An existing file is replaced.
    paper
        ``a4`` or ``letter``.

    Raises
    ------
    OSError
        The folder is missing or cannot be written.
    ValueError
        ``result.created`` is not an ISO 8601 time, or a number is not finite.
    """
    write_whole(Path(path), render(result, paper=paper))


def render_first_page(result: AuditResult, *, paper: str, total: int) -> bytes:
    """A PDF whose first page is that of the report, which has ``total`` pages."""
    size = PAPERS[paper]
    return typeset_once(report_story(result, size), paper=size, total=total, **_running(result))


def render(result: AuditResult, *, paper: str = "a4") -> bytes:
    """The report as the bytes of a PDF file."""
    size = PAPERS[paper]
    return _finished(
        typeset(
            report_story(result, size),
            report_story(result, size, brief=True),
            paper=size,
            **_running(result),
        ),
        title=_running(result)["title"],
        subject=visible(f"{sentences.verdict(result)} (purpose: {result.profile.name})"),
        auditor=result.auditor_version,
        created=result.created,
        # a lone surrogate in a file name becomes its escape, so that the bytes are UTF-8
        results=result.to_json().encode("utf-8", errors="backslashreplace"),
        table=images_csv(result).encode("utf-8", errors="backslashreplace"),
    )


def render_story(
    story: Callable[[], list[Flowable]], *, title: str, subject: str, latest: AuditResult
) -> bytes:
    """Something else than a report in its looks; dates are those of an audit."""
    pages = typeset(
        lambda _: story(),
        title=title,
        footer=title,
        paper=PAPERS["a4"],
    )
    return _finished(
        pages,
        title=title,
        subject=visible(subject),
        auditor=latest.auditor_version,
        created=latest.created,
    )


def _finished(
    pages: bytes,
    *,
    title: str,
    subject: str,
    auditor: str,
    created: str,
    results: bytes | None = None,
    table: bytes | None = None,
) -> bytes:
    """Metadata, and what is attached: the results, and their table of images."""
    when = _time(created)
    producer = f"attribution-auditor {visible(auditor)}"
    # reportlab derives nothing from the clock here, pikepdf neither: dates are all set below
    with pikepdf.open(io.BytesIO(pages)) as pdf:
        pdf.Root.Lang = pikepdf.String("en-US")
        pdf.Root.ViewerPreferences = pikepdf.Dictionary(DisplayDocTitle=True)
        with pdf.open_metadata(set_pikepdf_as_editor=False, update_docinfo=False) as xmp:
            xmp["dc:title"] = title
            xmp["dc:description"] = subject
            xmp["dc:creator"] = [producer]
            xmp["dc:language"] = ["en-US"]
            xmp["dc:format"] = "application/pdf"
            xmp["pdf:Producer"] = producer
            xmp["xmp:CreatorTool"] = producer
            for name in ("xmp:CreateDate", "xmp:ModifyDate", "xmp:MetadataDate"):
                xmp[name] = when.isoformat()
        stamp = _pdf_date(when)
        for key in list(pdf.docinfo.keys()):
            del pdf.docinfo[key]
        pdf.docinfo["/Title"] = title
        pdf.docinfo["/Subject"] = subject
        pdf.docinfo["/Creator"] = producer
        pdf.docinfo["/Producer"] = producer
        pdf.docinfo["/CreationDate"] = stamp
        pdf.docinfo["/ModDate"] = stamp
        attached: list[pikepdf.Object] = []
        if results is not None:
            what = "Machine-readable results of this audit"
            attached.append(_attach(pdf, ATTACHMENT, results, what, when))
            pdf.docinfo["/ResultsSHA256"] = hashlib.sha256(results).hexdigest()
        if table is not None:
            attached.append(_attach(pdf, TABLE, table, "Results image by image", when))
        if attached:
            pdf.Root.AF = pikepdf.Array(attached)
        buffer = io.BytesIO()
        pdf.save(buffer, deterministic_id=True, recompress_flate=False)
    return buffer.getvalue()


def _running(result: AuditResult) -> dict[str, str]:
    """Title of the file, and the footer of each page."""
    return {
        "title": visible(f"{text.TITLE}: {result.model.name}"),
        "footer": f"{text.TITLE} · model SHA-256 {visible(result.model.sha256)[:64]}",
    }


def _attach(
    pdf: pikepdf.Pdf, name: str, data: bytes, description: str, when: datetime
) -> pikepdf.Object:
    file = pikepdf.AttachedFileSpec(
        pdf,
        data,
        filename=name,
        mime_type=_TYPES[Path(name).suffix],
        description=description,
        creation_date=_pdf_date(when),
        mod_date=_pdf_date(when),
        relationship=pikepdf.Name.Data,
    )
    pdf.attachments[name] = file
    return file.obj


def _time(created: str) -> datetime:
    when = datetime.fromisoformat(created)
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return aware.astimezone(UTC).replace(microsecond=0)


def _pdf_date(when: datetime) -> str:
    return when.strftime("D:%Y%m%d%H%M%SZ")

"""Whether a report, or a run, still says what the audit measured.

Hashes and pages are recomputed. Whoever can rewrite a whole report consistently is stopped only by
a signature, or by measuring again.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pikepdf

import reports
from auditor.errors import InputError
from auditor.results import AuditResult
from auditor.seal import SEAL, file_sha256, sealed
from auditor.signing import signatures
from auditor.version import __version__

SAME, CHANGED, UNCHECKED = "same", "changed", "not checked"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check: what was looked at, ``same``, ``changed`` or ``not checked``, and why."""

    what: str
    status: str
    message: str


def verify_run(run: Path, *, trust: Sequence[Path] = ()) -> tuple[Finding, ...]:
    """Check the files of a run folder against their recorded hashes, and its report.

    Raises
    ------
    InputError
        If there is no ``audit.json``, or it is no result of this version.
    """
    if not (run / "audit.json").is_file():
        raise InputError(f"{run}: no audit.json here. Finish the audit with --resume first.")
    recorded = sealed(run)
    found = [_file(run, name, recorded.get(name)) for name in ("audit.json", "maps.npz")]
    report = run / reports.FILES["pdf"]
    if not report.is_file():
        missing = f"{report.name} is not there; auditor report {run} writes it."
        return *found, Finding(what="report", status=UNCHECKED, message=missing)
    attached = attached_result(report)
    text = (run / "audit.json").read_bytes()
    same = attached == text
    found.append(
        Finding(
            what="attachment",
            status=SAME if same else CHANGED,
            message="The attached results are those of audit.json."
            if same
            else "The attached results are not those of audit.json.",
        )
    )
    return *found, *verify_pdf(report, trust=trust)


def verify_pdf(report: Path, *, trust: Sequence[Path] = ()) -> tuple[Finding, ...]:
    """Check a report against the results that are attached to it, and its signatures.

    Raises
    ------
    InputError
        If it is no report of this auditor.
    """
    attached = attached_result(report)
    result = AuditResult.from_json(attached.decode(), where=f"{report}, attached audit.json")
    digest = hashlib.sha256(attached).hexdigest()
    found = [_digest(report, digest), *_table(report, result), _pages(report, result)]
    return *found, *_signatures(report, trust)


def attached_result(report: Path) -> bytes:
    """The ``audit.json`` that is attached to a report.

    Raises
    ------
    InputError
        If the file is no PDF, or has no such attachment.
    """
    try:
        with pikepdf.open(report) as pdf:
            return pdf.attachments["audit.json"].get_file().read_bytes()
    except KeyError as error:
        raise InputError(
            f"{report}: has no audit.json attached; not an auditor's report."
        ) from error
    except (OSError, pikepdf.PdfError) as error:
        raise InputError(f"{report}: cannot be read as a PDF ({error}).") from error


def _file(run: Path, name: str, recorded: str | None) -> Finding:
    if recorded is None:
        message = f"{SEAL} has no hash of {name}."
        return Finding(what=name, status=UNCHECKED, message=message)
    if not (run / name).is_file():
        return Finding(what=name, status=CHANGED, message=f"{name} is gone.")
    if file_sha256(run / name) != recorded:
        return Finding(what=name, status=CHANGED, message=f"{name} was changed after the audit.")
    return Finding(what=name, status=SAME, message=f"SHA-256 {recorded}")


def _digest(report: Path, digest: str) -> Finding:
    with pikepdf.open(report) as pdf:
        declared = str(pdf.docinfo.get("/ResultsSHA256", ""))
    what = "attached results"
    if declared == digest:
        return Finding(what=what, status=SAME, message=f"SHA-256 {digest}")
    message = f"SHA-256 {digest}, but the report was made from {declared or 'unknown results'}."
    return Finding(what=what, status=CHANGED, message=message)


def _table(report: Path, result: AuditResult) -> tuple[Finding, ...]:
    """Whether the attached table is that of the results; reports of other auditors may differ."""
    if result.auditor_version != __version__:
        return ()
    with pikepdf.open(report) as pdf:
        if reports.FILES["csv"] not in pdf.attachments:
            return ()
        attached = pdf.attachments[reports.FILES["csv"]].get_file().read_bytes()
    same = attached == reports.images_csv(result).encode("utf-8", errors="backslashreplace")
    message = f"The attached {reports.FILES['csv']} is {'' if same else 'not '}that of the results."
    return (Finding(what="attached table", status=SAME if same else CHANGED, message=message),)


def _pages(report: Path, result: AuditResult) -> Finding:
    """Render the report again from its attachment; without the maps only page one can be."""
    if result.auditor_version != __version__:
        message = f"Written by auditor {result.auditor_version}, this is {__version__}."
        return Finding(what="pages", status=UNCHECKED, message=message)
    data = report.read_bytes()
    maps = report.parent / "maps.npz"
    if maps.is_file():
        result = result.with_maps(maps)
    what, same = "pages", False
    with pikepdf.open(io.BytesIO(data)) as pdf:
        width, total = float(pdf.pages[0].mediabox[2]), len(pdf.pages)
        paper = next((p for p, size in reports.PAPERS.items() if abs(size.width - width) < 1), None)
        if paper is not None:
            # A signature is appended: what comes before it must be the report.
            same = data.startswith(reports.render(result, paper=paper))
            if not same and not maps.is_file():
                what = "page one"
                again = reports.render_first_page(result, paper=paper, total=total)
                same = _content(pdf) == _content(pikepdf.open(io.BytesIO(again)))
    if same and what == "page one":
        message = "Page one is what the attached results give; the rest needs maps.npz beside it."
    elif same:
        message = "The pages are what the attached results give, to the byte."
    else:
        message = "The pages are not what the attached results give."
    return Finding(what=what, status=SAME if same else CHANGED, message=message)


def _content(pdf: pikepdf.Pdf) -> bytes:
    page = pdf.pages[0]
    page.contents_coalesce()
    return page.obj.Contents.read_bytes()


def _signatures(report: Path, trust: Sequence[Path]) -> tuple[Finding, ...]:
    data = report.read_bytes()
    if b"/ByteRange" not in data:
        unsigned = Finding(what="signature", status=UNCHECKED, message="The report is not signed.")
        return (unsigned,)
    found = []
    for signature in signatures(data, trust):
        state = "valid" if signature.intact else "NOT valid"
        whole = "" if signature.whole else "; the file was added to afterwards"
        known = "trusted" if signature.trusted else "certificate not among those trusted (--trust)"
        found.append(
            Finding(
                what="signature",
                status=SAME if signature.intact and signature.whole else CHANGED,
                message=f"{signature.signer}, {signature.time}: {state}{whole}; {known}.",
            )
        )
    return tuple(found)

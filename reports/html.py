"""One self-contained page: σ under the reader's hand, no network, no code from the results."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

from auditor.results import AuditResult, Recommendation
from reports import sentences, text
from reports.formatting import NOTHING, estimate_line, percent, plural, short, visible
from reports.page_data import page_data
from reports.sections.appendix import MOST, image_table

INSTALL = "An HTML report needs plotly. Install it with: pip install 'attribution-auditor[html]'"


def html(result: AuditResult, others: Mapping[str, Recommendation] | None = None) -> str:
    """The page as text.

    Parameters
    ----------
    result
        A finished audit; without ``gallery`` the page has no maps.
    others
        What other profiles would say of the same measurements, by name.

    Raises
    ------
    ModuleNotFoundError
        Without plotly, whose script is put into the page.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(INSTALL, name="plotly") from error
    answer = result.recommendation
    scripts = {"plotly": get_plotlyjs(), "script": _shipped("page.js")}
    data = json.dumps(page_data(result, others or {}), sort_keys=True, allow_nan=False)
    parts = {
        **scripts,
        # Nothing but these two scripts may run, and nothing may be fetched.
        "policy": " ".join(_fingerprint(script) for script in scripts.values()),
        "style": _shipped("page.css"),
        # "<" would let a name end the element
        "data": data.replace("<", "\\u003c"),
        "title": _words(f"{text.TITLE}: {result.model.name}"),
        "verdict": _words(sentences.verdict(result)),
        "kind": _words(answer.verdict),
        "subject": _words(
            f"Model {result.model.name} · {plural(len(result.images.names), 'image')} · "
            f"purpose: {result.profile.title} ({result.profile.name}) · {result.created}"
        ),
        "facts": "".join(
            f"<div><dt>{_words(name)}</dt><dd>{_words(value)}</dd></div>"
            for name, value in sentences.sigma_facts(result)
        ),
        "sentences": "".join(f"<p>{_words(s)}</p>" for s in sentences.for_managers(result)),
        "reasons": _list("Why", answer.reasons) + _list("What to do next", answer.advice),
        "criteria": _criteria(result),
        "options": _options(result),
        "images": _images(result),
        "limitations": "".join(f"<li>{_words(line)}</li>" for line in text.LIMITATIONS),
        "terms": _words(text.GLOSSARY),
        "command": _words(result.command),
        "model": _words(result.model.sha256),
        "manifest": _words(result.images.manifest_sha256),
        "auditor": _words(result.auditor_version),
    }
    return _filled("page.html", parts)


def static_page(
    *,
    title: str,
    heading: str,
    lead: Sequence[str],
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]],
) -> str:
    """A page of tables without scripts; each table is a caption, a header and rows."""
    parts = {
        "title": _words(title),
        "style": _shipped("page.css"),
        "heading": _words(heading),
        "lead": "".join(f"<p>{_words(line)}</p>" for line in lead),
        "tables": "".join(_table(*table, sortable=False) for table in tables),
    }
    return _filled("tables.html", parts)


def _filled(name: str, parts: Mapping[str, str]) -> str:
    return re.sub(r"\{\{ (\w+) \}\}", lambda place: parts[place[1]], _shipped(name))


def _criteria(result: AuditResult) -> str:
    rows = [
        (
            c.title,
            sentences.requirement(c),
            estimate_line(c.screen),
            estimate_line(c.confirm),
            c.status,
        )
        for c in result.recommendation.criteria
    ]
    header = ("Criterion", "Required", "Screening half", "Confirming half", "Result")
    return _table("Criteria at the σ in question", header, rows)


def _options(result: AuditResult) -> str:
    rows = [
        (
            short(option.sigma),
            option.status,
            str(sum(gate.passed is True for gate in option.gates)),
            str(sum(c.status == "pass" for c in option.criteria)),
            estimate_line(option.objective),
            "yes" if option.on_front else "no",
            percent(option.wins),
        )
        for option in result.recommendation.options
    ]
    header = (
        "σ",
        "Status on the screening half",
        "Gates passed",
        "Criteria passed",
        "Objective",
        "Pareto front",
        "Bootstrap wins",
    )
    return _table("Every σ that was examined", header, rows)


def _images(result: AuditResult) -> str:
    header, rows = image_table(result)
    caption = "Images, the worst first"
    if len(result.images.names) > MOST:
        caption += f"; the other {len(result.images.names) - MOST:,} are in audit.json"
    return _table(caption, header, rows)


def _table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    sortable: bool = True,
) -> str:
    """A table; if ``sortable``, its columns sort by a button in their heads."""
    if not rows:
        return f"<p>{_words(caption)}: {NOTHING}</p>"
    button = '<button type="button">{}</button>' if sortable else "{}"
    head = "".join(f'<th scope="col">{button.format(_words(name))}</th>' for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{_words(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="wide"><table{" class=sortable" * sortable}>'
        f"<caption>{_words(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f"<h3>{_words(title)}</h3><ul>{''.join(f'<li>{_words(s)}</li>' for s in lines)}</ul>"


def _words(words: str) -> str:
    return escape(visible(words))


def _shipped(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text(encoding="utf-8")


def _fingerprint(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"

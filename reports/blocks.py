"""Building blocks of a page: paragraphs, headings with bookmarks, tables, code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from reportlab.platypus import Flowable, KeepTogether, Paragraph, Spacer, Table, TableStyle

from reports.formatting import Markup, code_markup, count, markup
from reports.style import INK, PAPERS, RULE, SANS, STATUS_COLORS, TEXT_WIDTH, TINT, style

_STATUS = {
    "pass": ("good", "✓ pass"),
    "fail": ("bad", "✗ fail"),
    "inconclusive": ("open", "? inconclusive"),
    "provisional": ("open", "? provisional"),
    "not applicable": ("none", "– not applicable"),
    "not run": ("none", "– not run"),
    "admissible": ("good", "✓ admissible"),
    "rejected": ("bad", "✗ rejected"),
    "recommended": ("good", "✓ recommended"),
    "no_sigma": ("bad", "✗ no σ"),
    "ok": ("good", "✓ ok"),
    "note": ("open", "! note"),
    "failed": ("bad", "✗ failed"),
}

_WHOLE_PAGE = 0.85 * min(paper.text_height for paper in PAPERS.values())
"""A row that does not fit in so much room is taller than a page."""


class Heading(Paragraph):  # type: ignore[misc]  # reportlab is untyped
    """A heading that enters the document's outline and never ends a page.

    ``reserve`` is the room in points that has to be left below it.
    """

    def __init__(self, title: str, *, level: int, reserve: float) -> None:
        super().__init__(markup(title), style("h1" if level == 0 else "h2"))
        self.title = title
        self.level = level
        self.reserve = reserve

    def wrap(self, width: float, height: float) -> tuple[float, float]:
        """Claim more than there is where too little is left, so that a new page begins."""
        _, own = super().wrap(width, height)
        fits = own + self.reserve <= height
        return width, own if fits else max(own, height + 1)

    def split(self, width: float, height: float) -> list[Flowable]:
        """Stay in one piece."""
        return []


class Bookmark(Flowable):  # type: ignore[misc]  # reportlab is untyped
    """An entry of the outline without a heading on the page."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title
        self.level = 0

    def wrap(self, width: float, height: float) -> tuple[float, float]:
        """Take no room."""
        return 0, 0

    def draw(self) -> None:
        """Draw nothing."""


class _Grid(Table):  # type: ignore[misc]  # reportlab is untyped
    """A table that splits between rows; within a row only if the row is taller than a page."""

    def split(self, width: float, height: float) -> list[Flowable]:
        """Parts for this page and the next."""
        self.splitInRow = 0
        parts: list[Flowable] = super().split(width, height)
        if not parts and height > _WHOLE_PAGE:
            self.splitInRow = 1
            parts = super().split(width, height)
        return parts


def columns(parts: Sequence[Flowable]) -> Table:
    """Many short paragraphs in two columns of equal number, the left one first."""
    half = -(-len(parts) // 2)
    rows = zip_longest(parts[:half], parts[half:], fillvalue="")
    return _Grid(
        [list(row) for row in rows],
        colWidths=_widths((1, 1), TEXT_WIDTH),
        style=table_style(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 3),
                ("RIGHTPADDING", (0, 0), (-1, -1), 9),
                ("TOPPADDING", (0, 0), (-1, -1), 0.8),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 1.2),
                ("LINEBELOW", (0, 0), (-1, -1), 0.3, RULE),
            ]
        ),
        hAlign="LEFT",
        spaceAfter=8,
    )


def section(title: str) -> Heading:
    """Heading of a section."""
    return Heading(title, level=0, reserve=80)


def subsection(title: str, *, reserve: float = 50) -> Heading:
    """Heading within a section; a chart below it needs a ``reserve`` of its height."""
    return Heading(title, level=1, reserve=reserve)


def paragraph(text: str, kind: str = "body") -> Paragraph:
    """A paragraph; plain text is escaped."""
    return Paragraph(markup(text), style(kind))


def lead(sentence: str) -> list[Flowable]:
    """What a section found, before its details; nothing for an empty sentence."""
    return [paragraph(sentence, "lead")] if sentence else []


def bullets(texts: Iterable[str], kind: str = "bullet") -> list[Flowable]:
    """A bulleted list; of the kind ``note`` in small type."""
    return [Paragraph(markup(text), style(kind), bulletText="•") for text in texts]


def gap(points: float = 6) -> Spacer:
    """Vertical space."""
    return Spacer(1, points)


def together(*parts: Flowable) -> KeepTogether:
    """Parts that belong on one page."""
    return KeepTogether(list(parts))


def picture_table(
    rows: Sequence[Sequence[object]],
    widths: Sequence[float],
    *spans: tuple[tuple[int, int], tuple[int, int]],
) -> Table:
    """Pictures and words in rows without rules; each picture has 6 points to its right.

    ``spans`` are the first and the last (column, row) of cells that are one.
    """
    look = [
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 6),
        ("TOPPADDING", (0, 0), (-1, -1), 0),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        *(("SPAN", *span) for span in spans),
    ]
    return Table(rows, colWidths=list(widths), style=table_style(look), hAlign="LEFT", spaceAfter=4)


def table_style(commands: Sequence[tuple[object, ...]]) -> TableStyle:
    """A table's style; the font has to be named, or the page refers to one not embedded."""
    return TableStyle([("FONTNAME", (0, 0), (-1, -1), SANS), *commands])


def beside(*parts: Flowable | list[Flowable], columns: int = 0) -> Table:
    """Charts or short runs of text side by side on one page, each in its share of the width.

    More ``columns`` than parts leave the last ones empty.
    """
    places = max(columns, len(parts))
    return Table(
        [[*parts, *[""] * (places - len(parts))]],
        colWidths=_widths([1] * places, TEXT_WIDTH),
        style=table_style(
            [
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("RIGHTPADDING", (0, 0), (-1, -1), 0),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ]
        ),
        hAlign="LEFT",
        spaceAfter=6,
    )


def status(word: str) -> Markup:
    """A status as sign, word and color, so that it reads in grey too."""
    kind, text = _STATUS.get(word, ("none", word))
    color = STATUS_COLORS[kind].hexval().replace("0x", "#")
    return Markup(f'<font color="{color}"><b>{markup(text)}</b></font>')


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    weights: Sequence[float],
    *,
    tall: bool = False,
    dense: bool = False,
) -> Table:
    """A ruled table whose header repeats on each page; cells wrap, rows may split over pages.

    ``tall`` leaves room to write by hand; ``dense`` sets long lists closer.
    """
    above, below = (0.6, 0.8) if dense else (1.3, 1.8)
    body = [[Paragraph(markup(cell), style("cell")) for cell in row] for row in rows]
    head = [Paragraph(markup(cell), style("head")) for cell in header]
    look = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 3),
        ("RIGHTPADDING", (0, 0), (-1, -1), 3),
        ("TOPPADDING", (0, 0), (-1, -1), above),
        ("BOTTOMPADDING", (0, 0), (-1, -1), below),
        ("BOTTOMPADDING", (0, 1), (-1, -1), 16 if tall else below),
        ("BACKGROUND", (0, 0), (-1, 0), TINT),
        ("LINEABOVE", (0, 0), (-1, 0), 0.8, INK),
        ("LINEBELOW", (0, 0), (-1, -1), 0.3, RULE),
        ("LINEBELOW", (0, -1), (-1, -1), 0.8, INK),
    ]
    return _Grid(
        [head, *body],
        colWidths=_widths(weights, TEXT_WIDTH),
        repeatRows=1,
        style=table_style(look),
        hAlign="LEFT",
        spaceAfter=8,
    )


def listing(
    header: Sequence[str], rows: Sequence[Sequence[str]], weights: Sequence[float]
) -> Table:
    """A long table in small type: two rows beside each other, to be read line by line."""
    head = [Paragraph(markup(cell), style("small head")) for cell in header]
    body = [[Paragraph(markup(cell), style("small cell")) for cell in row] for row in rows]
    pairs = zip_longest(body[::2], body[1::2], fillvalue=[""] * len(header))
    look = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 2),
        ("RIGHTPADDING", (0, 0), (-1, -1), 1),
        ("TOPPADDING", (0, 0), (-1, -1), 0.1),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 0.6),
        ("BACKGROUND", (0, 0), (-1, 0), TINT),
        ("LINEABOVE", (0, 0), (-1, 0), 0.8, INK),
        ("LINEBELOW", (0, 0), (-1, -1), 0.3, RULE),
        ("LINEAFTER", (len(header) - 1, 0), (len(header) - 1, -1), 0.6, RULE),
        ("LINEBELOW", (0, -1), (-1, -1), 0.8, INK),
    ]
    return _Grid(
        [[*head, *head], *([*left, *right] for left, right in pairs)],
        colWidths=_widths([*weights] * 2, TEXT_WIDTH),
        repeatRows=1,
        style=table_style(look),
        hAlign="LEFT",
        spaceAfter=8,
    )


def facts(pairs: Iterable[tuple[str, str]], *, abreast: int = 1) -> Table:
    """Names and values; ``abreast`` pairs stand in one row, read line by line."""
    cells = [
        [Paragraph(markup(name), style("head")), Paragraph(markup(value), style("cell"))]
        for name, value in pairs
    ]
    rows = [
        [cell for pair in cells[start : start + abreast] for cell in pair]
        for start in range(0, len(cells), abreast)
    ]
    rows = [[*row, *[""] * (2 * abreast - len(row))] for row in rows]
    look = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 3),
        ("TOPPADDING", (0, 0), (-1, -1), 1.2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.6),
        ("LINEBELOW", (0, 0), (-1, -1), 0.3, RULE),
    ]
    return _Grid(
        rows,
        colWidths=_widths((1.1, 3.9 if abreast == 1 else 1.4) * abreast, TEXT_WIDTH),
        style=table_style(look),
        hAlign="LEFT",
        spaceAfter=8,
    )


def contents_list(entries: Sequence[tuple[str, int]]) -> list[Flowable]:
    """Titles with their pages, in two columns."""
    half = -(-len(entries) // 2)
    cells = [
        [Paragraph(markup(title), style("cell")), Paragraph(str(page), style("cell"))]
        for title, page in entries
    ]
    blank = [Paragraph("", style("cell"))] * 2
    right = [*cells[half:], *[blank] * (2 * half - len(cells))]
    look = [("TOPPADDING", (0, 0), (-1, -1), 1), ("BOTTOMPADDING", (0, 0), (-1, -1), 1)]
    rows = [a + b for a, b in zip(cells[:half], right, strict=True)]
    return [
        Paragraph("Contents", style("h2")),
        Table(
            rows,
            colWidths=_widths((5, 1, 5, 1), TEXT_WIDTH),
            style=table_style(look),
            hAlign="LEFT",
            spaceAfter=10,
        ),
    ]


def capped(rows: Sequence[Sequence[str]], most: int, what: str) -> tuple[list[Sequence[str]], str]:
    """The first ``most`` rows, and a sentence on those left out (empty if none are)."""
    if len(rows) <= most:
        return list(rows), ""
    left = count(len(rows) - most)
    return list(rows[:most]), (
        f"Only the first {count(most)} of {count(len(rows))} {what} are printed; "
        f"the other {left} are in the attached audit.json."
    )


def code(text: str) -> Table:
    """Program text in a tinted box; long lines wrap."""
    lines = [
        [Paragraph(code_markup(line) or Markup("\u00a0"), style("code"))]
        for line in text.rstrip("\n").split("\n")
    ]
    look = [
        ("BACKGROUND", (0, 0), (-1, -1), TINT),
        ("LEFTPADDING", (0, 0), (-1, -1), 6),
        ("TOPPADDING", (0, 0), (-1, -1), 0.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 0.5),
    ]
    return _Grid(
        lines,
        colWidths=[TEXT_WIDTH],
        style=table_style(look),
        hAlign="LEFT",
        spaceAfter=8,
    )


def _widths(weights: Sequence[float], width: float) -> list[float]:
    total = sum(weights)
    return [width * weight / total for weight in weights]

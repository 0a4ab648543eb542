"""The pages: sections in order, contents, running footer, outline."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping

from reportlab import rl_config
from reportlab.graphics import shapes
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    PageTemplate,
    Spacer,
)

from auditor.results import AuditResult
from reports import text
from reports.blocks import Bookmark, Heading, contents_list, paragraph, section
from reports.outline import SECTIONS
from reports.style import QUIET, RULE, SANS, TEXT_WIDTH, Paper, register_fonts

MOST_PAGES = 20
Story = Callable[[Mapping[str, int]], list[Flowable]]
"""What to typeset, given the page of each heading as far as it is known."""


def typeset(*stories: Story, title: str, footer: str, paper: Paper) -> bytes:
    """Pages as PDF bytes, typeset twice: the first pass finds the numbers the second prints.

    Of several stories, from the longest to the shortest, it is the first with at most
    :data:`MOST_PAGES`, else the last.
    """
    register_fonts()
    with _house_settings():
        for story in stories:
            first = _Document(title=title, footer=footer, paper=paper, total=0)
            first.render(story({}))
            if first.page <= MOST_PAGES:
                break
        final = _Document(title=title, footer=footer, paper=paper, total=first.page)
        return final.render(story(first.found))


def typeset_once(story: Story, *, title: str, footer: str, paper: Paper, total: int) -> bytes:
    """The same without page numbers in the contents: page one is as in ``total`` pages."""
    register_fonts()
    with _house_settings():
        return _Document(title=title, footer=footer, paper=paper, total=total).render(story({}))


def report_story(result: AuditResult, paper: Paper, *, brief: bool = False) -> Story:
    """All sections of an audit's report, ``brief`` where they can be."""
    height = paper.text_height
    titles = [f"{number}. {s.title}" for number, s in enumerate(SECTIONS, start=1)]

    def story(pages: Mapping[str, int]) -> list[Flowable]:
        parts: list[Flowable] = []
        for number, part in enumerate(SECTIONS):
            content = ((brief and part.brief) or part.build)(result)
            if number == 0:
                # page one speaks for itself: a bookmark without a numbered heading
                parts += [Bookmark(titles[0]), paragraph(text.TITLE, "title")]
            elif number == 1:
                # a long page one runs on: what follows then shares its second page
                parts.append(CondPageBreak(height / 2))
                parts += contents_list([(t, pages.get(t, 0)) for t in titles])
                parts.append(section(titles[number]))
            else:
                parts += [CondPageBreak(height / 7), Spacer(1, 10), section(titles[number])]
            parts += content
        return parts

    return story


@contextlib.contextmanager
def _house_settings() -> Iterator[None]:
    """Change two global settings of reportlab while we typeset, then put them back.

    Pictures as ASCII text take seconds for a gallery; and each drawing would begin with a font
    that is not embedded.
    """
    before = rl_config.useA85, shapes.STATE_DEFAULTS["fontName"]
    rl_config.useA85, shapes.STATE_DEFAULTS["fontName"] = 0, SANS
    try:
        yield
    finally:
        rl_config.useA85, shapes.STATE_DEFAULTS["fontName"] = before


class _Document(BaseDocTemplate):  # type: ignore[misc]  # reportlab is untyped
    """Pages with a running footer; headings become bookmarks."""

    def __init__(
        self,
        *,
        title: str,
        footer: str,
        paper: Paper,
        total: int,
    ) -> None:
        self.footer = footer
        self.paper = paper
        self.total = total
        self.found: dict[str, int] = {}
        self.buffer = io.BytesIO()
        super().__init__(
            self.buffer,
            pagesize=(paper.width, paper.height),
            title=title,
            lang="en-US",
            initialFontName=SANS,  # else every page names a Helvetica that is not embedded
            invariant=1,
            pageCompression=1,
        )
        frame = Frame(
            paper.side,
            paper.foot,
            TEXT_WIDTH,
            paper.text_height,
            leftPadding=0,
            rightPadding=0,
            topPadding=0,
            bottomPadding=0,
        )
        self.addPageTemplates(PageTemplate(frames=[frame], onPage=self._footer))

    def render(self, story: list[Flowable]) -> bytes:
        """The pages as PDF bytes."""
        self.build(story)
        return self.buffer.getvalue()

    def _footer(self, canvas: Canvas, document: BaseDocTemplate) -> None:
        left, right = self.paper.side, self.paper.side + TEXT_WIDTH
        top = self.paper.foot - 5
        canvas.saveState()
        canvas.setStrokeColor(RULE)
        canvas.setLineWidth(0.4)
        canvas.line(left, top, right, top)
        canvas.setFont(SANS, 7)
        canvas.setFillColor(QUIET)
        canvas.drawRightString(right, top - 10, f"page {document.page} of {self.total}")
        canvas.drawString(left, top - 10, self.footer)
        canvas.restoreState()

    def afterFlowable(self, flowable: Flowable) -> None:  # noqa: N802  # reportlab's hook
        """Enter each heading into the outline and note its page."""
        if not isinstance(flowable, Heading | Bookmark):
            return
        key = f"heading-{len(self.found)}"
        self.canv.bookmarkPage(key)
        self.canv.addOutlineEntry(flowable.title, key, flowable.level, closed=True)
        self.found.setdefault(flowable.title, self.page)

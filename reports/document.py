"""The pages: sections in order, contents, running footer, outline."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator

from reportlab import rl_config
from reportlab.graphics import shapes
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    PageBreak,
    PageTemplate,
    Spacer,
)

from auditor.results import AuditResult
from reports import text
from reports.blocks import Bookmark, Heading, contents_list, paragraph, section
from reports.formatting import visible
from reports.sections import (
    appendix,
    attack,
    closing,
    curvature,
    decision,
    gallery,
    methods,
    quality,
    scope,
    smoothing,
    twins,
    verdict,
)
from reports.style import (
    MARGIN,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    QUIET,
    RULE,
    SANS,
    TEXT_HEIGHT,
    TEXT_WIDTH,
    register_fonts,
)

Section = tuple[str, Callable[[AuditResult], list[Flowable]]]

SECTIONS: tuple[Section, ...] = (
    ("Verdict", verdict.build),
    ("Scope and identity", scope.build),
    ("Threat model", scope.build_threat_model),
    ("Criteria declared before the results", scope.build_criteria),
    ("Methods", methods.build),
    ("Attack results", attack.build),
    ("Most-moved images", gallery.build),
    ("Effect of smoothing", smoothing.build),
    ("Quality of the maps", quality.build),
    ("Comparison with twins", twins.build),
    ("Curvature", curvature.build),
    ("The choice of σ", decision.build),
    ("Limitations", closing.build_limitations),
    ("Evidence towards clauses", closing.build_clauses),
    ("Parameters", closing.build_parameters),
    ("Reproduction", closing.build_reproduction),
    ("Using the recommended σ", closing.build_snippet),
    ("Sign-off", closing.build_sign_off),
    ("Appendix: image by image", appendix.build),
)
# What people turn to begins a page of its own, if there is anything to show.
_NEW_PAGE = {
    "Attack results",
    "Most-moved images",
    "The choice of σ",
    "Limitations",
    "Appendix: image by image",
}


def typeset(result: AuditResult, *, title: str) -> bytes:
    """Pages as PDF bytes, typeset twice: the first pass finds the numbers the second prints."""
    register_fonts()
    with _house_settings():
        first = _Document(result, title=title, total=0, pages={})
        first.render()
        return _Document(result, title=title, total=first.page, pages=first.found).render()


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
    """A4 pages with a running footer; headings become bookmarks."""

    def __init__(
        self, result: AuditResult, *, title: str, total: int, pages: dict[str, int]
    ) -> None:
        self.result = result
        self.total = total
        self.pages = pages
        self.found: dict[str, int] = {}
        self.buffer = io.BytesIO()
        super().__init__(
            self.buffer,
            pagesize=(PAGE_WIDTH, PAGE_HEIGHT),
            title=title,
            lang="en-US",
            initialFontName=SANS,  # else every page names a Helvetica that is not embedded
            invariant=1,
            pageCompression=1,
        )
        frame = Frame(
            MARGIN,
            MARGIN,
            TEXT_WIDTH,
            TEXT_HEIGHT,
            leftPadding=0,
            rightPadding=0,
            topPadding=0,
            bottomPadding=0,
        )
        self.addPageTemplates(PageTemplate(frames=[frame], onPage=self._footer))

    def render(self) -> bytes:
        """The pages as PDF bytes."""
        self.build(self._story())
        return self.buffer.getvalue()

    def _story(self) -> list[Flowable]:
        titles = [f"{number}. {title}" for number, (title, _) in enumerate(SECTIONS, start=1)]
        story: list[Flowable] = []
        for number, (title, build) in enumerate(SECTIONS):
            content = build(self.result)
            if number == 0:
                # page one speaks for itself: a bookmark without a numbered heading
                story += [Bookmark(titles[0]), paragraph(text.TITLE, "title")]
            elif number == 1:
                # a long page one runs on: what follows then shares its second page
                story.append(CondPageBreak(TEXT_HEIGHT / 2))
                story += contents_list([(t, self.pages.get(t, 0)) for t in titles])
                story.append(section(titles[number]))
            else:
                own_page = title in _NEW_PAGE and len(content) > 1
                story += (
                    [PageBreak()] if own_page else [CondPageBreak(TEXT_HEIGHT / 4), Spacer(1, 12)]
                )
                story.append(section(titles[number]))
            story += content
        return story

    def _footer(self, canvas: Canvas, document: BaseDocTemplate) -> None:
        canvas.saveState()
        canvas.setStrokeColor(RULE)
        canvas.setLineWidth(0.4)
        canvas.line(MARGIN, MARGIN - 5, PAGE_WIDTH - MARGIN, MARGIN - 5)
        canvas.setFont(SANS, 7)
        canvas.setFillColor(QUIET)
        right = f"page {document.page} of {self.total}"
        canvas.drawRightString(PAGE_WIDTH - MARGIN, MARGIN - 15, right)
        left = f"{text.TITLE} · model SHA-256 {visible(self.result.model.sha256)[:64]}"
        canvas.drawString(MARGIN, MARGIN - 15, left)
        canvas.restoreState()

    def afterFlowable(self, flowable: Flowable) -> None:  # noqa: N802  # reportlab's hook
        """Enter each heading into the outline and note its page."""
        if not isinstance(flowable, Heading | Bookmark):
            return
        key = f"heading-{len(self.found)}"
        self.canv.bookmarkPage(key)
        self.canv.addOutlineEntry(flowable.title, key, flowable.level, closed=True)
        self.found.setdefault(flowable.title, self.page)

"""How the report looks: fonts, paper, colors, paragraph styles."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from importlib import resources

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.enums import TA_LEFT
from reportlab.lib.pagesizes import A4, LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

TEXT_WIDTH: float = A4[0] - 36 * mm
"""Width of the text on every paper, so that tables and charts are the same on all of them."""

SANS = "ReportSans"
BOLD = "ReportSans-Bold"
MONO = "ReportMono"
_FILES = {
    SANS: "DejaVuSansCondensed.ttf",
    BOLD: "DejaVuSansCondensed-Bold.ttf",
    MONO: "DejaVuSansMono.ttf",
}

INK = HexColor("#1a1a1a")
QUIET = HexColor("#555555")
RULE = HexColor("#c8c8c8")
TINT = HexColor("#f2f2f2")
BAND = HexColor("#e4e4e4")

# Okabe and Ito's palette, told apart by every common form of color vision.
_BLUE = HexColor("#0072b2")
_VERMILLION = HexColor("#d55e00")
_GREEN = HexColor("#009e73")
_ORANGE = HexColor("#e69f00")
_PURPLE = HexColor("#a05287")

STATUS_COLORS: dict[str, Color] = {
    "good": HexColor("#00664b"),
    "bad": HexColor("#a83c00"),
    "open": HexColor("#6b5000"),
    "none": QUIET,
}


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A size of paper in points, and the margin below and above the text."""

    width: float
    height: float
    foot: float

    @property
    def side(self) -> float:
        """Margin left and right of the text."""
        return (self.width - TEXT_WIDTH) / 2

    @property
    def text_height(self) -> float:
        """Height of the text."""
        return self.height - 2 * self.foot


PAPERS = {
    "a4": Paper(width=A4[0], height=A4[1], foot=15 * mm),
    "letter": Paper(width=LETTER[0], height=LETTER[1], foot=13 * mm),
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one quantity is drawn in every chart: color, marker and dash all differ."""

    color: Color
    marker: str
    dash: tuple[float, ...] = ()
    filled: bool = True


LOOKS = {
    "strongest": Look(color=_VERMILLION, marker="circle"),
    "transfer": Look(color=_ORANGE, marker="square", dash=(5, 2)),
    "random_signs": Look(color=QUIET, marker="triangle", dash=(2, 2), filled=False),
    "self_overlap": Look(color=_BLUE, marker="diamond", dash=(7, 2, 1, 2)),
    "fidelity": Look(color=_GREEN, marker="square", filled=False),
    "stability": Look(color=_PURPLE, marker="diamond", dash=(4, 2)),
    "plain": Look(color=_BLUE, marker="circle", filled=False),
    "control": Look(color=INK, marker="cross", dash=(1, 2)),
}


@functools.cache
def register_fonts() -> None:
    """Register the shipped TrueType fonts with reportlab, once per process."""
    folder = resources.files(__package__) / "fonts"
    for name, file in _FILES.items():
        pdfmetrics.registerFont(TTFont(name, io.BytesIO((folder / file).read_bytes())))
    pdfmetrics.registerFontFamily(SANS, normal=SANS, bold=BOLD, italic=SANS, boldItalic=BOLD)
    pdfmetrics.registerFontFamily(MONO, normal=MONO, bold=MONO, italic=MONO, boldItalic=MONO)


def has_glyph(character: str, *, font: str = SANS) -> bool:
    """Whether the font can draw the character, and readers can copy it from the file.

    Beyond U+FFFF reportlab writes a mapping to Unicode that readers refuse.
    """
    register_fonts()
    code = ord(character)
    return code <= 0xFFFF and code in pdfmetrics.getFont(font).face.charToGlyph


def text_width(text: str, size: float, font: str = SANS) -> float:
    """Width of a text in points."""
    register_fonts()
    return float(pdfmetrics.stringWidth(text, font, size))


@functools.cache
def style(name: str) -> ParagraphStyle:
    """A paragraph style by name: ``body``, ``cell``, ``head``, ``h1``, ``code``, ..."""
    register_fonts()
    base = {
        "fontName": SANS,
        "bulletFontName": SANS,
        "fontSize": 9,
        "leading": 12,
        "textColor": INK,
        "alignment": TA_LEFT,
        "spaceAfter": 5,
    }
    changes: dict[str, dict[str, object]] = {
        "body": {},
        "lead": {"fontSize": 10, "leading": 13.5, "spaceAfter": 4},
        "small": {"fontSize": 7.5, "leading": 10, "textColor": QUIET},
        "caption": {"fontSize": 7.5, "leading": 9.5, "textColor": QUIET, "spaceAfter": 6},
        "note": {
            "leftIndent": 9,
            "bulletIndent": 2,
            "fontSize": 7.5,
            "leading": 9.4,
            "spaceAfter": 0.5,
        },
        "bullet": {"leftIndent": 12, "bulletIndent": 2, "spaceAfter": 2},
        "cell": {"fontSize": 7, "leading": 8.4, "spaceAfter": 0},
        "head": {"fontName": BOLD, "fontSize": 6.8, "leading": 8.2, "spaceAfter": 0},
        "tight": {"fontSize": 7, "leading": 8.4, "spaceAfter": 0},
        "small cell": {"fontSize": 6.2, "leading": 7.1, "spaceAfter": 0},
        "small head": {"fontName": BOLD, "fontSize": 6.2, "leading": 7.4, "spaceAfter": 0},
        "code": {"fontName": MONO, "fontSize": 7, "leading": 8.6, "spaceAfter": 0},
        "title": {"fontName": BOLD, "fontSize": 11, "leading": 14, "spaceAfter": 2},
        "verdict": {"fontName": BOLD, "fontSize": 24, "leading": 29, "spaceAfter": 0},
        "fact": {"fontName": BOLD, "fontSize": 11.5, "leading": 14, "spaceAfter": 0},
        "h1": {"fontName": BOLD, "fontSize": 15, "leading": 19, "spaceAfter": 6},
        "h2": {
            "fontName": BOLD,
            "fontSize": 10.5,
            "leading": 14,
            "spaceBefore": 8,
            "spaceAfter": 3,
        },
    }
    return ParagraphStyle(name, **{**base, **changes[name]})

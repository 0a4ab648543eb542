"""Numbers and foreign text as the report prints them: few digits, nothing hidden, nothing cut."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterable

from auditor.results import Estimate
from reports.style import MONO, SANS, has_glyph

NOTHING = "–"
NEGLIGIBLE = 1e-12
"""Below this a value is rounding error: maps and pixels are of the order of one."""
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Markup(str):
    """Text that is already escaped and may carry reportlab's paragraph tags."""

    __slots__ = ()


def visible(text: str, *, font: str = SANS) -> str:
    r"""Text with every character that a reader could not see replaced by its escape.

    Control and format characters (also those that reverse the direction of writing), lone
    surrogates and characters without a glyph in the font become ``\n``, ``\x07``,
    ``\u4e2d``.
    """
    return "".join(c if _printable(c, font) else c.encode("unicode_escape").decode() for c in text)


def _printable(character: str, font: str) -> bool:
    if character == " ":
        return True
    return unicodedata.category(character)[0] not in "CZ" and has_glyph(character, font=font)


def markup(text: str) -> Markup:
    """Escape plain text; text that is markup already passes unchanged."""
    return text if isinstance(text, Markup) else Markup(html.escape(visible(text), quote=False))


def code_markup(text: str) -> Markup:
    """Escape text for the monospaced font, keeping its line breaks and runs of spaces."""
    lines = (html.escape(visible(line, font=MONO), quote=False) for line in text.split("\n"))
    return Markup("<br/>".join(line.replace("  ", "\u00a0 ") for line in lines))


def join(parts: Iterable[str], separator: str = " ") -> Markup:
    """Join texts, escaping those that are plain."""
    return Markup(separator.join(markup(part) for part in parts))


def number(value: float | None, *, digits: int = 3) -> str:
    """A measured value to ``digits`` significant digits, ``–`` where there is none.

    >>> number(0.7), number(1234.5), number(1.234e-7)
    ('0.700', '1,230', '1.23×10⁻⁷')
    """
    if value is None:
        return NOTHING
    if abs(value) < NEGLIGIBLE:
        return "0"
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    exponent = int(power)
    if not -4 < exponent < 6:
        return f"{mantissa}×10{str(exponent).translate(_SUPERSCRIPT)}"
    rounded = round(value, digits - 1 - exponent)
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}"


def short(value: float | None, *, digits: int = 3) -> str:
    """A chosen value (σ, ε, a bound) to ``digits`` significant digits without trailing zeros.

    >>> short(0.05), short(8.0), short(0.1875)
    ('0.05', '8', '0.188')
    """
    text = number(value, digits=digits)
    if "." not in text or "×" in text:
        return text
    return text.rstrip("0").rstrip(".")


def count(value: int) -> str:
    """A whole number with thousands separated."""
    return f"{value:,}"


def percent(value: float) -> str:
    """A share as a whole percentage; never rounded to all or nothing when it is neither.

    >>> percent(0.714), percent(0.999), percent(1.0)
    ('71%', 'more than 99%', '100%')
    """
    if 0 < value < 0.005:
        return "less than 1%"
    if 0.995 <= value < 1:
        return "more than 99%"
    return f"{math.floor(100 * value + 0.5)}%"


def interval(estimate: Estimate) -> str:
    """The confidence interval of an estimate."""
    return f"{number(estimate.low)} to {number(estimate.high)}"


def _range(estimate: Estimate) -> str:
    """The interval as short as can be; a dash would read as a minus before a negative limit."""
    if estimate.low < 0:
        return interval(estimate)
    return f"{number(estimate.low)}–{number(estimate.high)}"


def estimate_line(estimate: Estimate | None) -> str:
    """Mean, interval and n on one line."""
    if estimate is None:
        return "not measured"
    return f"{number(estimate.mean)} ({interval(estimate)}, n = {count(estimate.n)})"


def estimate_cell(estimate: Estimate | None) -> Markup:
    """Mean with its interval in small type below, for a table."""
    if estimate is None:
        return Markup(NOTHING)
    return Markup(
        f'{number(estimate.mean)}<br/><font size="5.3" color="#555555">{_range(estimate)}</font>'
    )


def estimate_inline(estimate: Estimate | None) -> Markup:
    """Mean with its interval in small type behind it: one line of a table."""
    if estimate is None:
        return Markup(NOTHING)
    return Markup(
        f'{number(estimate.mean)} <font size="5.3" color="#555555">{_range(estimate)}</font>'
    )


def aside(text: str) -> Markup:
    """Text in small type, for what a table repeats in most of its rows."""
    return Markup(f'<font size="5.8">{markup(text)}</font>')


def plural(amount: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{count(amount)} {noun}" if amount == 1 else f"{count(amount)} {noun}s"


def seconds(value: float) -> str:
    """A duration in seconds or minutes."""
    return f"{short(value)} s" if value < 120 else f"{short(value / 60)} min"

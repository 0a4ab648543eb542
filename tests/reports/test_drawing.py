"""Numbers, charts and maps."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reports.charts import Curve, Frame, grid_chart, nice_ticks
from reports.formatting import Markup, markup, number, percent, short, visible
from reports.maps import colors, image_png, map_png, scale_top
from reports.style import LOOKS


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0"),
        (0.7, "0.700"),
        (0.9996, "1.00"),
        (12.345, "12.3"),
        (1234.5, "1,230"),
        (999_999, "1.00×10⁶"),
        (0.001234, "0.00123"),
        (1.234e-7, "1.23×10⁻⁷"),
        (-0.0456, "-0.0456"),
    ],
)
def test_number(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(8.0, "8"), (0.25, "0.25"), (100.0, "100"), (0.1875, "0.188"), (1e-9, "1.00×10⁻⁹")],
)
def test_short(value, shown):
    assert short(value) == shown


@given(st.floats(1e-3, 9e5))
def test_number_keeps_three_digits(value):
    """Half a unit of the third digit is 0.5% of the value at most."""
    written = number(value)
    digits, _, power = written.replace(",", "").partition("×10")
    assert math.isclose(float(digits) * (1e6 if power else 1), value, rel_tol=0.00501)


@given(st.floats(0, 1))
def test_percent_is_never_all_or_nothing_unless_it_is(value):
    assert (percent(value) == "100%") == (value == 1)
    assert (percent(value) == "0%") == (value == 0)


@given(st.text())
def test_visible_text_is_printable_and_markup_is_closed(text):
    shown = visible(text)
    assert shown == "" or shown.isprintable()
    assert "<" not in markup(text)
    assert markup(markup(text)) == markup(text)
    assert isinstance(markup(text), Markup)


def test_values_that_are_all_but_zero_have_an_axis():
    ticks = nice_ticks(0.0, 3e-15)
    assert ticks[0] == 0
    assert 3e-15 <= ticks[-1] < 1e-14


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_cover_the_range(low, span):
    ticks = nice_ticks(low, low + span)
    slack = 1e-6 * max(span, abs(low) * 1e-6)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 8


def test_frame_maps_its_corners():
    frame = Frame(left=10, bottom=20, width=100, height=50, x=(0, 4), y=(-1, 1))
    assert frame.at(0, -1) == (10, 20)
    assert frame.at(4, 1) == (110, 70)


@pytest.mark.parametrize("positions", [1, 2, 40])
def test_chart_of_any_grid_stays_within_its_width(positions):
    curve = Curve(
        label="a curve",
        look=LOOKS["strongest"],
        points=tuple((i, 0.5, 0.4, 0.6) for i in range(positions)),
    )
    ticks = [f"{i / 1000}" for i in range(positions)]
    chart = grid_chart(title="t", curves=[curve], ticks=ticks, x_title="σ", width=240, mark=0)
    left, bottom, right, top = chart.getBounds()
    assert left >= -1
    assert bottom >= -1
    assert right <= 241
    assert top <= 171


def test_a_band_is_within_the_axis_and_below_its_curve():
    points = tuple((float(i), 0.5, 0.5, 0.5) for i in range(3))
    wide = Curve(label="a", look=LOOKS["stability"], points=points, band=((0.1, 3.2),) * 3)
    chart = grid_chart(title="t", curves=[wide], ticks=["0", "1", "2"], x_title="σ", width=240)
    kinds = [type(shape).__name__ for shape in chart.contents]
    assert kinds.count("Polygon") == 1
    band = chart.contents[kinds.index("Polygon")]
    ticks = [s.text for g in chart.contents if type(g).__name__ == "Group" for s in g.contents
             if type(s).__name__ == "String"]  # fmt: skip
    assert "4" in ticks
    heights = band.points[1::2]
    assert max(heights) < 150
    assert heights == heights[:3] + heights[3:][::-1]
    bare = grid_chart(
        title="t", curves=[dataclasses.replace(wide, band=())], ticks="abc", x_title="σ"
    )
    assert "Polygon" not in [type(shape).__name__ for shape in bare.contents]


def test_looks_differ_without_color():
    seen = [(look.marker, look.dash, look.filled) for look in LOOKS.values()]
    assert len(set(seen)) == len(seen)


def test_color_scale_darkens_steadily_and_reads_in_gray():
    scale = colors(np.linspace(0, 1, 101)).astype(float)
    luminance = scale @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) < 0).all()
    assert luminance[0] == pytest.approx(255)
    assert luminance[-1] < 30


def test_maps_of_a_row_share_the_scale():
    before, after = np.zeros((4, 4)), np.zeros((4, 4))
    before[0, 0], after[1, 1] = 1.0, 2.0
    top = scale_top(before, after)
    pixels = [np.asarray(Image.open(io.BytesIO(map_png(m, top)))) for m in (before, after)]
    assert pixels[0].shape == (4, 4, 3)
    assert pixels[1][1, 1].sum() < pixels[0][0, 0].sum() < 3 * 255
    assert (pixels[0][2:] == 255).all()


@pytest.mark.parametrize("level", [0.0, np.nan])
def test_flat_or_broken_maps_are_drawn_white(level):
    flat = np.full((3, 5), level)
    png = map_png(flat, scale_top(np.zeros((3, 5))))
    assert (np.asarray(Image.open(io.BytesIO(png))) == 255).all()


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (4, "RGB")])
def test_images_keep_their_pixels(channels, mode):
    image = np.linspace(0, 1, channels * 6).reshape(channels, 2, 3)
    opened = Image.open(io.BytesIO(image_png(image)))
    assert (opened.mode, opened.size) == (mode, (3, 2))
    assert np.asarray(opened).ravel()[0] == 0

"""The interactive page: structure, and what it does in a headless browser from ``file:``."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape

import pytest

from reports.formatting import short
from reports.html import html
from reports.sentences import for_managers, verdict

HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def audit(make_result):
    return make_result(gallery=3, images=12, sigmas=(0.0, 0.02, 0.0675, 0.1, 0.27))


def data_of(page: str):
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text[1])


def test_one_file_the_same_each_time_that_fetches_nothing(audit):
    page = html(audit)
    assert html(audit) == page
    ours = page.partition("<script>")[0]  # what follows is plotly's own text, and ours
    assert "default-src 'none'" in ours
    assert not re.search(r'(?:src|href)="(?!data:)', ours)
    assert page.count("<script") == 3


def test_verdict_sentences_and_criteria_are_there_without_scripts(audit):
    static = unescape(html(audit).partition("<script")[0])
    assert f">{verdict(audit)}</h1>" in static
    for sentence in for_managers(audit):
        assert sentence in static
    for criterion in audit.recommendation.criteria:
        assert criterion.title in static
    assert audit.model.sha256 in static


def test_data_has_every_sigma_profile_and_image(audit):
    other = audit.recommendation
    data = data_of(html(audit, {"discovery": other}))
    assert [at["label"] for at in data["sigmas"]] == [f"σ = {short(s)}" for s in audit.sigmas]
    for at in data["sigmas"]:
        assert [p["name"] for p in at["profiles"]] == ["compliance", "discovery"]
        assert len(at["groups"]) == 3 - (at["label"] == "σ = 0" and not at["groups"][2:])
    assert data["sigmas"][data["focus"]]["profiles"][0]["status"] == "recommended"
    assert [len(image["views"]) for image in data["images"]] == [5] * 3


def test_names_from_outside_are_text(make_result):
    page = html(make_result(images=3, model_name=HOSTILE, name_prefix=HOSTILE, classes=(HOSTILE,)))
    assert "<img src=x" not in page
    assert data_of(page)["images"][0]["predicted"] == HOSTILE


def test_without_pictures_and_without_measurements(make_result):
    data = data_of(html(make_result(gallery=0, probes=(), twins=(), verdict="inconclusive")))
    assert data["images"] == []
    assert all(at["groups"] == [] for at in data["sigmas"])


@pytest.fixture(scope="module")
def browser():
    path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
    )
    if not path:
        pytest.skip("no Chromium here: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser, audit, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(html(audit, {"discovery": audit.recommendation}), encoding="utf-8")
    context = browser.new_context(offline=True)
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.goto(file.as_uri())
    opened.wait_for_selector(".main-svg")
    yield opened
    context.close()
    assert problems == []


def test_the_slider_moves_map_numbers_and_verdict(page, audit):
    def seen():
        ids = ("sigma-label", "numbers", "profiles", "caption")
        texts = [page.locator(f"#{i}").text_content() for i in ids]
        return [*texts, *(page.locator(f"#{i}").get_attribute("src") for i in ("before", "after"))]

    first = seen()
    assert first[0].startswith("σ = 0.0675 (17.2 of 255")
    assert "✓ recommended" in first[2]
    page.locator("#sigma").focus()
    page.keyboard.press("ArrowRight")
    second = seen()
    assert second[0].startswith("σ = 0.1 (")
    assert page.locator("#sigma").get_attribute("aria-valuetext").startswith("σ = 0.1, ")
    assert all(a != b for a, b in zip(first, second, strict=True))
    page.keyboard.press("ArrowLeft")
    assert seen() == first


def test_images_and_the_swipe(page):
    before = page.locator("#clean").get_attribute("alt")
    page.locator("#image").select_option(index=2)
    assert page.locator("#clean").get_attribute("alt") != before
    page.locator("#swipe").fill("20")
    clip = "getComputedStyle(document.getElementById('after')).clipPath"
    assert page.evaluate(clip) == "inset(0px 0px 0px 20%)"
    missing = "[...document.images].filter(i => !i.alt || !i.naturalWidth).length"
    assert page.evaluate(missing) == 0


def test_tables_sort_by_a_button(page):
    table = page.locator("table.sortable").last
    button = table.locator("th button").nth(3)
    cells = "t => [...t.tBodies[0].rows].map(r => r.cells[3].textContent)"
    for direction in ("ascending", "descending"):
        button.focus()
        page.keyboard.press("Enter")
        assert table.locator("th").nth(3).get_attribute("aria-sort") == direction
        values = [v for v in table.evaluate(cells) if v != "–"]
        assert values == sorted(values, key=float, reverse=direction == "descending")
    assert table.evaluate(cells)[-1] == "–"


def test_everything_that_can_be_used_has_a_name_and_fits_a_phone(page):
    unnamed = (
        "[...document.querySelectorAll('input, select, main button')].filter(e => "
        "!(e.labels && e.labels.length) && !e.ariaLabel && !e.textContent).length"
    )
    assert page.evaluate(unnamed) == 0
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

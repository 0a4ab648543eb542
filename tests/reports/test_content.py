"""What the report says: verdicts, figures, every probe or that it was not run, hostile names."""

from __future__ import annotations

import dataclasses
import io

import pikepdf
import pytest
from pypdf import PdfReader

import profiles.schema
from auditor import assemble, quality
from auditor.results import AuditResult, Estimate, FollowUp, Measurement, MethodAnswer
from reports import findings, text
from reports.formatting import markup, short
from reports.markdown import markdown
from reports.outline import SECTIONS
from reports.pdf import render
from reports.sentences import for_managers, verdict
from reports.series import counted, exclusions


def pages(result: AuditResult) -> list[str]:
    """Text of each page, white space as single blanks."""
    return read(render(result))


def read(data: bytes) -> list[str]:
    """The same of a PDF that is rendered already."""
    reader = PdfReader(io.BytesIO(data))
    return [" ".join(page.extract_text().split()) for page in reader.pages]


def squeeze(words: str) -> str:
    """Without white space: names that wrap are found wherever the lines end."""
    return "".join(words.split())


@pytest.mark.parametrize("kind", ["recommended", "no_sigma", "inconclusive"])
def test_page_one_has_verdict_sigma_sentences_criteria(make_result, kind):
    result = make_result(verdict=kind)
    first = pages(result)[0]
    answer = result.recommendation
    assert verdict(result) in first
    for sentence in for_managers(result):
        assert sentence in first
    for criterion in answer.criteria:
        assert criterion.title in first
        assert criterion.status in first
    for line in (*answer.reasons, *answer.advice):
        assert line in first
    if kind == "recommended":
        for value in (answer.sigma, answer.sigma_255, *answer.sigma_normalized):
            assert short(value) in first
    else:
        assert "Recommended:" not in first
        assert "none" in first


def test_units_behind_a_preprocessing_of_the_user_are_not_known(make_result):
    made = make_result()
    known = " ".join(pages(made))
    assert text.UNKNOWN_UNITS not in known
    result = dataclasses.replace(
        made,
        model=dataclasses.replace(made.model, mean=(), std=()),
        recommendation=dataclasses.replace(made.recommendation, sigma_normalized=()),
    )
    words = pages(result)
    assert text.UNKNOWN_UNITS in words[0]
    assert "Normalization: mean none: the model's preprocessing does it" in " ".join(words)
    assert "differentiable part of the preprocessing" in " ".join(words)
    assert "differentiable part of the preprocessing" not in known


def test_probes_say_what_they_found(make_result):
    words = " ".join(pages(make_result()))
    for found in (findings.attacked, findings.smoothed, findings.retrained, findings.curved):
        sentence = found(make_result())
        assert "n = " in sentence
        assert sentence in words
        assert found(make_result(probes=(), twins=(), gallery=0)) == ""


@pytest.mark.parametrize(
    ("morf", "words"),
    [
        (0.6, "finds pixels that the decision rests on"),
        (0.31, "do not show that the map finds the pixels that matter"),
        (0.1, "misses the pixels that the decision rests on"),
    ],
)
def test_quality_is_told_against_a_random_order(make_result, morf, words):
    made = make_result()

    def road(metric: str, mean: float, sigma: float) -> Measurement:
        found = Estimate(mean=mean, low=mean - 0.05, high=mean + 0.05, n=13, confidence=0.95)
        return Measurement(
            probe="quality",
            metric=metric,
            unit="ratio",
            values=(mean,) * 16,
            estimate=found,
            sigma=sigma,
        )

    more = (road("road_random", 0.3, 0.0), road("road_morf", morf, 0.0))
    result = dataclasses.replace(made, measurements=made.measurements + more)
    sentence = findings.explained(result)
    assert words in sentence
    assert f"{morf:.3f} (" in sentence
    assert "At σ" not in sentence
    assert findings.explained(made) == ""
    smooth = road("road_morf", 0.2, made.recommendation.sigma)
    both = dataclasses.replace(result, measurements=(*result.measurements, smooth))
    assert "At σ = 0.0675 it takes 0.200 (" in findings.explained(both)


def test_the_gradient_turned_no_faster_on_the_share_that_is_told(make_result):
    made = make_result(images=4, misclassified=0, probes=("curvature",))
    values = {
        "hessian_eigenvalue": (1.0, 1.0, 1.0, 1.0),
        "loss_gradient_drift": (2.0, 1.0, 0.5, None),
    }
    result = dataclasses.replace(
        made,
        measurements=tuple(
            dataclasses.replace(m, values=values.get(m.metric, m.values)) for m in made.measurements
        ),
    )
    assert "at ε = 2/255" in findings.curved(result)
    assert "on 67% of the images" in findings.curved(result)


def test_every_metric_that_can_be_named_has_a_title():
    """In profiles, in the registry of map quality, and wherever an audit books a figure."""
    names = {*profiles.schema.METRICS, *quality.METRICS, *assemble._UNITS}
    assert {"road_morf", "variance", "rho"} <= names
    assert names - set(text.METRICS) - {"skipped"} == set()


PROBES = ("smoothing", "attack", "twin", "control", "curvature")


@pytest.mark.parametrize("missing", PROBES)
def test_only_a_missing_probe_is_called_not_run(make_result, missing):
    words = " ".join(pages(make_result(probes=tuple(p for p in PROBES if p != missing))))
    assert [p for p in PROBES if text.NOT_RUN[p] in words] == [missing]


def test_nothing_measured_still_gives_a_report(make_result):
    bare = make_result(probes=(), gallery=0, twins=(), verdict="inconclusive", images=30)
    words = " ".join(pages(bare))
    for key in ("attack", "gallery", "smoothing", "twin", "control", "curvature", "snippet"):
        assert text.NOT_RUN[key] in words


def test_estimates_that_are_none_are_dashes(make_result):
    result = make_result(images=3)
    nothing = tuple(
        dataclasses.replace(m, estimate=None, values=(None,) * 3, excluded={"misclassified": 3})
        for m in result.measurements
    )
    words = " ".join(pages(dataclasses.replace(result, measurements=nothing)))
    assert "misclassified: 3" in words
    assert "could not be measured on these images" in words


def test_images_too_few_for_an_interval_are_counted(make_result):
    """One image has values but no interval: it is neither excluded nor missing."""
    made = make_result(images=1, misclassified=0)
    few = tuple(dataclasses.replace(m, estimate=None) for m in made.measurements)
    bare = dataclasses.replace(made, measurements=few)
    (m,) = bare.find(probe="smoothing", metric="ssim", sigma=0)
    assert (counted(m), exclusions(m)) == ("1", "too few for an interval")
    nothing = dataclasses.replace(m, values=(None,), excluded={"misclassified": 1})
    assert (counted(nothing), exclusions(nothing)) == ("0", "misclassified: 1")
    assert counted(None) == "0"


def test_halves_may_be_empty(make_result):
    result = make_result(images=1, verdict="inconclusive")
    images = dataclasses.replace(result.images, screen=(), confirm=())
    assert "0 to screen σ, 0 to confirm it" in " ".join(
        pages(dataclasses.replace(result, images=images))
    )


def test_every_setting_class_and_exclusion_is_printed(result):
    words = " ".join(pages(result))
    for setting in result.settings:
        assert f"{setting.name} {setting.value} {setting.origin}" in words
    for file, reason in result.images.unreadable:
        assert f"{file} {reason}" in words
    assert "no feasible perturbation: 2" in words
    assert squeeze(result.command) in squeeze(words)
    assert result.images.manifest_sha256 in words
    assert result.profile.sha256 in words
    for metric in ("Top-k overlap", "Spearman", "Center shift", "SSIM", "Cosine", "Relative ℓ₂"):
        assert metric in words


def test_no_number_has_more_digits_than_it_deserves(make_result):
    """Long runs of digits are hashes or counts, never a raw float."""
    awkward = make_result(sigmas=(0.0, 0.1 + 0.2, 0.15306122448979592, 1 / 3))
    for word in " ".join(pages(awkward)).split():
        fraction = word.partition(".")[2]
        assert not (fraction.isdigit() and len(fraction) > 7), word


HOSTILE = (
    "<b>&amp;</para><font color=red>",
    "x" * 3000,
    "\x00\x07\x1b[31m\u202egnp.exe",
    "图像\U0001f600 \udc80",
    "]]>\n%PDF-1.7\r\\(",
    "[bold red]name[/]",
)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_shown_whole_and_literally(make_result, name):
    result = make_result(
        images=2,
        gallery=0,
        model_name=name,
        name_prefix=name,
        twins=(name,),
        unreadable=((name, name),),
        classes=(name, "other"),
    )
    model = dataclasses.replace(result.model, architecture=name, format=name)
    result = dataclasses.replace(result, model=model, command=name, notes=(name,))
    data = render(result)
    words = squeeze("".join(read(data)))
    shown = name.encode("unicode_escape").decode() if not name.isprintable() else name
    if "图" in name:
        shown = r"\u56fe\u50cf\U0001f600\udc80"
    if name.startswith("]]>"):
        shown = r"]]>\n%PDF-1.7\r\("
    if name.startswith("x"):
        # a footer stands between the pages that such a name fills
        assert words.count("x") > 3000 * 6
    else:
        assert words.count(squeeze(shown)) >= 6
    with pikepdf.open(io.BytesIO(data)) as pdf:
        attached = pdf.attachments["audit.json"].get_file().read_bytes().decode()
    assert AuditResult.from_json(attached) == result


def test_clauses_name_sections_that_exist():
    titles = {section.title for section in SECTIONS}
    for _, _, evidence in text.CLAUSES:
        assert set(evidence.split("; ")) <= titles


def test_the_fixed_words_have_glyphs():
    """An escape in the markup would mean that the font lacks a character."""

    def strings(value: object) -> list[str]:
        if isinstance(value, str):
            return [value]
        if isinstance(value, dict):
            return [s for v in value.values() for s in strings(v)]
        if isinstance(value, tuple):
            return [s for v in value for s in strings(v)]
        return []

    found = [s for name, value in vars(text).items() if name.isupper() for s in strings(value)]
    assert len(found) > 100
    for words in found:
        assert "\\" not in markup(words), words


def test_what_was_checked_at_the_recommended_sigma_is_told(make_result):
    made = make_result()
    told = " ".join(pages(made))
    assert "not checked: of an older audit" in told
    answer = made.recommendation
    followed = dataclasses.replace(
        made,
        follow_ups=(
            FollowUp(
                sigma=answer.sigma,
                samples=111,
                samples_reason="More draws bring the error to a tenth.",
                map_error=0.1,
                planted="found",
                planted_reason="Nine of ten top pixels lie in the half that decides.",
                remeasured=111,
                gates=answer.gates,
                images=29,
            ),
        ),
    )
    told = " ".join(pages(followed))
    for words in (
        "found. Nine of ten top pixels",
        "111. More draws",
        "Gates with n = 111, on 29 images",
        "Two copies of the model learn",
    ):
        assert words in told
    assert "n=111" in squeeze(told), "the code draws as often as is recommended"
    assert "found. Nine of ten top pixels" in markdown(followed).replace("\\", "")
    none = make_result(verdict="no_sigma")
    assert "not checked: only a recommended σ is checked" in " ".join(pages(none))


def test_several_methods_are_compared(make_result):
    made = make_result()
    best = made.recommendation.options[0]
    answers = (
        MethodAnswer(
            name="simple_grad",
            verdict="recommended",
            sigma=best.sigma,
            objective=best.objective,
            gradients=32,
            chosen=True,
            reason="It meets every criterion.",
        ),
        MethodAnswer(
            name="<b>evil",
            verdict="not applicable",
            sigma=None,
            objective=None,
            gradients=None,
            chosen=False,
            reason="There is no convolution.",
        ),
    )
    answers += (dataclasses.replace(answers[0], name="other", chosen=False),)
    told = " ".join(pages(dataclasses.replace(made, methods=answers)))
    for words in ("<b>evil", "not applicable", "There is no convolution.", "It meets every"):
        assert words in told
    assert f"{2 * len(made.recommendation.options)} pairs of method and σ (2 methods)" in told

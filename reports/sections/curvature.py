"""Eigenvalues of the loss's input Hessian beside the measured drift of the loss gradient."""

from __future__ import annotations

import statistics

from reportlab.platypus import Flowable

from auditor.results import AuditResult, Measurement
from reports import findings, text
from reports.blocks import beside, bullets, lead, paragraph, table
from reports.charts import scatter_chart
from reports.formatting import NOTHING, aside, count, estimate_inline, number, plural, short
from reports.series import exclusions, one
from reports.style import LOOKS, TEXT_WIDTH

MOST_POINTS = 1000
_NEGLIGIBLE = 1e-9  # of the largest value: such points would stretch the axes to nothing

_TITLES = {
    "hessian_eigenvalue": "Largest Hessian eigenvalue λ (closed form)",
    "loss_gradient_drift": "Measured drift of the loss gradient, ‖∇L(x+δ) − ∇L(x)‖ / ‖δ‖",
    "rho": "Length of the perturbation, ρ = ‖δ‖",
    "hessian_residual": "Residual of the eigenvalue",
}


def build(result: AuditResult) -> list[Flowable]:
    """Table, scatter of measured against predicted, and what it does not say."""
    measurements = result.find(probe="curvature")
    if not measurements:
        return [paragraph(text.NOT_RUN["curvature"])]
    return [
        *lead(findings.curved(result)),
        table(
            ("Quantity", "ε", "Mean", "Median", "Largest", "n", "Excluded", "Unit"),
            [_row(m) for m in measurements],
            (3.1, 0.6, 1.9, 1.0, 1.0, 0.6, 1.2, 1.2),
            dense=True,
        ),
        beside(
            _scatter(result),
            [paragraph("What the eigenvalue is and is not:"), *bullets(text.CURVATURE_REMARKS)],
        ),
    ]


def _row(m: Measurement) -> tuple[str, ...]:
    values = [value for value in m.values if value is not None]
    return (
        _TITLES.get(m.metric, m.metric.replace("_", " ")),
        short(m.epsilon),
        estimate_inline(m.estimate),
        number(statistics.median(values)) if values else NOTHING,
        number(max(values)) if values else NOTHING,
        count(len(values)),
        aside(exclusions(m)),
        m.unit,
    )


def _scatter(result: AuditResult) -> list[Flowable]:
    predicted = one(result, probe="curvature", metric="hessian_eigenvalue")
    drifts = result.find(probe="curvature", metric="loss_gradient_drift")
    if predicted is None or not drifts:
        return []
    # the smallest perturbation is where a first-order statement has its best chance
    measured = min(drifts, key=lambda m: m.epsilon or 0.0)
    pairs = [
        (x, y)
        for x, y in zip(predicted.values, measured.values, strict=True)
        if x is not None and y is not None
    ]
    largest = max((value for pair in pairs for value in pair), default=0.0)
    shown = [pair for pair in pairs if min(pair) > _NEGLIGIBLE * largest]
    if not shown:
        return [paragraph("No image has a curvature large enough to be drawn.")]
    step = -(-len(shown) // MOST_POINTS)
    caption = (
        f"One mark per image, ε = {short(measured.epsilon)}/255. Dashed: equality; by the "
        "first-order estimate marks lie on or below it, those above show where it fails."
    )
    if len(shown) < len(pairs):
        caption += (
            f" {plural(len(pairs) - len(shown), 'image')} with a value below a billionth of the "
            "largest (confident predictions) not drawn."
        )
    if step > 1:
        caption += f" Every {step}th image is drawn."
    return [
        scatter_chart(
            title="Measured drift of the loss gradient, by λ",
            points=shown[::step],
            x_title="largest eigenvalue λ of the loss's input Hessian",
            y_title="‖∇L(x+δ) − ∇L(x)‖ / ‖δ‖",
            look=LOOKS["plain"],
            width=TEXT_WIDTH / 2 - 6,
            height=180,
        ),
        paragraph(caption, "caption"),
    ]

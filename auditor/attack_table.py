"""What an attack prints on the terminal: one table of 80 columns, and a few facts."""

from __future__ import annotations

import math

import torch
from rich.table import Table
from rich.text import Text

from auditor.attack_result import GOALS, METRICS, AttackResult
from auditor.metrics.drift import AUC_GRID, auc_over_eps, chance
from reports.formatting import visible
from reports.text import NATURAL

WIDTH = 80
FIRST = max(map(len, NATURAL.values()))
TITLES = {
    "topk_intersection": "top-{k}\noverlap",
    "center_shift": "center\nshift,\npx",
    "cosine": "cosine\nof raw\nmaps",
    "spearman": "rank\ncorr.",
    "target_cosine": "cosine\nto\ntarget",
    "region_share": "mass\nin\nregion",
}
STAGE_ROWS = {
    "attacked": "ε = {epsilon:g}: attacked",
    "eight_bits": "  in 8 bits",
    "random_signs": "  random signs",
}


def attack_table(result: AttackResult) -> Table:
    """Means over the images that kept their label, of those that were attacked.

    First what happens when nobody attacks, then for each ε the attack as found, as a file holds it,
    and its control.
    """
    sigma = f", σ = {result.sigma:g} with {result.samples} draws" if result.sigma else ""
    name = visible(result.model.name)
    ball = {"linf": "ℓ∞", "l2": "ℓ2"}[result.norm]
    table = Table(
        title=Text(f"Attack {result.attack}, {ball} ball, ε in 1/255{sigma}, against {name}"),
        title_style="bold",
        width=WIDTH,
    )
    metrics = (*([GOALS[result.attack]] if result.attack in GOALS else []), *METRICS)
    table.add_column(
        "map compared with\nthe clean image's", ratio=1, min_width=FIRST, overflow="fold"
    )
    for metric in metrics:
        table.add_column(TITLES[metric].format(k=result.k), justify="right", no_wrap=True)
    table.add_column("label\nlost", justify="right")

    def add(words: str, means: list[float | None], lost: int) -> None:
        table.add_row(Text(words), *(_number(mean) for mean in means), str(lost))

    first = result.rows[0]
    still = [first.mean("no_attack", metric) for metric in metrics]  # the same for every ε
    add("no attack", still, first.infeasible["no_attack"])
    for change in result.natural:
        means = [change.mean(metric) for metric in metrics]
        add(NATURAL[change.change], means, change.changed)
    for row in result.rows:
        table.add_section()
        for stage, words in STAGE_ROWS.items():
            means = [row.mean(stage, metric) for metric in metrics]
            add(words.format(epsilon=row.epsilon), means, row.infeasible[stage])
    return table


def transfer_table(result: AttackResult) -> Table:
    """Means over the images that kept their label, for every other explanation they move."""
    table = Table(
        title=Text(f"Found for {visible(result.explanation)}, other maps of the same 8-bit images"),
        title_style="bold",
        width=WIDTH,
    )
    table.add_column("explanation", ratio=1, overflow="fold")
    table.add_column("ε", justify="right", no_wrap=True)
    for metric in METRICS:
        table.add_column(TITLES[metric].format(k=result.k), justify="right", no_wrap=True)
    for row in result.transfer:
        first = row.epsilon is None
        if first:
            table.add_section()
        name, size = (visible(row.explanation), "no attack") if first else ("", f"{row.epsilon:g}")
        table.add_row(Text(name), size, *(_number(row.mean(metric)) for metric in METRICS))
    return table


def facts(result: AttackResult) -> list[str]:
    """What belongs beside the table, a sentence or two each."""
    _, height, width = result.model.input_shape
    lines = [_images(result)]
    if result.target != "predicted":
        lines.append(f"Explained class (--target): {result.target}.")
    if result.explanation != "simple_grad":
        lines.append(f"Explanation: {visible(result.explanation)}.")
    if result.toward:
        lines.append(f"Drawn to: {visible(result.toward)}.")
    if result.rounded_images:
        lines.append(
            f"{result.rounded_images} images were not 8-bit and were rounded before the attack, by "
            f"up to {result.largest_rounding:.2f}/255."
        )
    small = [f"{row.epsilon:g}" for row in result.rows if result.norm == "linf" and row.epsilon < 1]
    if small:
        lines.append(f"ε = {', '.join(small)}: less than one level, which 8 bits cannot hold.")
    area = area_over_epsilon(result)
    if area is not None:
        lines.append(f"Area of the overlap in 8 bits over ε = 2, 4, 8, 16: {area:.3f} (at most 3).")
    lines.append(_changes(result))
    if result.oracle is not None:
        lines += [_oracle(result), *_winners(result)]
        lines.append(
            f"Gradients per image and ε: {result.gradients:.0f} (budget {result.budget}; bringing "
            "lost labels back comes on top)."
        )
    lines.append(
        f"{result.seconds:.1f} s, {result.model_share:.0%} of it inside the model. "
        f"Unrelated maps overlap by {chance(result.k, height, width):.3f}."
    )
    return lines


def area_over_epsilon(result: AttackResult) -> float | None:
    """Mean over the images of the area of the 8-bit overlap over ε (S3), where all of it is known.

    ``None`` if not all four ε were attacked, or no image kept its label at each.
    """
    rows = {row.epsilon: row for row in result.rows if result.attacked}
    if result.norm != "linf" or not set(AUC_GRID) <= rows.keys():
        return None
    columns = {
        epsilon: torch.tensor(
            [math.nan if v is None else v for v in row.values["eight_bits"]["topk_intersection"]]
        )
        for epsilon, row in rows.items()
    }
    area = float(auc_over_eps(columns).nanmean())
    return None if math.isnan(area) else area


def _images(result: AttackResult) -> str:
    left_out = [f"{result.misclassified} misclassified" if result.labels is not None else ""]
    other = result.another_class
    left_out.append(f"{other} predicted as another class" if other else "")
    left_out.append(f"{result.no_target} without a target map" if result.no_target else "")
    words = ", ".join(word for word in left_out if word)
    return f"Images attacked: {result.attacked} of {len(result.names)}" + (
        f" ({words})." if words else "."
    )


def _changes(result: AttackResult) -> str:
    """The true pixel error, the largest of all images."""
    linf = result.norm == "linf"
    columns = [row.largest_change if linf else row.length for row in result.rows]
    known = [max((c for c in column if c is not None), default=None) for column in columns]
    sizes = ", ".join("none" if size is None else f"{size:.4g}" for size in known)
    return (
        f"{'Largest change of a value' if linf else 'Longest change'} in the files: {sizes} /255."
    )


def _oracle(result: AttackResult) -> str:
    assert result.oracle is not None
    costs = ", ".join(f"{name} {cost:.1f}" for name, cost in result.oracle.gradients.items())
    failed = "".join(f" Not usable: {n} ({why})." for n, why in result.oracle.failed.items())
    left = ", ".join(map(visible, result.oracle.kinks_left))
    kinks = f" Not smooth in the surrogate: {left}." if left else ""
    return (
        f"Oracle: {result.oracle.chosen} ({'chosen' if result.oracle.asked == 'auto' else 'asked'})"
        f"; a step takes, in gradients: {costs}.{failed}{kinks}"
    )


def _winners(result: AttackResult) -> list[str]:
    won = [winner for row in result.rows for winner in row.winner]
    return [
        f"Search {index + 1} won {won.count(index)}: {search}."
        for index, search in enumerate(result.searches)
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"

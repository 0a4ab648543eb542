"""What an attack prints on the terminal: one table of 80 columns, and a few facts."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from auditor.attack_result import GOALS, METRICS, STAGES, AttackResult
from auditor.metrics.drift import chance
from reports.formatting import visible

WIDTH = 80
TITLES = {
    "topk_intersection": "top-{k} overlap",
    "center_shift": "center shift, px",
    "cosine": "cosine of raw maps",
    "spearman": "rank correlation",
    "target_cosine": "cosine to target",
    "region_share": "mass in region",
}
HEADS = ("no attack", "attacked", "in 8 bits", "random signs")


def attack_table(result: AttackResult) -> Table:
    """Means over the attacked images, for each ε: as found, as a file holds it, and the control."""
    sigma = f", σ = {result.sigma:g} with {result.samples} draws" if result.sigma else ""
    name = visible(result.model.name)
    ball = {"linf": "ℓ∞", "l2": "ℓ2"}[result.norm]
    table = Table(
        title=Text(f"Attack {result.attack}, {ball} ball{sigma}, against {name}"),
        title_style="bold",
        width=WIDTH,
    )
    table.add_column("ε·255", justify="right")
    table.add_column("mean of", ratio=1, no_wrap=True)
    for head in HEADS:
        table.add_column(head, justify="right")
    goal = [GOALS[result.attack]] if result.attack in GOALS else []
    for row in result.rows:
        table.add_section()
        for place, metric in enumerate([*goal, *METRICS]):
            values = [_number(row.mean(stage, metric)) for stage in STAGES]
            title = TITLES[metric].format(k=result.k)
            table.add_row(f"{row.epsilon:g}" if place == 0 else "", title, *values)
        left = [str(result.attacked - row.infeasible[stage]) for stage in STAGES]
        table.add_row("", "images that count", *left, style="dim")
    return table


def facts(result: AttackResult) -> list[str]:
    """What belongs beside the table, a sentence or two each."""
    _, height, width = result.model.input_shape
    lines = [_images(result)]
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


def _images(result: AttackResult) -> str:
    left_out = [f"{result.misclassified} misclassified" if result.labels is not None else ""]
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
    return (
        f"Oracle: {result.oracle.chosen} ({'chosen' if result.oracle.asked == 'auto' else 'asked'})"
        f"; a step takes, in gradients: {costs}.{failed}"
    )


def _winners(result: AttackResult) -> list[str]:
    won = [winner for row in result.rows for winner in row.winner]
    return [
        f"Search {index + 1} won {won.count(index)}: {search}."
        for index, search in enumerate(result.searches)
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"

"""What was audited, against which attacker, and by which criteria: fixed before the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from reportlab.platypus import Flowable

from auditor.results import AuditResult, Check, ModelIdentity
from reports import text
from reports.blocks import bullets, capped, facts, paragraph, status, subsection, table
from reports.formatting import count, percent, plural, short
from reports.sentences import requirement

MOST_UNREADABLE = 40
MOST_CLASSES = 60
ABREAST = 4
"""Networks whose identities stand side by side."""


def build(result: AuditResult) -> list[Flowable]:
    """Identity of the model, its twins and the images, with the preflight."""
    members = {"Model": result.model}
    members |= {f"Twin {index}": twin for index, twin in enumerate(result.twins, start=1)}
    parts: list[Flowable] = [
        subsection("Model and twins" if result.twins else "Model"),
        *_identities(members),
        *_preflight(members),
        subsection("Images"),
        facts(_image_facts(result)),
    ]
    if result.images.unreadable:
        rows, left = capped(result.images.unreadable, MOST_UNREADABLE, "unreadable files")
        parts += [
            subsection("Unreadable files"),
            table(("File", "Reason"), rows, (3, 2)),
        ]
        if left:
            parts.append(paragraph(left, "caption"))
    if result.notes:
        parts += [subsection("Notes of the audit"), *bullets(result.notes)]
    return parts


def build_threat_model(result: AuditResult) -> list[Flowable]:
    """Aim, means and knowledge of the attacker."""
    epsilons = "Sizes tested: ε = " + ", ".join(short(e) for e in result.epsilons) + "."
    if not result.epsilons:
        epsilons = "No size was tested."
    return bullets(line.format(epsilons=epsilons) for line in text.THREAT_MODEL)


def build_criteria(result: AuditResult) -> list[Flowable]:
    """The profile as declared, with every profile tried on this run."""
    profile = result.profile
    declared = {c.name: c for c in result.recommendation.criteria}
    parts: list[Flowable] = [
        paragraph(text.DECLARED),
        facts(
            (
                ("Profile", f"{profile.title} ({profile.name})"),
                ("Purpose", profile.summary),
                ("SHA-256 of the profile", profile.sha256),
                ("Declared", profile.declared),
                ("Objective", profile.objective),
                ("Confidence level", percent(profile.confidence)),
            )
        ),
    ]
    if declared:
        rows = [(c.title, requirement(c), c.because) for c in declared.values()]
        parts.append(
            table(("Criterion", "Required", "Where the threshold comes from"), rows, (2, 1.6, 3))
        )
    parts += [
        subsection("Every profile tried on this run"),
        table(("Profile", "SHA-256", "Time"), profile.tried, (1.2, 4, 1.8)),
    ]
    return parts


def _identities(members: Mapping[str, ModelIdentity]) -> list[Flowable]:
    """A column for each network, as many as fit beside each other."""
    titles = list(members)
    parts: list[Flowable] = []
    for start in range(0, len(titles), ABREAST):
        some = titles[start : start + ABREAST]
        columns = [_model_facts(members[title]) for title in some]
        rows = [(row[0][0], *(value for _, value in row)) for row in zip(*columns, strict=True)]
        parts.append(table(("", *some), rows, (1.4, *[4.4 / len(some)] * len(some)), dense=True))
    return parts


def _model_facts(model: ModelIdentity) -> tuple[tuple[str, str], ...]:
    shape = " × ".join(str(size) for size in model.input_shape)
    own = "none: the model's preprocessing does it"
    return (
        ("Name", model.name),
        ("Format", model.format),
        ("Architecture", model.architecture),
        ("SHA-256 of parameters and buffers", model.sha256),
        ("Parameters", count(model.parameters)),
        ("Classes", count(model.classes)),
        ("Input (channels × height × width)", shape),
        ("Normalization: mean", ", ".join(short(v) for v in model.mean) or own),
        ("Normalization: standard deviation", ", ".join(short(v) for v in model.std) or own),
    )


def _preflight(members: Mapping[str, ModelIdentity]) -> list[Flowable]:
    """What was checked before; a remark that several networks share is printed once."""
    found: dict[Check, list[str]] = {}
    for title, model in members.items():
        for check in model.preflight:
            found.setdefault(check, []).append(title)
    if not found:
        return []
    rows = [
        (
            check.name,
            "all" if len(titles) == len(members) > 1 else ", ".join(titles),
            status(check.status),
            check.message,
        )
        for check, titles in found.items()
    ]
    return [
        subsection("Checks before the audit"),
        table(("Check", "Of", "Result", "Remark"), rows, (1.1, 0.8, 0.7, 4), dense=True),
    ]


def _image_facts(result: AuditResult) -> tuple[tuple[str, str], ...]:
    images = result.images
    wrong = "not known: no labels" if images.misclassified is None else count(images.misclassified)
    return (
        ("Source", images.source),
        ("Format", images.format),
        ("SHA-256 of the manifest", images.manifest_sha256),
        ("Images available", count(images.available)),
        ("Images audited", count(len(images.names))),
        ("Selection rule", images.selection),
        (
            "Halves",
            f"{count(len(images.screen))} to screen σ, {count(len(images.confirm))} to confirm it",
        ),
        ("Misclassified", wrong),
        ("Unreadable", plural(len(images.unreadable), "file")),
        ("Class balance", _balance(images.class_balance)),
        *([("Subgroups", _balance(Counter(images.subgroups)))] if images.subgroups else []),
    )


def _balance(balance: Mapping[str, int]) -> str:
    present = sorted(
        ((name, n) for name, n in balance.items() if n), key=lambda item: (-item[1], item[0])
    )
    text_of_it = ", ".join(f"{name}: {count(n)}" for name, n in present[:MOST_CLASSES])
    if len(present) > MOST_CLASSES:
        rest = present[MOST_CLASSES:]
        text_of_it += f"; {count(len(rest))} more with {plural(sum(n for _, n in rest), 'image')}"
    return text_of_it or "not known"

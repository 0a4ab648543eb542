"""Which training makes explanations stable, and at what cost: S2's and S3's question on real data.

    python experiments/hardening.py [--quick | --full] [--rows NAME,...] [--json FILE] ...

Fashion-MNIST (`make fashion-mnist`) with S2's network, trained by each recipe. Prints the layouts
of S2's Tables 1, 2 and 4 and of S3's Table 3, and a verdict on each of the papers' claims. What is
in the cache is not computed again, so the same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))

import auditor
from auditor.evaluation import Evaluator
from auditor.explanation import load_explanation
from auditor.images import ImageSet, load_images
from auditor.metrics.drift import AUC_GRID, auc_over_eps
from auditor.models import Classifier, from_network
from auditor.quality import NoiseSsim, RelativeStability, Road, sparseness
from auditor.results import Estimate
from auditor.statistics import bootstrap_estimate, paired_difference
from auditor.store import write_atomically
from auditor.training.architectures import lenet
from auditor.training.fit import Training
from auditor.training.harden import harden, prepare
from auditor.training.pgd import Pgd
from auditor.training.registry import find_recipe

Columns = dict[str, list[float | None]]

SHAPE = (1, 28, 28)
BLOCKS = {"1": "mean", "2": "median", "G": "gaussian"}
CHEAP = ("N", "noise", "NM1", "NM2", "NG")
"""Rows of which several seeds are trained."""
ATTACKED = ("N", "A", "SSR", "IG-NORM")
ORDER = (
    *("N", "A", "NM1", "M1", "NM2", "M2", "NG", "G"),
    *("identity", "random", "SSR", "noise", "IG-NORM"),
)
"""All rows, in the order in which they are printed."""
NEEDED = ("N", "A", "SSR", "M1", "NM1")
"""Rows on which every claim can be judged."""
NOT_RUN = "not run"
METRICS = {"k-in": "topk_intersection", "cor": "spearman", "cdl": "center_shift", "cosd": "cosine"}
STABILITY = ("log10_ris", "log10_ros", "log10_rrs")
console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the experiment is."""

    train: int = 15_000  # of which a fifth is held out
    epochs: int = 4
    pgd_steps: int = 7
    seeds: int = 2
    images: int = 32
    samples: int = 8
    draws: int = 50
    robust: int = 256
    attacked: int = 16
    budget: int = 400
    ig_train: int = 2_500
    left_out: tuple[str, ...] = ()


QUICK = Scale(
    train=1_000,
    pgd_steps=4,
    images=24,
    samples=5,
    draws=8,
    robust=48,
    attacked=6,
    budget=25,
    left_out=("IG-NORM", "identity", "random", "NM2", "M2"),
)
FULL = Scale(train=60_000, epochs=50, pgd_steps=40, images=1_000, samples=50, robust=1_000)


def recipes(scale: Scale) -> dict[str, str]:
    """S2's and S3's names of the networks → recipe, in the order in which they are trained."""
    attack = f"adversarial,epsilon=0.1,steps={scale.pgd_steps}"
    found = {"N": "natural", "noise": "gaussian_noise", "A": attack, "SSR": "ssr"}
    found |= {"M1": f"{attack},filter=mean", "G": f"{attack},filter=gaussian"}
    found |= {"NM1": "natural,filter=mean", "NG": "natural,filter=gaussian"}
    found |= {"NM2": "natural,filter=median", "M2": f"{attack},filter=median"}
    found |= {name: f"{attack},filter={name}" for name in ("identity", "random")}
    found |= {"IG-NORM": "ig_norm"}
    return {name: spec for name, spec in found.items() if name not in scale.left_out}


def left_out(rows: str) -> tuple[str, ...]:
    """The rows that are not asked for.

    Raises
    ------
    SystemExit
        If there is no such row, or one is missing that the claims are about.
    """
    asked = rows.split(",")
    if unknown := [name for name in asked if name not in ORDER]:
        raise SystemExit(f"--rows: no row {unknown[0]!r}. Known: {', '.join(ORDER)}.")
    if missing := [name for name in NEEDED if name not in asked]:
        raise SystemExit(f"--rows: the claims are about {', '.join(missing)}, too. Name them.")
    return tuple(name for name in ORDER if name not in asked)


def methods(scale: Scale) -> dict[str, dict[str, str]]:
    """Explanations by their names in S2 (quality) and in S3 (attacks)."""
    n = scale.samples
    path, noise = f"integrated_gradients,points={n}", f"smooth_grad,sigma=0.1,samples={n}"
    s2 = {"VG": "simple_grad", "IG": path, "SG": noise}
    s3 = {"SM": "grad_x_input", "IG": path, "SG": noise, "UG": f"uniform_grad,samples={n}"}
    return {"S2": s2, "S3": s3}


def cached(place: Path, settings: object, compute: Callable[[], Any]) -> Any:
    """What was computed with these settings before, or is now."""
    key = json.loads(json.dumps(settings))
    if place.is_file():
        kept = json.loads(place.read_text(encoding="utf-8"))
        if kept["settings"] == key:
            return kept["found"]
    found = compute()
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, json.dumps({"settings": key, "found": found}).encode())
    return found


def train(
    name: str, spec: str, images: ImageSet, *, scale: Scale, seed: int, cache: Path
) -> tuple[Classifier, float]:
    """The network of one row, and the seconds that an epoch took."""
    if name == "IG-NORM":
        images = auditor.from_arrays(
            images.batch(range(scale.ig_train)), (images.labels or ())[: scale.ig_train]
        )
    torch.manual_seed(seed)
    asked = find_recipe(spec)
    prepared = prepare(
        from_network(lenet(), input_shape=SHAPE, mean=[0.0], std=[1.0]),
        images,
        asked=asked,
        seed=seed,
    )
    folder = cache / f"{name}-{seed}-{len(images.names)}-{scale.epochs}-{scale.pgd_steps}"
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    history = harden(
        prepared,
        recipe=asked.recipe,
        training=Training(epochs=scale.epochs, batch=32),
        attack=Pgd(epsilon=0.1, steps=1),  # accuracy under attack is measured below
        seed=seed,
        folder=folder,
        watch=lambda epoch: console.print(f"  {name}, seed {seed}, epoch {epoch.number}"),
    )
    seconds = cached(
        folder / "seconds.json", {}, lambda: (time.perf_counter() - begin) / (len(history) - 1)
    )
    network = prepared.model.network
    return from_network(network, input_shape=SHAPE, mean=[0.0], std=[1.0], name=name), seconds


def accuracies(model: Classifier, x: Tensor, y: Tensor, *, attacked: int) -> dict[str, float]:
    """Benign accuracy, and accuracy under PGD of 100 steps at ε = 0.1 (S2 4.2.4), in percent."""
    attack, generator = Pgd(epsilon=0.1, steps=100), torch.Generator().manual_seed(0)
    with torch.no_grad():
        right = torch.cat([model(part).argmax(dim=1) for part in x.split(256)]) == y
    robust = attack.survivors(model, x[:attacked], y[:attacked], generator=generator)
    shares = {"benign": right, "robust": robust}
    return {name: 100 * share.double().mean().item() for name, share in shares.items()}


def quality(model: Classifier, x: Tensor, *, scale: Scale) -> dict[str, Columns]:
    """Explanation → metric → value of every image."""
    evaluator = Evaluator(model=model, batch=64)
    target, images = evaluator.logits(x).argmax(dim=1), range(len(x))
    found: dict[str, Columns] = {}
    for name, spec in methods(scale)["S2"].items():
        method = load_explanation(spec)
        maps, _ = method(evaluator, x, target, images=images, draw=0)
        stability = RelativeStability(seed=0, draws=scale.draws)
        scores = [
            sparseness(maps),
            Road(seed=0)(evaluator, maps, x, target, images=images),
            stability(evaluator, method, x, target, images=images, maps=maps),
            NoiseSsim(seed=0, draws=2)(evaluator, method, x, target, images=images, maps=maps),
        ]
        found[name] = {key: _plain(v) for score in scores for key, v in score.values.items()}
    return found


def robustness(model: Classifier, images: ImageSet, *, scale: Scale) -> dict[str, Columns]:
    """Attack and explanation → metric → area over ε of every image; at most 3 for a ratio."""
    found: dict[str, Columns] = {}
    for attack in ("topk", "manipulation"):
        for name, spec in methods(scale)["S3"].items():
            result = auditor.attack(
                model,
                images,
                attack=attack,
                epsilons=AUC_GRID,
                explain=spec,
                oracle="difference",
                budget=scale.budget * min(4, load_explanation(spec).price),
            )
            rows = {row.epsilon: row.values["eight_bits"] for row in result.rows}
            areas = {
                key: auc_over_eps({eps: _tensor(v[metric]) for eps, v in rows.items()})
                for key, metric in METRICS.items()
            }
            areas["cosd"] = 3 - areas["cosd"]  # a distance, as in S3, from the similarity
            found[f"{attack} {name}"] = {key: _plain(area) for key, area in areas.items()}
    return found


def _plain(values: Tensor) -> list[float | None]:
    return [v if v == v else None for v in values.tolist()]


def _tensor(values: Sequence[float | None]) -> Tensor:
    return torch.tensor([float("nan") if v is None else v for v in values], dtype=torch.float64)


class Findings:
    """What was measured of all networks, as differences to the naturally trained one."""

    def __init__(self, measured: dict[str, dict[str, Any]]) -> None:
        self.measured = measured

    def difference(
        self, kind: str, name: str, what: str, metric: str, *, than: str = "N", among: int = 1
    ) -> Estimate:
        """Mean over images of a network's value minus that of another, with its interval.

        ``among`` is the number of differences from which this one will be chosen: the intervals
        hold for all of them at once (Bonferroni).
        """
        one, other = (self.measured[n][kind][what][metric] for n in (name, than))
        found = paired_difference(one, other, seed=0, confidence=1 - 0.05 / among)
        assert found is not None
        return found

    def cell(self, kind: str, name: str, what: str, metric: str) -> str:
        """The difference to N; a star where the interval leaves zero out."""
        if name not in self.measured:
            return NOT_RUN
        d = self.difference(kind, name, what, metric)
        return f"{d.mean:+.3f}{'*' if d.low > 0 or d.high < 0 else ' '}"


def print_tables(f: Findings, scale: Scale) -> None:
    """The layouts of S2's Tables 1, 2 and 4, and of S3's Table 3."""
    measures = {
        "dG (up)": "gini",
        "dRIS (down)": "log10_ris",
        "dROS (down)": "log10_ros",
        "dRRS (down)": "log10_rrs",
        "dROAD (up)": "road_morf",
        "dSSIM .05 (up)": "ssim_noise_0.05",
    }
    shown = ("A", "M1", "M2", "G", "SSR", "noise", "IG-NORM")
    title = f"S2 Table 1: change against N, {scale.images} images; * interval without 0"
    table = Table(title=title)
    for head in ("", "", *shown):
        table.add_column(head, justify="right" if head else "left")
    for method in methods(scale)["S2"]:
        for title, metric in measures.items():
            cells = [f.cell("quality", name, method, metric) for name in shown]
            table.add_row(method, title, *cells)
        table.add_section()
    console.print(table)
    ablated = ("A", "M2", "identity", "random")
    table = Table("", *ablated, title="S2 Table 2: is it the filter? (VG)")
    for title, metric in measures.items():
        table.add_row(title, *(f.cell("quality", name, "VG", metric) for name in ablated))
    console.print(table)
    title = "S2 Table 4: accuracy in %; two seeds: mean (half their range)"
    table = Table("", "benign", "robust", "seconds/epoch", title=title)
    for name in ORDER:
        found = f.measured.get(name)
        if found is None:
            table.add_row(name, *[NOT_RUN] * 3)
            continue
        cells = []
        for kind in ("benign", "robust"):
            values = [a[kind] for a in found["accuracy"]]
            half = f" ({(max(values) - min(values)) / 2:.1f})" if len(values) > 1 else ""
            cells.append(f"{sum(values) / len(values):.1f}{half}")
        table.add_row(name, *cells, f"{found['seconds']:.0f}")
    console.print(table)
    columns = [f"{a} {m}" for a in ("topk", "manipulation") for m in methods(scale)["S3"]]
    table = Table(title=f"S3 Table 3: area over ε = 2, 4, 8, 16, {scale.attacked} images")
    for head in ("", "", *(c.replace("manipulation", "man.") for c in columns)):
        table.add_column(head, justify="right" if head else "left")
    for name in ATTACKED:
        if name not in f.measured:
            table.add_row(name, NOT_RUN)
            continue
        for key in METRICS:
            cells = []
            for column in columns:
                e = bootstrap_estimate(f.measured[name]["robustness"][column][key], seed=0)
                cells.append("-" if e is None else f"{e.mean:.2f}")
            table.add_row(name, key, *cells)
        table.add_section()
    console.print(table)


def verdicts(f: Findings, scale: Scale) -> list[dict[str, Any]]:
    """A record for each claim, `holds` computed from value and interval."""
    records = []

    def record(name: str, d: Estimate, holds: bool, peer: str) -> None:
        records.append(
            {
                "name": name,
                "value": d.mean,
                "unit": "difference",
                "low": d.low,
                "high": d.high,
                "n": d.n,
                "peer": peer,
                "peer_value": None,
                "ratio": None,
                "target": 0,
                "holds": holds,
            }
        )

    d = f.difference("quality", "A", "VG", "gini")
    record("adversarial training raises the Gini index (VG)", d, d.low > 0, "A - N")
    costs = {
        (method, metric): f.difference(
            "quality", "A", method, metric, among=len(STABILITY) * len(methods(scale)["S2"])
        )
        for method in methods(scale)["S2"]
        for metric in STABILITY
    }
    (method, metric), d = max(costs.items(), key=lambda item: item[1].low)
    record(f"it costs stability on some metric ({method}, {metric})", d, d.low > 0, "A - N")
    costly = [key for key, e in costs.items() if e.low > 0]
    lost = costly or [(method, metric)]
    filters = [name for name in ("M1", "M2", "G") if name in f.measured]
    back = {
        (name, *key): f.difference("quality", name, *key, than="A", among=len(filters) * len(lost))
        for name in filters
        for key in lost
    }
    (name, method, metric), d = min(back.items(), key=lambda item: item[1].high)
    restored = bool(costly) and d.high < 0
    record(f"a filter restores it ({name}, {method}, {metric})", d, restored, f"{name} - A")
    for name in ("A", "SSR"):
        d = f.difference("robustness", name, "topk SM", "k-in")
        record(f"{name} raises robustness to the top-k attack (SM)", d, d.low > 0, f"{name} - N")
    changes = [
        b["benign"] - a["benign"]
        for name in ("NM1", "NM2", "NG")
        if name in f.measured
        for a, b in zip(f.measured["N"]["accuracy"], f.measured[name]["accuracy"], strict=True)
    ]
    worst = max(changes, key=abs)
    d = Estimate(mean=worst, low=min(changes), high=max(changes), n=len(changes), confidence=0.95)
    record(
        "a filter alone keeps accuracy within 3 points", d, abs(worst) <= 3, "NM - N, seed by seed"
    )
    return records


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer images and epochs")
    size.add_argument("--full", action="store_true", help="S2's settings: days on two cores")
    parser.add_argument("--json", type=Path, help="file for the verdicts")
    parser.add_argument("--data", type=Path, default=Path("fashion-mnist"), help="IDX files")
    parser.add_argument("--cache", type=Path, default=Path("hardening-cache"))
    parser.add_argument("--rows", metavar="NAME,...", help=f"of {', '.join(ORDER)}")
    sizes = [field.name for field in dataclasses.fields(Scale) if field.name != "left_out"]
    for name in sizes:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N")
    options = parser.parse_args()
    given = {name: getattr(options, name) for name in sizes}
    given = {name: value for name, value in given.items() if value is not None}
    scale = QUICK if options.quick else FULL if options.full else Scale()
    if options.rows:
        given["left_out"] = left_out(options.rows)
    scale = dataclasses.replace(scale, **given)
    console.print(str(scale))
    torch.set_flush_denormal(True)
    files = {p: sorted(options.data.glob(f"**/{p}-images*")) for p in ("train", "t10k")}
    if not all(files.values()):
        raise SystemExit(f"{options.data}: no Fashion-MNIST here. Run `make fashion-mnist` first.")
    images = load_images(files["train"][0], input_shape=SHAPE, max_images=scale.train)
    test = load_images(files["t10k"][0], input_shape=SHAPE, max_images=2_000, seed=1)
    x, y = test.pixels, torch.tensor(test.labels)

    models, measured = {}, {}
    for name, spec in recipes(scale).items():
        seeds = range(scale.seeds if name in CHEAP else 1)
        trained = [
            train(name, spec, images, scale=scale, seed=seed, cache=options.cache) for seed in seeds
        ]
        models[name] = trained[0][0]
        measured[name] = {
            "accuracy": [
                cached(
                    options.cache / f"accuracy-{name}-{seed}.json",
                    [model.sha256(), scale.robust],
                    lambda model=model: accuracies(model, x, y, attacked=scale.robust),
                )
                for seed, (model, _) in enumerate(trained)
            ],
            "seconds": trained[0][1],
        }
    right = torch.ones(len(y), dtype=torch.bool)
    with torch.no_grad():
        for model in models.values():
            right &= model(x).argmax(dim=1) == y
    # As in S2, images that are classified right; here by all networks, so that they are paired.
    chosen = right.nonzero()[: scale.images, 0]
    shown = auditor.from_arrays(x[chosen[: scale.attacked]], y[chosen[: scale.attacked]])
    for name, model in models.items():
        if name.startswith("NM") or name == "NG":
            continue  # of these the claim is about accuracy
        console.print(f"  measuring {name}")
        key = [model.sha256(), chosen.tolist(), repr(scale)]
        measured[name]["quality"] = cached(
            options.cache / f"quality-{name}.json",
            key,
            lambda model=model: quality(model, x[chosen], scale=scale),
        )
        if name in ATTACKED:
            measured[name]["robustness"] = cached(
                options.cache / f"robustness-{name}.json",
                key,
                lambda model=model: robustness(model, shown, scale=scale),
            )
    findings = Findings(measured)
    print_tables(findings, scale)
    records = verdicts(findings, scale)
    table = Table("claim", "measured", "difference", "95% interval", "n", "holds")
    for r in records:
        interval = f"{r['low']:.3f} to {r['high']:.3f}"
        holds = "yes" if r["holds"] else "NOT HELD"
        table.add_row(r["name"], r["peer"], f"{r['value']:.3f}", interval, str(r["n"]), holds)
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

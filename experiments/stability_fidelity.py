"""S0's trade-off on real data: smoothing makes maps stable against retraining, and less faithful.

    python experiments/stability_fidelity.py [--quick] [--json FILE] [--data FOLDER] ...

Fashion-MNIST (`make fashion-mnist`) with S2's network: two networks from disjoint splits for each
of S0's three seeds and two sizes of split (DT), two from the same data with other first weights
(seed), ten networks from tenths of the data (bias and variance), and two recipes on the same data
(DR). Photographs with EfficientNet-Lite0, 1 and 2 (DA).
Prints S0's Table 1, the curves over σ, and a verdict for each of S0's claims. Networks and maps
that are in the cache are not made again, so the same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reportlab.graphics import renderPDF
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

import auditor
from auditor.attributions import SHOWN, Noise, SimpleGrad, Smoothed
from auditor.attributions.path import IntegratedGradients, SmoothIntegratedGradients
from auditor.datasets.idx import open_idx
from auditor.evaluation import Evaluator
from auditor.metrics.drift import default_k
from auditor.probes.ensemble import agreement, ensemble_probe
from auditor.records import Key, Records
from auditor.settings import sigma_grid
from auditor.statistics import bootstrap_estimate, holm, paired_difference, paired_test
from auditor.store import RunFolder
from auditor.training.architectures import lenet
from auditor.training.ensemble import Member, accuracy, check_distinct, seeded, train_member
from auditor.training.fit import Epoch, Training
from auditor.training.splits import SEEDS, check_splits, disjoint_splits
from examples.photographs import prepare
from reports.charts import Curve, grid_chart
from reports.style import LOOKS, register_fonts

METHODS = ("simple_grad", "integrated_gradients")
PARTS = ("dt", "seed", "dr", "many", "da")
SMOOTHED_AT = 0.15
"""σ of S0's Table 1 and Figure 5."""
SGD = Training(
    epochs=3, batch=64, optimizer="sgd", learning_rate=0.02, weight_decay=1e-3, schedule="cosine"
)
ADAM = dataclasses.replace(SGD, optimizer="adam", learning_rate=1e-3, weight_decay=0.0)
console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the experiment is."""

    sizes: tuple[int, int] = (30_000, 7_500)
    many: int = 6_000
    many_epochs: int = 10
    epochs: int = 3
    images: int = 128
    samples: int = 50
    points: int = 10
    photographs: int = 8
    photo_samples: int = 24
    photo_points: int = 6


QUICK = Scale(
    sizes=(2_000, 500),
    many=1_000,
    many_epochs=3,
    images=48,
    samples=16,
    points=5,
    photographs=2,
    photo_samples=6,
    photo_points=3,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ensemble:
    """Networks that differ in one respect, and the images that they explain."""

    setting: str
    name: str
    networks: Sequence[nn.Module]
    x: Tensor
    y: Tensor
    accuracies: tuple[float, ...]
    identity: str


class FashionMnist:
    """The 60,000 training and 10,000 test images, and the trained networks in the cache."""

    def __init__(self, folder: Path, cache: Path, scale: Scale) -> None:
        self.scale, self.cache = scale, cache
        pixels, labels = zip(*(_idx(folder, part) for part in ("train", "t10k")), strict=True)
        self.count = len(labels[0])
        self.pixels, self.y = torch.cat(pixels), torch.cat(labels)
        # S0 C.3: the first images of the test set in the order of this seed.
        shuffled = disjoint_splits(len(labels[1]), size=len(labels[1]), members=1, seed=SEEDS[0])[0]
        self.test = self.count + shuffled
        self.explained = self.test[: scale.images]

    def ensembles(self, parts: set[str]) -> Iterator[Ensemble]:
        """DT for every size and seed, then seed alone, then DR, then many small splits."""
        sgd = dataclasses.replace(SGD, epochs=self.scale.epochs)
        adam = dataclasses.replace(ADAM, epochs=self.scale.epochs)
        for size in self.scale.sizes if "dt" in parts else ():
            for seed in SEEDS:
                splits = disjoint_splits(self.count, size=size, members=2, seed=seed)
                yield self._train("DT", f"N = {size:,}, seed {seed}", splits, [sgd] * 2, seed)
        size = self.scale.sizes[0]
        for seed in SEEDS if "seed" in parts else ():
            (rows,) = disjoint_splits(self.count, size=size, members=1, seed=seed)
            yield self._train("seed", f"N = {size:,}, seed {seed}", [rows] * 2, [sgd] * 2, seed)
        if "dr" in parts:
            (rows,) = disjoint_splits(self.count, size=size, members=1, seed=SEEDS[0])
            without = dataclasses.replace(sgd, weight_decay=0.0)
            for name, other in (("SGD & Adam", adam), ("weight decay 0.001 & 0", without)):
                yield self._train("DR", name, [rows, rows], [sgd, other], SEEDS[0], anew=False)
        if "many" in parts:
            splits = disjoint_splits(self.count, size=self.scale.many, members=10, seed=SEEDS[0])
            longer = dataclasses.replace(sgd, epochs=self.scale.many_epochs)
            name = f"N = {self.scale.many:,}, ten members"
            yield self._train("DT", name, splits, [longer] * 10, SEEDS[0])

    def _train(
        self,
        setting: str,
        name: str,
        splits: Sequence[Tensor],
        trainings: Sequence[Training],
        seed: int,
        *,
        anew: bool = True,
    ) -> Ensemble:
        """Members from splits; with ``anew`` each has first weights of its own."""
        check_splits(splits, self.y, disjoint=setting == "DT")
        members = [
            Member(name=f"{name}, member {i}", rows=rows, seed=seed + anew * i, training=training)
            for i, (rows, training) in enumerate(zip(splits, trainings, strict=True))
        ]
        networks = [self._member(member) for member in members]
        check_distinct(networks, [member.name for member in members])
        return Ensemble(
            setting=setting,
            name=name,
            networks=networks,
            x=self.pixels[self.explained],
            y=self.y[self.explained],
            accuracies=tuple(self._accuracy(network) for network in networks),
            identity=" ".join(member.digest("fashion-mnist lenet") for member in members),
        )

    def _member(self, member: Member) -> nn.Module:
        def watch(epoch: Epoch) -> None:
            if epoch.loss is not None:
                loss, right = epoch.loss, epoch.measured["accuracy"]
                console.print(f"{member.name}: epoch {epoch.number}, {loss:.3f}, {right:.1%}")

        return train_member(
            member,
            functools.partial(seeded, lenet),
            self.pixels.__getitem__,
            self.y,
            data="fashion-mnist lenet",
            cache=self.cache / "members",
            held_out=self.test[-500:],
            watch=watch,
        ).requires_grad_(False)

    def _accuracy(self, network: nn.Module) -> float:
        return accuracy(network, self.pixels.__getitem__, self.y, self.test[:2000])


def architectures(scale: Scale) -> Iterator[Ensemble]:
    """EfficientNet-Lite0, 1 and 2 in pairs, on photographs, for the class that the first sees."""
    file = Path(__file__).parent.parent / "examples" / "efficientnet_lite.py"
    first = auditor.load_model(
        f"{file}:lite0", mean=[127 / 255], std=[128 / 255], input_size=(3, 224, 224)
    )
    others = [
        auditor.load_twin(
            f"{file}:{name},input-size={size},mean=127/255,std=128/255,name={name}", like=first
        )
        for name, size in (("lite1", 240), ("lite2", 260))
    ]
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        x = auditor.load_images(Path(folder), input_shape=first.input_shape).pixels
    x = x[: scale.photographs]
    networks = {"Lite0": first, "Lite1": others[0], "Lite2": others[1]}
    for pair in (("Lite0", "Lite1"), ("Lite0", "Lite2"), ("Lite1", "Lite2")):
        both = [networks[name] for name in pair]
        with torch.no_grad():
            target = both[0](x).argmax(dim=1)
        yield Ensemble(
            setting="DA",
            name=" & ".join(pair),
            networks=both,
            x=x,
            y=target,
            accuracies=(),
            identity=" ".join(network.sha256() for network in both),
        )


def maps(network: nn.Module, method: str, ensemble: Ensemble, sigma: float, samples: int) -> Tensor:
    """Raw maps (B, C, H, W) of one member; all members and σ share their noise."""
    large = ensemble.x.shape[-1] >= 128
    evaluator = Evaluator(model=network, batch=4 if large else 256)
    noise = Noise(seed=0, stream=SHOWN)
    if method == "simple_grad":
        made: Any = Smoothed(method=SimpleGrad(), sigma=sigma, samples=samples, noise=noise)
    elif sigma:
        made = SmoothIntegratedGradients(sigma=sigma, samples=samples, noise=noise)
    else:
        made = IntegratedGradients(points=20)
    found: Tensor = made(evaluator, ensemble.x, ensemble.y, images=range(len(ensemble.x)), draw=0)[
        0
    ]
    return found


def measure(
    ensemble: Ensemble, method: str, sigmas: Sequence[float], samples: int, folder: RunFolder
) -> Records:
    """Values per image at every σ, from the folder where they are known."""
    asked = f"{ensemble.identity} {method} {sigmas} {samples} {tuple(ensemble.x.shape)}"
    task = hashlib.sha256(asked.encode()).hexdigest()[:32]
    if not folder.done(task):
        height, width = ensemble.x.shape[2:]

        def members(sigma: float) -> Tensor:
            return torch.stack(
                [maps(network, method, ensemble, sigma, samples) for network in ensemble.networks]
            )

        plain = members(0.0)
        records: Records = {}
        for sigma in sigmas:
            shown = members(sigma) if sigma else plain
            records |= ensemble_probe(
                plain, shown, sigma=sigma, k=default_k(height, width), name="members"
            )
        folder.save(task, {key.encode(): values for key, values in records.items()})
    return {Key.decode(name): values for name, values in folder.load(task).items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """What was measured of ensembles that are one row of a table, by metric and σ.

    ``values`` (n,) are means over the ensembles (S0's three seeds) for each image, ``spread`` their
    standard deviation over the ensembles.
    """

    setting: str
    name: str
    method: str
    sigmas: tuple[float, ...]
    values: dict[tuple[str, float], np.ndarray]
    spread: dict[tuple[str, float], float]

    def at(self, metric: str, sigma: float) -> list[float | None]:
        """Values of the images at one σ, None where undefined."""
        return [float(v) if np.isfinite(v) else None for v in self.values[metric, sigma]]

    @property
    def decisive(self) -> float:
        """The σ that is nearest to S0's."""
        return min((s for s in self.sigmas if s), key=lambda s: abs(s - SMOOTHED_AT))


METRICS = (
    "stability_error", "fidelity_error", "map_norm", "variance", "ssim", "topk_iou",
)  # fmt: skip


def row(group: Sequence[Ensemble], name: str, method: str, found: Sequence[Records]) -> Row:
    """One row of a table from the records of its ensembles; normalized errors are added."""
    sigmas = tuple(
        sorted({key.sigma for records in found for key in records if key.sigma is not None})
    )
    values, spread = {}, {}
    for sigma in sigmas:
        each: dict[str, list[np.ndarray]] = {metric: [] for metric in METRICS}
        for records in found:
            for metric in METRICS:
                key = Key(probe="ensemble", metric=metric, partner="members", sigma=sigma)
                each[metric].append(records[key])
        norms = [float(np.nanmean(norm)) for norm in each["map_norm"]]
        for error in ("stability_error", "fidelity_error"):
            each[f"normalized_{error}"] = [
                value / norm for value, norm in zip(each[error], norms, strict=True)
            ]
        for metric, arrays in each.items():
            values[metric, sigma] = np.mean(arrays, axis=0)
            spread[metric, sigma] = float(
                np.std([np.nanmean(a) for a in arrays], ddof=len(arrays) > 1)
            )
    return Row(
        setting=group[0].setting, name=name, method=method, sigmas=sigmas, values=values,
        spread=spread,
    )  # fmt: skip


Record = dict[str, Any]


def record(name: str, estimate: Any, unit: str, **more: Any) -> Record:
    """An entry of the JSON file."""
    keys = ("peer", "peer_value", "ratio", "target", "holds")
    found = {"value": None, "low": None, "high": None, "n": 0}
    if estimate is not None:
        found = {
            "value": estimate.mean, "low": estimate.low, "high": estimate.high, "n": estimate.n,
        }  # fmt: skip
    return {"name": name, "unit": unit, **found, **dict.fromkeys(keys), **more}


CLAIMS: dict[str, tuple[str, str, int]] = {
    "stability error falls with σ": ("stability_error", "", -1),
    "stability error, normalized, falls with σ": ("normalized_stability_error", "", -1),
    "fidelity error grows with σ": ("fidelity_error", "", 1),
    "fidelity error, normalized, grows with σ": ("normalized_fidelity_error", "", 1),
    "smoothing raises SSIM": ("ssim", "decisive", 1),
    "smoothing raises top-k IoU": ("topk_iou", "decisive", 1),
}
"""Claim → metric, where it is compared (largest σ, or Table 1's) with the unsmoothed, and sign."""


def verdicts(rows: Sequence[Row]) -> list[Record]:
    """For each row and claim the mean change against no smoothing, its interval and verdict."""
    found = []
    for one in rows:
        for claim, (metric, where, sign) in CLAIMS.items():
            sigma = one.decisive if where else one.sigmas[-1]
            change = paired_difference(one.at(metric, sigma), one.at(metric, 0.0), seed=0)
            verdict = "inconclusive"
            if change is not None and (change.low > 0 or change.high < 0):
                verdict = "holds" if change.mean * sign > 0 else "FAILS"
            steps = [np.nanmean(one.values[metric, s]) for s in one.sigmas]
            found.append(
                record(
                    f"{one.setting} {one.name} {one.method}: {claim}",
                    change,
                    f"change at σ = {sigma:g}",
                    target=0,
                    holds=verdict == "holds",
                    verdict=verdict,
                    monotone=bool(np.all(np.diff(steps) * sign >= 0)) if not where else None,
                )
            )
    return found


def print_verdicts(found: Sequence[Record]) -> None:
    """Each claim with its change and interval in every row, and how often it holds."""
    claims: dict[str, list[Record]] = {}
    for entry in found:
        claims.setdefault(entry["name"].split(": ")[1], []).append(entry)
    for claim, entries in claims.items():
        held = sum(entry["holds"] for entry in entries)
        table = Table(
            "Row",
            "Change",
            "95% interval",
            "At σ",
            "Every step",
            "Verdict",
            title=f"{claim}: holds in {held} of {len(entries)} rows",
        )
        for entry in entries:
            value, interval = "-", "-"
            if entry["value"] is not None:
                value = f"{entry['value']:+.3g}"
                interval = f"{entry['low']:.2g} … {entry['high']:.2g}"
            steps = {True: "yes", False: "no", None: ""}[entry["monotone"]]
            sigma = entry["unit"].rpartition(" ")[2]
            row = entry["name"].split(": ")[0]
            table.add_row(row, value, interval, sigma, steps, entry["verdict"])
        console.print(table)


def print_table1(rows: Sequence[Row]) -> list[Record]:
    """S0's Table 1: SSIM and top-k IoU between members, unsmoothed and smoothed."""
    columns = (
        "Setting",
        "Method",
        "Networks",
        "SSIM",
        "smoothed",
        "p",
        "top-k IoU",
        "smoothed",
        "p",
    )
    table = Table(*columns, title="Table 1 of S0 (σ nearest 0.15; p: Wilcoxon, Holm over the rows)")
    tests = {
        metric: holm([paired_test(r.at(metric, r.decisive), r.at(metric, 0.0)) for r in rows])
        for metric in ("ssim", "topk_iou")
    }
    records = []
    for index, one in enumerate(rows):
        cells = []
        for metric, adjusted in tests.items():
            for sigma in (0.0, one.decisive):
                estimate = bootstrap_estimate(one.at(metric, sigma), seed=0, bounds=(-1, 1))
                cells.append("-" if estimate is None else f"{estimate.mean:.3f}")
                records.append(
                    record(
                        f"{one.setting} {one.name} {one.method} {metric} σ={sigma:g}",
                        estimate,
                        "ratio",
                    )
                )
            p = adjusted[index]
            cells.append("-" if p is None else f"{p:.1g}")
        table.add_row(one.setting, one.method, one.name, *cells)
    console.print(table)
    return records


def print_curves(one: Row) -> list[Record]:
    """Errors, similarity and variance over σ, ± one standard deviation over the ensembles."""
    shown = {
        "stability_error": "stability", "normalized_stability_error": "÷ norm",
        "fidelity_error": "fidelity = bias", "normalized_fidelity_error": "÷ norm",
        "variance": "variance", "ssim": "SSIM", "topk_iou": "top-k IoU",
    }  # fmt: skip
    table = Table("σ", *shown.values(), title=f"{one.setting} {one.name}, {one.method}")
    records = []
    for sigma in one.sigmas:
        cells = []
        for metric in shown:
            estimate = bootstrap_estimate(one.at(metric, sigma), seed=0)
            spread = one.spread[metric, sigma]
            band = f" ± {spread:.2g}" if spread else ""
            cells.append("-" if estimate is None else f"{estimate.mean:.3g}{band}")
            name = f"{one.setting} {one.name} {one.method} {metric} σ={sigma:g}"
            records.append(record(name, estimate, "map units", deviation=spread))
        table.add_row(f"{sigma:.3g}", *cells)
    console.print(table)
    return records


def draw(one: Row, folder: Path) -> None:
    """The stability–fidelity figure (bands: one standard deviation) beside bias and spread."""
    register_fonts()

    def curve(label: str, look: str, metric: str, *, root: bool = False) -> Curve:
        points = []
        for place, sigma in enumerate(one.sigmas):
            mean, band = float(np.nanmean(one.values[metric, sigma])), one.spread[metric, sigma]
            marks = [max(0.0, value) for value in (mean, mean - band, mean + band)]
            points.append((float(place), *(np.sqrt(marks).tolist() if root else marks)))
        return Curve(label=label, look=LOOKS[look], points=tuple(points))

    figures = {
        "stability-fidelity": (
            curve("stability error ÷ norm", "stability", "normalized_stability_error"),
            curve("fidelity error ÷ norm", "fidelity", "normalized_fidelity_error"),
        ),
        "bias-variance": (
            curve("bias", "fidelity", "fidelity_error"),
            curve("root of variance", "stability", "variance", root=True),
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for kind, curves in figures.items():
        title = f"{one.setting} {one.name}, {one.method}"
        ticks = [f"{sigma:.3g}" for sigma in one.sigmas]
        chart = grid_chart(title=title, curves=curves, ticks=ticks, x_title="σ", width=300)
        name = re.sub(r"[^0-9A-Za-z]+", "-", f"{kind} {title}")
        renderPDF.drawToFile(chart, str(folder / f"{name}.pdf"), autoSize=1)


def main() -> None:
    """Measure what is asked for, part by part, and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small splits, few images and draws")
    parser.add_argument("--json", type=Path, help="file for the records")
    parser.add_argument("--figures", type=Path, help="folder for the figures, as PDF")
    parser.add_argument("--data", type=Path, default=Path("fashion-mnist"), help="IDX files")
    parser.add_argument("--cache", type=Path, default=Path("stability-fidelity"))
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts: {', '.join(PARTS)}")
    for field in dataclasses.fields(Scale):
        if field.name != "sizes":
            flag = f"--{field.name.replace('_', '-')}"
            parser.add_argument(flag, type=int, metavar="N")
    parser.add_argument("--sizes", metavar="N,N", help="images of a split, twice")
    options = parser.parse_args()
    given = {f.name: getattr(options, f.name) for f in dataclasses.fields(Scale)}
    given = {name: value for name, value in given.items() if value is not None}
    if "sizes" in given:
        given["sizes"] = tuple(int(size) for size in given["sizes"].split(","))
    scale = dataclasses.replace(QUICK if options.quick else Scale(), **given)
    parts = set(options.only.split(","))
    if not parts <= set(PARTS):
        raise SystemExit(f"--only {options.only}: the parts are {', '.join(PARTS)}.")
    folder = RunFolder(options.cache)
    options.cache.mkdir(parents=True, exist_ok=True)
    console.print(str(scale))
    rows: list[Row] = []
    if parts - {"da"}:
        data = FashionMnist(options.data, options.cache, scale)
        sigmas = sigma_grid(scale.points, large=False)
        rows += _rows(data.ensembles(parts), sigmas, scale.samples, folder)
    if "da" in parts:
        sigmas = sigma_grid(scale.photo_points, large=True)
        rows += _rows(architectures(scale), sigmas, scale.photo_samples, folder)
    records = [entry for one in rows for entry in print_curves(one)]
    records += print_table1(rows)
    found = verdicts(rows)
    print_verdicts(found)
    for one in rows if options.figures else ():
        draw(one, options.figures)
    if options.json:
        options.json.write_text(json.dumps(records + found, indent=1), encoding="utf-8")


def _rows(
    ensembles: Iterator[Ensemble], sigmas: Sequence[float], samples: int, folder: RunFolder
) -> list[Row]:
    """Measure ensembles as they are trained; those of three seeds become one row."""
    groups: dict[tuple[str, str], list[Ensemble]] = {}
    found: dict[tuple[str, str, str], list[Records]] = {}
    for ensemble in ensembles:
        name = ensemble.name.partition(", seed")[0]
        groups.setdefault((ensemble.setting, name), []).append(ensemble)
        with torch.no_grad():
            predicted = torch.stack([net(ensemble.x).argmax(dim=1) for net in ensemble.networks])
        right = " ".join(f"{share:.1%}" for share in ensemble.accuracies)
        same = float(agreement(predicted).mean())
        console.print(
            f"{ensemble.setting} {ensemble.name}: accuracy {right or '-'}, agree {same:.1%}"
        )
        for method in METHODS:
            records = measure(ensemble, method, sigmas, samples, folder)
            found.setdefault((ensemble.setting, name, method), []).append(records)
    return [
        row(group, name, method, found[setting, name, method])
        for (setting, name), group in groups.items()
        for method in METHODS
    ]


def _idx(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Pixels (n, 1, 28, 28) in [0, 1] and classes (n,)."""
    files = sorted(folder.glob(f"**/{part}-images*"))
    if not files:
        raise SystemExit(f"{folder}: no Fashion-MNIST here. Run `make fashion-mnist` first.")
    with ExitStack() as stack:
        (found,) = open_idx(files[0], stack).parts
        rows = found.rows if isinstance(found.rows, np.ndarray) else found.rows.all()
        pixels = torch.from_numpy(rows.copy()).float()[:, None] / 255
        assert found.labels is not None
        return pixels, torch.from_numpy(found.labels.copy()).long()


if __name__ == "__main__":
    main()

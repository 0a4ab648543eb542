"""Our metrics of map quality against Quantus and pytorch-grad-cam: time, and the same numbers.

    python benchmarks/metrics.py [--quick] [--json FILE]

Both sides run in turn in this process, on one thread, with the same model, maps and number of
draws or steps. The network of the demo (S2's CNN on MNIST) and EfficientNet-Lite0 with photographs.
A peer's metric is called as its documentation shows.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from auditor.attributions import SHOWN, Noise, SimpleGrad, Smoothed
from auditor.evaluation import Evaluator
from auditor.metrics.views import magnitude
from auditor.quality import RelativeStability, Road
from benchmarks.attacks import photographs, subjects
from benchmarks.timing import Row, bounded, main, race

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import quantus
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADMostRelevantFirst
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
    from quantus.functions.perturb_func import noisy_linear_imputation

RADIUS = 0.05
EXACT = 5e-5
"""Largest difference in pixel units from a direct solution."""


def stability(quick: bool) -> list[Row]:
    """RIS, ROS and RRS of the gradient, together, against the three metrics of Quantus."""
    rows = []
    network, x, target = subjects()
    count, draws = (16, 20) if quick else (64, 50)
    rows.append(
        compare_stability(
            "RIS + ROS + RRS, digits", network, x[:count], target[:count], "8", draws, batch=64
        )
    )
    if not quick:
        large, photos, classes = photographs()
        rows.append(
            compare_stability(
                "RIS + ROS + RRS, 224²",
                large,
                photos[:2],
                classes[:2],
                hidden_layer(large),
                8,
                batch=4,
            )
        )
    return rows


def compare_stability(
    name: str, model: nn.Module, x: Tensor, target: Tensor, layer: str, draws: int, *, batch: int
) -> Row:
    """Seconds an image; ``layer`` is where Quantus looks for the representation."""
    evaluator = Evaluator(model=model, batch=batch)
    ours = RelativeStability(seed=0, draws=draws, radius=RADIUS)
    images = range(len(x))

    def explain(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        return evaluator.gradients(torch.as_tensor(inputs), torch.as_tensor(targets))[0].numpy()

    metrics = [
        getattr(quantus, kind)(
            nr_samples=draws,
            perturb_func=quantus.functions.perturb_func.batch_uniform_noise,
            perturb_func_kwargs={"lower_bound": RADIUS, "upper_bound": None},
            disable_warnings=True,
            **more,
        )
        for kind, more in (
            ("RelativeInputStability", {}),
            ("RelativeOutputStability", {}),
            ("RelativeRepresentationStability", {"layer_names": [layer]}),
        )
    ]

    def theirs() -> None:
        for metric in metrics:
            quiet(
                lambda metric=metric: metric(
                    model, x.numpy(), target.numpy(), explain_func=explain, batch_size=batch
                )
            )

    return race(
        f"{name}, {draws} draws, an image",
        lambda: ours(evaluator, SimpleGrad(), x, target, images=images),
        "Quantus",
        theirs,
        target=2.5,
        repeats=3,
        per=len(x),
    )


def hidden_layer(model: nn.Module) -> str:
    """The module that Quantus can watch before the last linear layer: named last but one."""
    names = [name for name, module in model.named_modules() if not list(module.children())]
    last = max(i for i, n in enumerate(names) if isinstance(model.get_submodule(n), nn.Linear))
    return names[last - 1]


def road(quick: bool) -> list[Row]:
    """One ROAD curve of one image at 224², imputation and model together, and imputation alone."""
    model, x, target = photographs()
    evaluator = Evaluator(model=model, batch=8)
    noise = Noise(seed=0, stream=SHOWN)
    methods = {
        "gradient": SimpleGrad(),
        "SmoothGrad": Smoothed(method=SimpleGrad(), sigma=0.1, samples=8, noise=noise),
    }
    settings, rows = Road(seed=0), []
    for number, (name, method) in enumerate(methods.items()):
        index = slice(number, number + 1)
        maps, _ = method(evaluator, x[index], target[index], images=(number,), draw=0)
        rows += compare_road(
            name, evaluator, settings, maps, x[index], target[index], repeats=2 if quick else 5
        )
    # Grad-CAM's map at 7² seen at 224²: removed pixels form large holes, the hardest systems.
    coarse = nn.functional.interpolate(
        nn.functional.adaptive_avg_pool2d(maps.abs().sum(dim=1, keepdim=True), 7),
        size=x.shape[-2:],
        mode="bilinear",
    )
    rows += compare_road(
        "a coarse map",
        evaluator,
        settings,
        coarse.expand_as(maps),
        x[index],
        target[index],
        repeats=2 if quick else 5,
    )
    return rows


def compare_road(
    name: str,
    evaluator: Evaluator,
    settings: Road,
    maps: Tensor,
    x: Tensor,
    target: Tensor,
    *,
    repeats: int,
) -> list[Row]:
    """One image: the curve against pytorch-grad-cam, its imputation against Quantus."""
    shown = magnitude(maps)
    order = shown.flatten(1).argsort(dim=1, descending=True, stable=True)
    removed = [percent * order.shape[1] // 100 for percent in settings.percents]
    goal = [ClassifierOutputSoftmaxTarget(int(target))]

    def curve_of_the_peer() -> None:
        for percent in settings.percents:
            metric = ROADMostRelevantFirst(100 - percent)
            metric(x, shown.numpy(), goal, evaluator.model, return_diff=False)

    def imputed_by_quantus() -> None:
        for count in removed:
            noisy_linear_imputation(x[0].numpy(), order[0, :count].numpy())

    def exact(count: int) -> Tensor:
        mask = torch.ones(order.shape[1]).index_fill_(0, order[0, :count], 0.0)
        return quiet(lambda: NoisyLinearImputer(noise=0)(x[0], mask.reshape(x.shape[-2:])))

    ours = Road(seed=0, noise=0).impute(x, order, images=(0,))[0]
    steps = range(0, len(removed), 3)
    worst = max(float((ours[i] - exact(removed[i])).abs().max()) for i in steps)
    return [
        race(
            f"ROAD at 224², {name}, a curve",
            lambda: settings.curve(evaluator, order, x, target, images=(0,)),
            "pytorch-grad-cam",
            lambda: quiet(curve_of_the_peer),
            target=5.0,
            repeats=repeats,
        ),
        race(
            "  its imputation alone",
            lambda: settings.impute(x, order, images=(0,)),
            "Quantus",
            lambda: quiet(imputed_by_quantus),
            target=5.0,
            repeats=repeats,
            warm=False,
        ),
        bounded(
            "  its largest difference from a direct solution",
            worst,
            "pixel values",
            peer="pytorch-grad-cam",
            target=EXACT,
            n=len(steps),
        ),
    ]


def quiet(work: Callable[[], Any]) -> Any:
    """Run without the peer's warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work()


SUITES = (stability, road)
"""Each takes --quick and returns records; they run in this order."""

if __name__ == "__main__":
    torch.set_num_threads(1)
    main(__doc__, SUITES)

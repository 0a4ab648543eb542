"""Whether the map depends on what the network has learned, layer by layer."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from auditor.attributions import Method
from auditor.attributions.noise import mix
from auditor.capabilities import EAGER
from auditor.control import randomize_modules
from auditor.evaluation import Evaluator
from auditor.metrics.drift import SSIM_WINDOW, Reference, default_k
from auditor.metrics.views import is_zero
from auditor.models import Classifier
from auditor.quality.scores import NOT_FINITE, Scores, faults
from auditor.recalibration import recalibrate_layers
from auditor.usercode import plain_errors

SIMILARITIES = ("spearman", "ssim", "topk_intersection")
VANISHED = "a map of the randomized network is zero everywhere"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What is re-initialized in one step.

    Attributes
    ----------
    name
        Of its first module.
    modules
        Names of the modules whose own parameters it holds.
    """

    name: str
    modules: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Layers:
    """A network's layers from the output backwards, or the reason why there are none to find."""

    found: tuple[Layer, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Randomization:
    """Similarity of the map to the one left after layers were re-initialized; lower is better.

    From the output backwards, one layer after the other is re-initialized and stays so
    (*cascading randomization*). ``randomized_METRIC_LAYER`` compares the maps after the step that
    ends with LAYER; METRIC is ``spearman``, ``ssim`` or ``topk_intersection``, of
    :mod:`auditor.metrics.drift`, ratios all. Values come in the order of the steps. A map that
    stays similar to the end shows the image, not what the network has learned of it. The last step
    is the floor, not 0: strides leave the same grid in all maps of an architecture (two ResNet-18
    with random weights, 64² pixels of noise: Spearman .5), and SSIM flatters sparse maps.

    Attributes
    ----------
    seed
        Of the new weights; those of one layer depend on its place from the output only.

    Notes
    -----
    A layer is a module with a weight matrix or kernel and, with it, those that hold vectors only
    and are called before the next one: normalizations, biases, scales. Layers count in the order
    of their first call. What is not called by itself belongs to the module that it is part of, so
    the last step leaves nothing of what was learned.

    The explained class stays that of the original network. Batch normalization that was
    re-initialized takes its statistics from ``calibration``, as in
    :meth:`auditor.models.Classifier.reinitialized`; that of other layers is left alone.

    References
    ----------
    Adebayo et al. 2018, *Sanity Checks for Saliency Maps*, section 3.1; S4 Figure 9.
    """

    seed: int

    def __call__(
        self,
        evaluator: Evaluator,
        method: Method,
        x: Tensor,
        target: Tensor,
        *,
        images: Sequence[int],
        calibration: Tensor,
        maps: Tensor | None = None,
        k: int | None = None,
    ) -> Scores:
        """Similarity at ``x`` (B, C, H, W) after each step; the model itself is left as it is.

        Parameters
        ----------
        calibration
            Images (n, C, H, W) in [0, 1]; n ≥ 2 if the network has batch normalization.
        maps
            The original ones, if known (draw 0).
        k
            Number of top pixels, by default :func:`auditor.metrics.drift.default_k`.

        Raises
        ------
        InputError
            If the network cannot be copied, or there are too few images to calibrate with.
        """
        layers = layers_of(evaluator, x)
        if not layers.found:
            names = [f"randomized_{metric}" for metric in SIMILARITIES]
            return Scores(values={}, units={}, unavailable=dict.fromkeys(names, layers.reason))
        if maps is None:
            maps, _ = method(evaluator, x, target, images=images, draw=0)
        with plain_errors("the network cannot be copied for randomizing its layers"):
            model = copy.deepcopy(evaluator.model)
        assert isinstance(model, nn.Module)
        changed = dataclasses.replace(evaluator, model=model)
        network = _network(model)
        clean = Reference(maps, k or default_k(*maps.shape[2:]))
        wrong = faults(maps)
        vanished, broken = (torch.zeros(len(x), dtype=torch.bool) for _ in range(2))
        done: list[nn.Module] = []
        values, unavailable = {}, {}
        for place, layer in enumerate(layers.found):
            modules = [network.get_submodule(name) for name in layer.modules]
            randomize_modules(modules, seed=mix(self.seed, place))
            done += modules
            passed = recalibrate_layers(model, done, calibration.to(evaluator.device))
            evaluator.meter.add(evaluator.probe, forwards=passed)
            moved, _ = method(changed, x, target, images=images, draw=0)
            vanished |= is_zero(moved)
            broken |= ~moved.flatten(1).isfinite().all(dim=1)
            drift = clean.drift(moved)
            for metric in SIMILARITIES:
                name = f"randomized_{metric}_{layer.name}"
                if metric == "ssim" and min(x.shape[2:]) < SSIM_WINDOW:
                    reason = f"maps are smaller than the window of SSIM, {SSIM_WINDOW} pixels."
                    unavailable[name] = reason
                else:
                    values[name] = drift[metric]
        wrong[NOT_FINITE] = wrong[NOT_FINITE] | broken
        return Scores(
            values=values,
            units=dict.fromkeys(values, "ratio"),
            undefined=wrong | {VANISHED: vanished},
            unavailable=unavailable,
        )


def layers_of(evaluator: Evaluator, x: Tensor) -> Layers:
    """The layers that the model calls on the first of the images (B, C, H, W), last one first."""
    model = evaluator.model
    if not isinstance(model, nn.Module):
        return Layers(reason="the model is a function: it has no layers to re-initialize.")
    able = getattr(model, "capabilities", EAGER)
    for ability in (able.layers, able.reinitialization):
        if not ability.able:
            return Layers(reason=ability.reason)
    network = _network(model)
    called = _calls(evaluator, network, x[:1])
    steps: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, module in network.named_modules():
        if list(module.parameters(recurse=False)):
            steps.setdefault(_place(name, called), []).append((name, module))
    if not steps:
        return Layers(reason="the network has no parameters.")
    grouped: list[list[str]] = []
    for _, members in sorted(steps.items()):
        names = [name for name, _ in members]
        if grouped and all(_holds_vectors(module) for _, module in members):
            grouped[-1] += names
        else:
            grouped.append(names)
    whole = type(network).__name__
    found = [Layer(name=names[0] or whole, modules=tuple(names)) for names in reversed(grouped)]
    return Layers(found=tuple(found))


def _network(model: nn.Module) -> nn.Module:
    """What was learned, without the preprocessing around it."""
    return model.network if isinstance(model, Classifier) else model


def _calls(evaluator: Evaluator, network: nn.Module, x: Tensor) -> dict[str, int]:
    """Name of each module that is called → its place in the order of first calls."""
    called: dict[str, int] = {"": 0}
    with ExitStack() as stack:
        for name, module in network.named_modules():

            def note(_: nn.Module, args: tuple[Any, ...], name: str = name) -> None:
                called.setdefault(name, len(called))

            stack.callback(module.register_forward_pre_hook(note).remove)
        evaluator.logits(x)
    return called


def _place(name: str, called: dict[str, int]) -> int:
    """That of the module, or of the nearest one around it that is called."""
    while name not in called:
        name = name.rpartition(".")[0]
    return called[name]


def _holds_vectors(module: nn.Module) -> bool:
    return all(p.numel() == max(p.shape, default=1) for p in module.parameters(recurse=False))

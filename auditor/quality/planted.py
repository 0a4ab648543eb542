"""Planted truth: whether the map tells which half of the picture a model looks at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from auditor.attributions import Method
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.metrics.drift import default_k
from auditor.metrics.views import magnitude
from auditor.quality.scores import NOT_FINITE, ZERO_MAP, Scores, faults, without

Block = Literal["left", "right"]
BLOCKS: tuple[Block, Block] = ("left", "right")

NO_TRUTH = "the prediction does not depend on the deciding block alone"


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Pictures of two blocks, side by side.

    Attributes
    ----------
    x
        (B, C, H, 2W), in pixel space.
    labels
        Of the left and of the right block, (B, 2), if known.
    """

    x: Tensor
    labels: Tensor | None = None

    def label(self, block: Block) -> Tensor:
        """Labels (B,) of one block.

        Raises
        ------
        InputError
            If there are none.
        """
        if self.labels is None:
            raise InputError("planted truth: training on pairs needs the labels of their images.")
        return self.labels[:, BLOCKS.index(block)]

    def swapped(self, block: Block, *, by: int) -> Tensor:
        """The pictures (B, C, H, 2W) with this block from the pair ``by`` places before."""
        left, right = self.x.chunk(2, dim=3)
        parts = (left.roll(by, 0), right) if block == "left" else (left, right.roll(by, 0))
        return torch.cat(parts, dim=3)


def side_by_side(images: Tensor, *, seed: int, labels: Tensor | None = None) -> Pairs:
    """Each of the images (B, C, H, W) on the left, another one, drawn at random, on the right.

    Every image is on the right once, so one block says nothing of the other's class, and pixels
    are the same in both.

    Raises
    ------
    InputError
        With fewer than two images.
    """
    if len(images) < 2:
        raise InputError("planted truth: a pair needs two images.")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)  # one cycle: nobody is his own partner
    both = None if labels is None else torch.stack([labels, labels[partner]], dim=1)
    return Pairs(x=torch.cat([images, images[partner]], dim=3), labels=both)


class OneBlock(nn.Module):
    """A user's classifier that is shown one block of a pair, (B, C, H, 2W): the truth is exact."""

    def __init__(self, model: Callable[[Tensor], Tensor], block: Block) -> None:
        super().__init__()
        self.model, self.block = model, block

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of the deciding block."""
        return self.model(x.chunk(2, dim=3)[BLOCKS.index(self.block)])


def trained(
    make: Callable[[], nn.Module], pairs: Pairs, *, block: Block, epochs: int, seed: int
) -> nn.Module:
    """A network that sees both blocks and has learned that one of them decides (S4 Figure 10).

    The truth is approximate, for nothing forbids the network to look at the other block;
    :class:`PlantedTruth` counts only the pictures on which its prediction does not depend on it.

    Parameters
    ----------
    make
        Makes the network: pictures (B, C, H, 2W) in [0, 1] to logits (B, classes).
    pairs
        To train on, with labels; Adam at its default rate, 64 a step.
    seed
        Of weights and order; the global random state of the CPU is left as it was.

    Raises
    ------
    InputError
        If the pairs have no labels.
    """
    pairs.label(block)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make().train()
        optimizer = torch.optim.Adam(network.parameters())
        for _ in range(epochs):
            lesson(network, optimizer, pairs, block=block, batch=64)
    return network.eval().requires_grad_(False)


def lesson(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    pairs: Pairs,
    *,
    block: Block,
    batch: int,
) -> int:
    """Train once on each of the pairs, in random order and about ``batch`` in a step.

    Returns for how many the network told the class of the deciding block before it learned it.
    """
    classes, right = pairs.label(block), 0
    device = next(network.parameters()).device
    # Of equal size, since a single picture left over would stop batch normalization.
    for rows in torch.randperm(len(pairs.x)).tensor_split(-(-len(pairs.x) // batch)):
        optimizer.zero_grad()
        wanted = classes[rows].to(device)
        with torch.enable_grad():
            logits = network(pairs.x[rows].to(device))
            loss = nn.functional.cross_entropy(logits, wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        right += int((logits.argmax(dim=1) == wanted).sum())
    return right


@dataclass(frozen=True, kw_only=True)
class PlantedTruth:
    """Share of the map inside the block that decides; higher is better, chance is 1/2.

    Two models are explained on the same pictures: in one the left block decides, in the other the
    right. ``planted_mass`` is the share of the magnitude, and ``planted_topk`` that of the k
    largest pixels, inside the deciding block, the mean of the two. A map that depends on the
    picture only gets 1/2 exactly, whatever it shows. A gradient of :class:`OneBlock` gets 1:
    nothing else reaches it. ``details`` holds the shares by model, (B, 2).

    Attributes
    ----------
    k
        Number of top pixels, by default :func:`auditor.metrics.drift.default_k`.
    swaps
        How often each block is swapped for that of another pair to see whether it decides: a
        picture counts if both models keep their prediction whenever the other block is swapped, and
        lose it at least once when the deciding one is. At most one less than there are pairs.

    References
    ----------
    S4 Figure 10: a model that relies on the image and one that relies on the caption next to it,
    shown to people, who could not tell which was which from most maps; after Kim et al. 2018.
    **Choice**: shares instead of people, and two pictures instead of picture and caption, so
    that blocks do not differ but in the model's use of them.
    """

    k: int | None = None
    swaps: int = 8

    def __call__(
        self,
        evaluators: tuple[Evaluator, Evaluator],
        method: Method,
        pairs: Pairs,
        *,
        images: Sequence[int],
    ) -> Scores:
        """Shares for each pair; ``evaluators`` of the models that look left and right."""
        truth = torch.ones(len(pairs.x), dtype=torch.bool)
        wrong = dict.fromkeys((ZERO_MAP, NOT_FINITE), ~truth)
        mass, top = [], []
        for evaluator, block in zip(evaluators, BLOCKS, strict=True):
            predicted = evaluator.logits(pairs.x).argmax(dim=1)
            truth = truth & self._decides(evaluator, pairs, block, predicted)
            maps, _ = method(evaluator, pairs.x, predicted, images=images, draw=0)
            wrong = {reason: wrong[reason] | found for reason, found in faults(maps).items()}
            shares = _shares(maps, block, self.k or default_k(*maps.shape[2:]))
            mass.append(shares[0])
            top.append(shares[1])
        wrong[NO_TRUTH] = ~truth
        details = {"planted_mass": torch.stack(mass, 1), "planted_topk": torch.stack(top, 1)}
        values = {name: without(v.mean(dim=1), *wrong.values()) for name, v in details.items()}
        units = dict.fromkeys(values, "ratio")
        by_model = {f"{name}_by_model": value for name, value in details.items()}
        return Scores(values=values, units=units, undefined=wrong, details=by_model)

    def _decides(
        self, evaluator: Evaluator, pairs: Pairs, block: Block, predicted: Tensor
    ) -> Tensor:
        """On which pictures (B,) the prediction depends on this block and on nothing else."""
        other: Block = "right" if block == "left" else "left"
        kept = torch.ones(len(predicted), dtype=torch.bool)
        lost = torch.zeros_like(kept)
        for by in range(1, min(self.swaps, len(predicted) - 1) + 1):
            kept &= evaluator.logits(pairs.swapped(other, by=by)).argmax(dim=1) == predicted
            lost |= evaluator.logits(pairs.swapped(block, by=by)).argmax(dim=1) != predicted
        return kept & lost


def _shares(maps: Tensor, block: Block, k: int) -> tuple[Tensor, Tensor]:
    """Share of the mass and of the k largest pixels of maps (B, C, H, 2W) inside the block."""
    sizes = magnitude(maps)
    width = sizes.shape[2] // 2
    inside = torch.zeros(sizes.shape[1:], dtype=torch.bool)
    inside[:, :width] = block == "left"
    inside[:, width:] = block == "right"
    flat, here = sizes.flatten(1), inside.flatten()
    top = flat.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return flat[:, here].sum(dim=1) / flat.sum(dim=1), here[top].double().mean(dim=1)

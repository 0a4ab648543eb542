"""Nine metrics of the drift between a clean map and a moved one.

Every function takes raw maps of shape (B, C, H, W) and returns a float64 value for each image,
shape (B,). Metrics are computed on the magnitude unless the docstring names another view.

NaN means *undefined*: the caller counts the image as excluded. A metric is undefined where a map
holds a value that is not finite, and, except for `l2`, where it would need a ranking, a center, a
direction or a picture of an all-zero map. A clean map that an attack turns into zeros is
therefore excluded by all but `l2` and `relative_l2`, which still show it.

Ties in a ranking of the top k go to the lower index (row by row), in both maps alike: two maps
with fewer than k pixels above zero share the zero pixels that fill up their top k.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from auditor.errors import InputError
from auditor.metrics.views import is_zero, magnitude, visual

UNITS: Mapping[str, str] = MappingProxyType(
    {
        "topk_intersection": "ratio",
        "topk_mass": "ratio",
        "topk_iou": "ratio",
        "spearman": "ratio",
        "center_shift": "pixels",
        "cosine_distance": "ratio",
        "ssim": "ratio",
        "l2": "map units",
        "relative_l2": "ratio",
    }
)
"""Unit of each metric."""

RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    dict.fromkeys(("topk_intersection", "topk_mass", "topk_iou"), (0.0, 1.0))
    | dict.fromkeys(("spearman", "ssim"), (-1.0, 1.0))
    | {"cosine_distance": (0.0, 2.0)}
)
"""Smallest and largest possible value of the metrics that are bounded for every map size."""

AUC_GRID = (2, 4, 8, 16)
SSIM_WINDOW = 11  # pixels: scikit-image's Gaussian window at sigma 1.5
SSIM_SETTINGS = MappingProxyType(
    {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
)


@dataclass(frozen=True, eq=False)
class _Views:
    """A batch of raw maps with the views that several metrics share, each computed once."""

    raw: Tensor

    @cached_property
    def magnitude(self) -> Tensor:
        return magnitude(self.raw)

    @cached_property
    def flat(self) -> Tensor:
        return self.magnitude.flatten(1)

    @cached_property
    def finite(self) -> Tensor:
        return torch.isfinite(self.flat).all(dim=1)

    @cached_property
    def shown(self) -> Tensor:
        """Whether there is anything in the map to rank, locate or look at, (B,) bool."""
        return self.finite & ~is_zero(self.flat)

    @cached_property
    def descending(self) -> tuple[Tensor, Tensor]:
        """Negated magnitudes in ascending order and their pixels; ties by lower index."""
        return (-self.flat).sort(dim=1, stable=True)

    def top(self, k: int) -> Tensor:
        """Which pixels are among the k largest, (B, H·W) bool."""
        size = self.flat.shape[1]
        if not 1 <= k <= size:
            raise InputError(f"k = {k}: must lie between 1 and the {size} pixels of a map.")
        members = torch.zeros_like(self.flat, dtype=torch.bool)
        return members.scatter_(1, self.descending[1][:, :k], True)

    @cached_property
    def ranks(self) -> Tensor:
        """Ranks from the largest value down, ties averaged, minus their mean."""
        ordered = self.descending[0]
        values = (-self.flat).contiguous()
        first = torch.searchsorted(ordered, values)
        last = torch.searchsorted(ordered, values, right=True)
        return (first + last - self.flat.shape[1]).double() / 2

    @cached_property
    def center(self) -> Tensor:
        """Center of mass (row, column) in pixels, (B, 2)."""
        height, width = self.magnitude.shape[1:]
        rows = torch.arange(height, dtype=torch.float64, device=self.raw.device)
        columns = torch.arange(width, dtype=torch.float64, device=self.raw.device)
        mass = self.magnitude / self.flat.sum(dim=1)[:, None, None]
        return torch.stack([mass.sum(2) @ rows, mass.sum(1) @ columns], dim=1)

    @cached_property
    def norm(self) -> Tensor:
        return self.raw.double().flatten(1).square().sum(dim=1).sqrt()

    @cached_property
    def visual(self) -> Tensor:
        """Visual view, zeros where nothing is shown."""
        return visual(self.magnitude.where(self.shown[:, None, None], 0.0))


def _defined(value: Tensor, *conditions: Tensor) -> Tensor:
    """NaN wherever a condition does not hold."""
    for condition in conditions:
        value = value.where(condition, math.nan)
    return value


def _pair(a: Tensor, b: Tensor) -> tuple[_Views, _Views]:
    if a.shape != b.shape:
        raise ValueError(f"maps of shapes {tuple(a.shape)} and {tuple(b.shape)} do not compare")
    return _Views(a), _Views(b)


def _intersection(x: _Views, y: _Views, k: int) -> Tensor:
    shared = (x.top(k) & y.top(k)).sum(dim=1).double()
    return _defined(shared / k, x.shown, y.shown)


def _mass(x: _Views, y: _Views, k: int) -> Tensor:
    inside = (y.flat * x.top(k)).sum(dim=1)
    return _defined(inside / y.flat.sum(dim=1), x.shown, y.shown)


def _iou(x: _Views, y: _Views, k: int) -> Tensor:
    shared = _intersection(x, y, k)
    return shared / (2 - shared)


def _spearman(x: _Views, y: _Views) -> Tensor:
    scale = (x.ranks.square().sum(dim=1) * y.ranks.square().sum(dim=1)).sqrt()
    correlation = (x.ranks * y.ranks).sum(dim=1) / scale
    return _defined(correlation.clamp(-1, 1), x.shown, y.shown, scale > 0)


def _center_shift(x: _Views, y: _Views) -> Tensor:
    return _defined((x.center - y.center).norm(dim=1), x.shown, y.shown)


def _cosine_distance(x: _Views, y: _Views) -> Tensor:
    product = (x.raw.double() * y.raw).flatten(1).sum(dim=1)
    distance = 1 - product / (x.norm * y.norm)
    return _defined(distance.clamp(0, 2), x.shown, y.shown)


def _ssim(x: _Views, y: _Views) -> Tensor:
    if min(x.magnitude.shape[1:]) < SSIM_WINDOW:
        return torch.full_like(x.norm, math.nan)
    # One pair at a time: scikit-image is the definition, and fast enough beside the sorting.
    pictures = zip(x.visual.cpu().numpy(), y.visual.cpu().numpy(), strict=True)
    values = [structural_similarity(*pair, **SSIM_SETTINGS) for pair in pictures]
    return _defined(x.norm.new_tensor(values).clamp(-1, 1), x.shown, y.shown)


def _l2(x: _Views, y: _Views) -> Tensor:
    distance = (x.raw.double() - y.raw).flatten(1).norm(dim=1)
    return _defined(distance, x.finite, y.finite)


def _relative_l2(x: _Views, y: _Views) -> Tensor:
    return _defined(_l2(x, y) / x.norm, x.shown)


def topk_intersection(a: Tensor, b: Tensor, k: int) -> Tensor:
    """Share of the k largest pixels of `a` that are among the k largest of `b`.

    A ratio in [0, 1]; unrelated maps reach :func:`chance` on average. S3's text sums b's mass
    over K(a) instead (see :func:`topk_mass`); its tables fit this fraction. Raises
    :class:`InputError` unless 1 ≤ k ≤ H·W.
    """
    return _intersection(*_pair(a, b), k)


def topk_mass(a: Tensor, b: Tensor, k: int) -> Tensor:
    """Share of b's mass that lies on the k largest pixels of `a`: Σ_{i∈K(a)} b_i / Σb (S3's text).

    A ratio in [0, 1], not symmetric, and below 1 even for equal maps.
    """
    return _mass(*_pair(a, b), k)


def topk_iou(a: Tensor, b: Tensor, k: int) -> Tensor:
    """Intersection over union of the sets of the k largest pixels (S0); a ratio in [0, 1]."""
    return _iou(*_pair(a, b), k)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Rank correlation over pixels, ties averaged.

    A ratio in [−1, 1]; undefined also for a constant map.
    """
    return _spearman(*_pair(a, b))


def center_shift(a: Tensor, b: Tensor) -> Tensor:
    """Distance ‖C(a) − C(b)‖₂ between the centers of mass, in pixels, never truncated.

    S3's text prints Σ|zᵢ − z′ᵢ| and its code truncates C to integers; this is the exact distance.
    """
    return _center_shift(*_pair(a, b))


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """One minus the cosine of the angle between the raw maps; a ratio in [0, 2]."""
    return _cosine_distance(*_pair(a, b))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of the visual views (S0 C.3), by scikit-image.

    A ratio in [−1, 1]. Gaussian window with sigma 1.5, population covariance, data range 1.
    Not applicable to maps smaller than the window of 11 pixels: NaN for every image. It flatters
    sparse maps: two disjoint one-pixel maps of 28² score 0.7 to 1.0, by position.
    """
    return _ssim(*_pair(a, b))


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Distance ‖a − b‖₂ between the raw maps, in map units; defined for all-zero maps too."""
    return _l2(*_pair(a, b))


def relative_l2(a: Tensor, b: Tensor) -> Tensor:
    """Distance ‖a − b‖₂ / ‖a‖₂ between the raw maps, a ratio; undefined where `a` is all zero."""
    return _relative_l2(*_pair(a, b))


@dataclass(frozen=True, eq=False)
class Reference:
    """Clean maps whose ranks, centers and pictures are computed once for many comparisons.

    Attributes
    ----------
    clean_raw
        Raw maps, shape (B, C, H, W). They must not be changed in place afterwards.
    k
        Number of top pixels.
    k_iou
        Number of top pixels of `topk_iou`; by default :func:`iou_k` beside the default `k`, and
        `k` itself beside any other.
    """

    clean_raw: Tensor
    k: int
    k_iou: int | None = None

    @cached_property
    def _views(self) -> _Views:
        return _Views(self.clean_raw)

    def drift(self, moved_raw: Tensor) -> dict[str, Tensor]:
        """All nine metrics between the clean maps and `moved_raw`, each float64 of shape (B,).

        The keys and their order are those of `UNITS`. Raises ``ValueError`` if the shapes differ
        and :class:`InputError` if k is out of range.
        """
        _, y = _pair(self.clean_raw, moved_raw)
        x, k = self._views, self.k
        height, width = x.magnitude.shape[1:]
        usual = iou_k(height, width) if k == default_k(height, width) else k
        return {
            "topk_intersection": _intersection(x, y, k),
            "topk_mass": _mass(x, y, k),
            "topk_iou": _iou(x, y, usual if self.k_iou is None else self.k_iou),
            "spearman": _spearman(x, y),
            "center_shift": _center_shift(x, y),
            "cosine_distance": _cosine_distance(x, y),
            "ssim": _ssim(x, y),
            "l2": _l2(x, y),
            "relative_l2": _relative_l2(x, y),
        }


def drift(clean_raw: Tensor, moved_raw: Tensor, *, k: int) -> dict[str, Tensor]:
    """All nine metrics between two batches of raw maps; see :meth:`Reference.drift`."""
    return Reference(clean_raw, k).drift(moved_raw)


def default_k(height: int, width: int) -> int:
    """Usual number of top pixels: 20 up to 32², 80 at 64², 1000 at 224² (S3), else 2% of all.

    Never more than the map has pixels.
    """
    pixels = height * width
    if pixels <= 32 * 32:
        return min(20, pixels)
    usual = {(64, 64): 80, (224, 224): 1000}
    return usual.get((height, width), max(1, round(0.02 * pixels)))


def iou_k(height: int, width: int) -> int:
    """Usual number of top pixels of `topk_iou`: 500 at 224² (S0), else :func:`default_k`."""
    return 500 if (height, width) == (224, 224) else default_k(height, width)


def chance(k: int, height: int, width: int) -> float:
    """Mean of `topk_intersection` and `topk_mass` for unrelated maps, k/(H·W), a ratio.

    For `topk_iou` the corresponding level is c/(2 − c) with c this value.
    """
    return k / (height * width)


def auc_over_eps(values_by_eps: Mapping[float, Tensor]) -> Tensor:
    """Area under a metric over ε = 2, 4, 8, 16 (/255) by the trapezoid rule with unit spacing (S3).

    Parameters
    ----------
    values_by_eps
        ε in 1/255 units → values of the metric, each of shape (B,). Other ε are left out.

    Returns
    -------
    Tensor
        float64, shape (B,); at most 3 for a ratio in [0, 1]. NaN where any of the four is.

    Raises
    ------
    ValueError
        If one of the four ε is missing.
    """
    missing = [eps for eps in AUC_GRID if eps not in values_by_eps]
    if missing:
        raise ValueError(f"the area over ε needs ε = 2, 4, 8 and 16, missing {missing}")
    return torch.trapezoid(torch.stack([values_by_eps[eps].double() for eps in AUC_GRID]), dim=0)

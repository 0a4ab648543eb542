"""The manipulation objective: make the map look like a target map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from attacks.clean import Clean, defined, magnitude, raw, shares


def as_target_map(picture: Tensor) -> Tensor:
    """A picture, a mask or another image's magnitude as a target map of sum 1.

    ``picture`` is (H, W), or (B, H, W) for one target for each image, of any type; the result has
    the same shape, float32 unless the picture has a floating type.

    Raises
    ------
    ValueError
        If the shape is another one, or a map is empty, not finite, negative somewhere or zero.
    """
    if picture.dim() not in (2, 3):
        raise ValueError(f"a target map has shape (H, W), not {tuple(picture.shape)}.")
    if not picture.numel():
        raise ValueError("the target map has no pixel.")
    values = picture if picture.is_floating_point() else picture.float()
    if not values.isfinite().all():
        raise ValueError("the target map holds values that are not finite.")
    if (values < 0).any():
        raise ValueError("the target map holds negative values.")
    largest = values.amax(dim=(-2, -1), keepdim=True)
    if (largest == 0).any():
        raise ValueError("the target map is zero everywhere.")
    values = values / largest  # first, so that the sum of very large or small values is finite
    return values / values.sum(dim=(-2, -1), keepdim=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class Manipulation:
    """Pull the map m, normalized to sum 1, towards a target map t.

    Source: math section 3, after Dombrowski 2019 (arXiv 1906.07983).

    Attributes
    ----------
    target
        Target (B, H, W) of each image, or (1, H, W) for all, as `as_target_map` returns it.
    proxy
        ``"cosine"`` minimizes 1 − ⟨m, t⟩/‖m‖‖t‖, ``"mse"`` the published mean of (mᵢ − tᵢ)².

    Notes
    -----
    The published loss w₁·MSE(m, t) + w₂·MSE(p, p_clean), w = 1e11 and 1e6, adds a second term that
    holds the output in place. Here the search keeps the label, so that the term is left out: what
    is asked is that the prediction stays, not that its probabilities do.
    """

    target: Tensor
    proxy: Literal["cosine", "mse"] = "cosine"

    lowest: ClassVar[float] = -1.0

    def gradient(self, maps: Tensor, clean: Clean) -> Tensor:
        """Derivative (B, C, H, W) of the proxy by the raw map, times Σm.

        Only its direction is used, and without the factor 1/Σm nothing overflows.

        Raises
        ------
        ValueError
            If the target has another shape than the maps, or an image has none.
        """
        m = shares(magnitude(maps))
        t = clean.own(self.target).to(m.dtype)
        if self.proxy == "mse":
            by_share = 2 * (m - t) / m.shape[1]
            return raw(by_share - (by_share * m).sum(dim=1, keepdim=True), maps)
        t = t / t.norm(dim=1, keepdim=True)
        size = m.norm(dim=1, keepdim=True).clamp_min(torch.finfo(m.dtype).tiny)
        m = m / size
        return raw(((m * t).sum(dim=1, keepdim=True) * m - t) / size, maps)

    def score(self, maps: Tensor, clean: Clean) -> Tensor:
        """Minus the cosine (B,) of magnitude and target, a ratio in [−1, 0].

        Raises
        ------
        ValueError
            As `gradient`.
        """
        m, t = shares(magnitude(maps).double()), clean.own(self.target).double()
        cosine = (m * t).sum(dim=1) / (m.norm(dim=1) * t.norm(dim=1))
        return defined(-cosine, maps)

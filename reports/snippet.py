"""The few lines that make, with captum, the smoothed map that was audited."""

from __future__ import annotations

from collections.abc import Sequence

_MAP = '''\
import torch
from captum.attr import NoiseTunnel, Saliency


def smoothed_map(model, x, target):
    """SmoothGrad of images x (N, C, H, W), pixels in [0, 1], for class target."""
    return NoiseTunnel(Saliency(model)).attribute(
        x.detach().clone().requires_grad_(),
        nt_type="smoothgrad",
        nt_samples={samples},
        nt_samples_batch_size={batch},  # noisy copies per image at a time; lower saves memory
        stdevs={sigma},  # in pixel units [0, 1]
        target=target,
        abs=False,  # signed gradients, as audited
    )
'''

_NORMALIZE = '''

class FromPixels(torch.nn.Module):
    """A network that expects normalized images, wrapped to take pixels in [0, 1]."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor({mean}).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor({std}).view(-1, 1, 1))

    def forward(self, x):
        return self.network((x - self.mean) / self.std)
'''

_INSIDE = """

# Before the network, model has to apply the differentiable part of the preprocessing (setting
# preprocess in this report) to x.
"""


_OWN = '''\
import torch


def smoothed_map(explain, model, x, target):
    """Mean map of images x (N, C, H, W), pixels in [0, 1], under noise.

    explain(model, x, target) is the explanation {name}, as audited.
    """
    total = 0
    for _ in range({samples}):
        total = total + explain(model, x + {sigma} * torch.randn_like(x), target)
    return total / {samples}
'''


def own_snippet(name: str, sigma: float, samples: int) -> str:
    """Python text that defines ``smoothed_map(explain, model, x, target)`` for any explanation.

    ``sigma`` is in pixel units of [0, 1]; ``name`` is that of the user's function.
    """
    # In a docstring of the text: no quotes and no line ends.
    plain = "".join(c for c in name if c.isalnum() or c in "_ .-")
    return _OWN.format(name=plain, sigma=float(f"{sigma:.6g}"), samples=samples)


def captum_snippet(sigma: float, samples: int, mean: Sequence[float], std: Sequence[float]) -> str:
    """Python text that defines ``smoothed_map(model, x, target)``.

    Parameters
    ----------
    sigma
        Standard deviation of the noise, pixel units of [0, 1].
    samples
        Noisy copies of each image.
    mean, std
        The model's normalization per channel, in pixel units; where it changes anything, the
        text also defines a wrapper ``FromPixels``. ``model`` must take pixels in [0, 1]: then one
        ``stdevs`` is right although the channels are scaled differently. Empty where a
        preprocessing of the user's takes their place.
    """
    text = _MAP.format(sigma=float(f"{sigma:.6g}"), samples=samples, batch=min(samples, 8))
    if not mean:
        return text + _INSIDE
    if all(m == 0 for m in mean) and all(s == 1 for s in std):
        return text
    return text + _NORMALIZE.format(mean=_row(mean), std=_row(std))


def _row(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{float(value):.9g}" for value in values) + "]"

"""The few lines that make, with captum, the smoothed map that was audited."""

from __future__ import annotations

from collections.abc import Sequence

# Stratified like the noise of the audit: a map of as many independent draws would err more.
_NOISE = '''\
import torch
{imports}

def stratified_normal(n, shape):
    """n standard normal draws; each pixel takes one value from each n-th of the distribution."""
    strata = torch.rand(n, *shape).argsort(dim=0)
    uniform = (strata + torch.rand(n, *shape)) / n
    return (2 * uniform - 1).clamp(1e-7 - 1, 1 - 1e-7).erfinv() * 2**0.5


'''

_MAP = '''\
def smoothed_map(model, x, target, n={samples}, sigma={sigma}, batch={batch}):
    """SmoothGrad of images x (N, C, H, W), pixels in [0, 1], for one class or N of them.

    n noisy copies of each image, sigma in pixel units [0, 1], batch of them at a time.
    """
    maps = []
    for image, c in zip(x.detach(), torch.as_tensor(target).expand(len(x)).tolist()):
        noise = sigma * stratified_normal(n, image.shape).to(image)
        gradients = [
            # abs=False: signed gradients, as audited
            Saliency(model).attribute((image + z).requires_grad_(), target=c, abs=False)
            for z in noise.split(batch)
        ]
        maps.append(torch.cat(gradients).mean(dim=0))
    return torch.stack(maps)
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
def smoothed_map(explain, model, x, target, n={samples}, sigma={sigma}):
    """Mean map of images x (N, C, H, W), pixels in [0, 1], of classes target (N,) under noise.

    explain(model, x, target) is the explanation {name}, as audited.
    """
    maps = []
    for image, c in zip(x.split(1), target.split(1)):
        noise = sigma * stratified_normal(n, image.shape).to(image)
        maps.append(sum(explain(model, image + z, c) for z in noise) / n)
    return torch.cat(maps)
'''


_IMPORTS = """\
from auditor.attributions.registry import find_method
from auditor.evaluation import Evaluator
"""
_OURS = """

method = find_method("{spec}")
draws = itertools.count()


def explain(model, x, target):
    evaluator = Evaluator(model=model, batch=len(x))
    return method(evaluator, x, target, images=range(len(x)), draw=next(draws))[0]
"""


def method_snippet(spec: str, sigma: float, samples: int) -> str:
    """Python text that defines ``explain`` and ``smoothed_map`` for a method of the registry.

    ``spec`` is what ``--method`` takes, ``sigma`` in pixel units of [0, 1].
    """
    name = spec.partition(",")[0]
    own = own_snippet(name, sigma, samples)
    return own.replace(
        "import torch\n", "import itertools\n\nimport torch\n" + _IMPORTS, 1
    ) + _OURS.format(spec=spec)


def own_snippet(name: str, sigma: float, samples: int) -> str:
    """Python text that defines ``smoothed_map(explain, model, x, target)`` for any explanation.

    ``sigma`` is in pixel units of [0, 1]; ``name`` is that of the user's function.
    """
    # In a docstring of the text: no quotes and no line ends.
    plain = "".join(c for c in name if c.isalnum() or c in "_ .-")
    text = _NOISE.format(imports="")
    return text + _OWN.format(name=plain, sigma=float(f"{sigma:.6g}"), samples=samples)


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
        ``sigma`` is right although the channels are scaled differently. Empty where a
        preprocessing of the user's takes their place.
    """
    text = _NOISE.format(imports="from captum.attr import Saliency\n")
    text += _MAP.format(sigma=float(f"{sigma:.6g}"), samples=samples, batch=min(samples, 8))
    if not mean:
        return text + _INSIDE
    if all(m == 0 for m in mean) and all(s == 1 for s in std):
        return text
    return text + _NORMALIZE.format(mean=_row(mean), std=_row(std))


def _row(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{float(value):.9g}" for value in values) + "]"

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import nn
from torchvision.transforms import functional, v2
from torchvision.transforms import transforms as v1

from auditor.errors import InputError
from auditor.transforms import STEADY, is_normalize, is_transform, split

SIDE = {"Resize": (20,), "CenterCrop": (20,), "Pad": (2,), "Normalize": ([0.5], [0.5])}
ARGUMENTS = SIDE | {
    "Lambda": (lambda x: x,),
    "Compose": ([v2.Identity()],),
    "ConvertImageDtype": (torch.float32,),
    "ToDtype": (torch.float32,),
    "LinearTransformation": (torch.eye(3 * 40 * 40), torch.zeros(3 * 40 * 40)),
}


STEADY_ONES = [
    (getattr(module, name), ARGUMENTS.get(name, ()))
    for name in sorted(STEADY)
    for module in (v1, v2)
    if hasattr(module, name) and (module, name) != (v2, "ToTensor")  # which is deprecated
]


def test_the_table_has_every_steady_one():
    assert {kind.__name__ for kind, _ in STEADY_ONES} == STEADY


@pytest.mark.parametrize(("kind", "arguments"), STEADY_ONES)
def test_steady_ones_draw_no_number(kind, arguments):
    pixels = data.astronaut()[:40, :40]
    tensor = kind.__name__ in ("Normalize", "LinearTransformation", "ConvertImageDtype")
    image = functional.to_tensor(pixels.copy()) if tensor else Image.fromarray(pixels)
    if kind.__name__ == "ToPILImage":
        image = pixels
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()
    kind(*arguments)(image)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == before[1:]


class Own(v2.Transform):
    """A step of the user's, written as torchvision says."""

    def transform(self, inpt, params):
        return inpt


class RandomOwn(nn.Module):
    def forward(self, x):
        return x


class Darker(v2.ColorJitter):
    pass


def test_what_is_a_transform():
    for value in (v1.ToTensor(), Own(), [len], v1.Compose([]), nn.Sequential(Own(), v1.Resize(2))):
        assert is_transform(value)
    for value in (len, nn.Sequential(nn.ReLU()), (v1.ToTensor(), None), RandomOwn(), None, "x"):
        assert not is_transform(value)
    assert is_normalize(v1.Normalize(0, 1))
    assert is_normalize(v2.Normalize([0], [1]))
    assert not is_normalize(Own())


def test_where_it_is_split():
    steps = [Own(), v1.ToTensor(), v1.Normalize([0.1, 0.2], [0.3, 0.4]), v2.ToPureTensor()]
    found = split(v1.Compose(steps), "here")
    assert found.pixels.steps == steps[:2]
    assert (found.mean, found.std, found.inside) == ((0.1, 0.2), (0.3, 0.4), None)
    found = split([*steps, abs], "here")
    assert found.inside.rest.steps == [abs]
    x = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    wanted = torch.stack([v1.Compose(steps[2:])(image).abs() for image in x])
    torch.testing.assert_close(found.inside(x), wanted)
    found = split(steps[2:], "here")
    assert found.pixels is None  # nothing to do before
    found = split(steps[:2], "here")
    assert (found.mean, found.std, found.inside) == ((0.0,), (1.0,), None)
    for value in (torch.tensor([0.5]), np.array([0.5]), 0.5, (0.5,)):
        assert split(v1.Normalize(value, value), "here").std == (0.5,)


@pytest.mark.parametrize("step", [RandomOwn(), Darker(), v1.RandomCrop(3), v2.RandomErasing()])
def test_random_ones_are_refused_wherever_they_are(step):
    steps = [v1.ToTensor(), v1.Normalize(0.5, 0.5)]
    for place in range(3):
        for nest in (lambda s: s, lambda s: v1.Compose([s]), lambda s: [[s]]):
            with pytest.raises(InputError, match=f"^here: {type(step).__name__} is random"):
                split([*steps[:place], nest(step), *steps[place:]], "here")

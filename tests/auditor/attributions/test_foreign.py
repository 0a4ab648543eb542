from __future__ import annotations

import warnings

import pytest
import torch
from captum.attr import (
    DeepLift,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Saliency,
)
from torch import nn

from auditor import from_cam, from_captum, from_network
from auditor.attributions.foreign import from_object
from auditor.errors import InputError
from auditor.evaluation import Evaluator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the library's own imports
    from pytorch_grad_cam import GradCAM


class Network(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
            self.head = nn.Linear(4 * 100, 3)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


X = torch.rand((4, 1, 10, 10), generator=torch.Generator().manual_seed(1))
TARGET = torch.tensor([0, 1, 2, 0])


def maps(method, network, *, batch=2):
    model = from_network(network, input_shape=(1, 10, 10))
    evaluator = Evaluator(model=model, batch=batch)
    return method(evaluator, X, TARGET, images=range(4), draw=0)[0]


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (IntegratedGradients, {"n_steps": 5, "baselines": 0.5}),
        (InputXGradient, {}),
        (Saliency, {"abs": False}),
        (DeepLift, {}),
        (GuidedBackprop, {}),
    ],
)
@pytest.mark.filterwarnings("ignore:Setting:UserWarning")  # captum's, on the hooks it sets
def test_a_captum_object_explains_whichever_model_it_is_asked_of(kind, arguments):
    mine, twin = Network(0).eval(), Network(1).eval()
    method = from_captum(kind(mine), **arguments)
    for network in (mine, twin):
        expected = kind(network).attribute(X.clone().requires_grad_(), target=TARGET, **arguments)
        torch.testing.assert_close(maps(method, network), expected.detach())
    # The user's own object is as it was.
    again = kind(mine).attribute(X.clone().requires_grad_(), target=TARGET, **arguments)
    torch.testing.assert_close(maps(method, mine), again.detach())


def test_layers_and_inner_attributions_move_to_the_other_model():
    mine, twin = Network(0).eval(), Network(1).eval()
    cam = from_captum(LayerGradCam(mine, mine.features[0]))
    expected = LayerGradCam(twin, twin.features[0]).attribute(X, target=TARGET)
    torch.testing.assert_close(maps(cam, twin), expected.detach())
    tunnel = from_captum(NoiseTunnel(Saliency(mine)), nt_samples=3, stdevs=0.0, abs=False)
    torch.testing.assert_close(
        maps(tunnel, twin), maps(from_captum(Saliency(twin), abs=False), twin)
    )


def test_a_cam_object_explains_whichever_model_it_is_asked_of():
    mine, twin = Network(0).eval(), Network(1).eval()
    with GradCAM(model=mine, target_layers=[mine.features[1]]) as cam:
        method = from_cam(cam)
        assert method.name == "GradCAM"
    found = maps(method, twin)
    with torch.enable_grad():
        activations = twin.features(X)
        scores = twin.head(activations.flatten(1)).gather(1, TARGET[:, None]).sum()
        (slope,) = torch.autograd.grad(scores, activations)
    raw = (slope.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1).clamp_min(0).detach()
    low = raw.flatten(1).amin(dim=1)[:, None, None]
    scaled = (raw - low) / (1e-7 + (raw - low).flatten(1).amax(dim=1)[:, None, None])
    # The library resizes in fixed-point arithmetic of 11 bits: steps of 5e-4.
    torch.testing.assert_close(found[:, 0], scaled, atol=5e-4, rtol=0)


def test_objects_are_told_apart():
    network = Network()
    assert from_object(IntegratedGradients(network)).name == "IntegratedGradients"

    def explanation(model, x, target):
        return x

    own = from_object(explanation)
    assert own.name == "explanation"
    assert "return x" in own.identity


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "int: give a function"),
        (lambda x: x, "does not take"),
        (IntegratedGradients(lambda x: x), "Make it for the network"),
    ],
)
def test_what_is_no_explanation_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        from_object(given)


def test_a_layer_that_is_missing_is_named():
    mine = Network()
    method = from_captum(LayerGradCam(mine, mine.features[0]))
    with pytest.raises(InputError, match=r"no layer 'features\.0'"):
        maps(method, nn.Sequential(nn.Flatten(), nn.Linear(100, 3)))
    with pytest.raises(InputError, match="none of its network's"):
        maps(from_captum(LayerGradCam(mine, nn.Conv2d(1, 1, 1))), mine)

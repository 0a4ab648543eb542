from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from auditor.errors import InputError
from auditor.models import from_network
from auditor.preflight import run_preflight


class Net(nn.Module):
    """A small network; ``after`` spoils the logits, ``before`` the images."""

    def __init__(self, after=lambda z: z, before=lambda x: x, act=F.relu, classes=3):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4 * 36, classes)
        self.after, self.before, self.act = after, before, act
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) / p[0].numel() ** 0.5)

    def forward(self, x):
        return self.after(self.head(self.act(self.conv(self.before(x))).flatten(1)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        t = self.first(x[:, 0])[:, None]  # one head, eight tokens
        return self.head(F.scaled_dot_product_attention(t, t, t)[:, 0].mean(1))


class Broken(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("no backward here")


def images(n=4, seed=0):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def wrap(network, **arguments):
    return from_network(network, input_shape=(1, 8, 8), mean=[0.0], std=[1.0], **arguments)


def status(checks):
    return {check.name: check.status for check in checks}


def test_a_good_smooth_network_has_no_notes():
    checks = run_preflight(wrap(Net(act=F.softplus)), images())
    assert len(checks) == 8
    assert set(status(checks).values()) == {"ok"}


def test_a_relu_network_gets_the_notice():
    checks = run_preflight(wrap(Net()), images())
    assert [c.name for c in checks if c.status == "note"] == ["second derivatives"]
    assert "gives zero" in checks[-1].message


def test_second_derivatives_of_attention_and_of_a_broken_backward():
    network = Attention()
    leaf = images().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf).sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError):  # what the preflight has to get around
        torch.autograd.grad(gradient.sum(), leaf)
    assert status(run_preflight(wrap(network), images()))["second derivatives"] == "ok"

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        def backward(ctx, gradient):
            return Broken.apply(ctx.saved_tensors[0] * gradient)

    checks = run_preflight(wrap(Net(act=Once.apply)), images())
    assert checks[-1].status == "note"
    assert "Double backward fails (RuntimeError: no backward here)" in checks[-1].message


def test_train_mode_and_dropout_layers_are_harmless():
    network = nn.Sequential(Net(), nn.Dropout(0.9), nn.BatchNorm1d(3)).train()
    assert status(run_preflight(wrap(network), images()))["same output twice"] == "ok"


def test_remarks_come_first_and_dark_images_are_noted():
    model = from_network(Net(), input_shape=(1, 8, 8))
    checks = run_preflight(model, images() / 255)
    assert [c.name for c in checks if c.status == "note"][:2] == ["normalization", "pixel range"]
    assert "divided by 255 twice" in checks[1].message


def test_other_sizes_are_taken():
    x = torch.rand(3, 1, 12, 10, generator=torch.Generator().manual_seed(2))
    assert status(run_preflight(wrap(Net()), x))["gradient"] == "ok"


def test_a_single_image_without_gradient_is_a_note():
    x = images()
    x[2] = 0  # relu of (0 - bias) is flat around a black image

    def dim(z):
        return F.relu(z) * 1.0

    network = Net()
    with torch.no_grad():
        network.conv.bias.fill_(-0.5)
        network.conv.weight.abs_()
    checks = {c.name: c for c in run_preflight(wrap(network), x)}
    assert checks["gradient"].status == "note"
    assert "on 1 of 4 images" in checks["gradient"].message


def test_log_probabilities_are_noted():
    checks = run_preflight(wrap(Net(after=lambda z: z.log_softmax(1))), images())
    assert status(checks)["logits"] == "note"


BAD_NETWORKS = [
    ({"after": lambda z: z.detach()}, "no gradient reaches the image"),
    ({"before": lambda x: x.detach()}, "no gradient reaches the image"),
    ({"after": torch.inference_mode()(lambda z: z * 2)}, "no gradient reaches the image"),
    ({"before": torch.round}, "the gradient is zero on all 4"),
    ({"after": lambda z: z * 0 + 1}, "the gradient is zero on all 4"),
    ({"after": lambda z: F.dropout(z, 0.5)}, "two calls on the same images differ"),
    ({"after": lambda z: z + torch.randn_like(z)}, "two calls on the same images differ"),
    ({"after": lambda z: z - z.mean(0)}, "an image alone and in a batch of 4"),
    ({"after": lambda z: F.batch_norm(z, None, None, training=True)}, "rejects 1 image"),
    ({"after": lambda z: z / 0}, "logits are not finite"),
    ({"after": lambda z: (z - z).sqrt() + z}, "the gradient is not finite"),
    ({"after": Broken.apply}, "backward fails .RuntimeError: no backward here"),
    ({"after": lambda z: (z, z)}, r"several tensors, 0 \(1×3\), 1 \(1×3\)"),
    ({"after": lambda z: {"logits": None}}, "a dict without tensors"),
    ({"after": lambda z: z.argmax(1)}, "returns whole numbers"),
    ({"after": lambda z: z[:, :, None]}, r"the output has shape \(4, 3, 1\)"),
    ({"after": lambda z: z[:2]}, r"the output has shape \(2, 3\)"),
    ({"after": lambda z: (z * 9).int()}, "returns whole numbers"),
]


@pytest.mark.parametrize(("arguments", "says"), BAD_NETWORKS)
def test_models_that_cannot_be_audited(arguments, says):
    with pytest.raises(InputError, match=says) as caught:
        run_preflight(wrap(Net(**arguments), name="N"), images())
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith("N: ")


def test_nan_weights_are_named():
    network = Net()
    with torch.no_grad():
        network.head.weight[1, 2] = torch.nan
    with pytest.raises(InputError, match=r"NaN weights, first in 'head.weight' \(1 of 4"):
        run_preflight(wrap(network), images())


def test_a_size_that_the_model_rejects():
    model = from_network(Net(), input_shape=(1, 9, 9))
    with pytest.raises(InputError, match=r"rejects 4 image\(s\) of 1×9×9 .* Check --input-size"):
        run_preflight(model, images())


def test_labels_of_another_number():
    with pytest.raises(InputError, match="3 logits but 2 labels"):
        run_preflight(wrap(Net(), labels=["a", "b"]), images())


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (images() * 255, "Give images in"),
        (images() - 0.5, "Give images in"),
        (images() * torch.nan, "Give images in"),
        (images()[:0], "n ≥ 1"),
        (images()[0], "n ≥ 1"),
        (images().expand(-1, 3, -1, -1), "needs"),
    ],
)
def test_images_that_cannot_be_audited(x, says):
    with pytest.raises(InputError, match=says):
        run_preflight(wrap(Net()), x)


def test_gray_images_do_not_pass_for_color_by_broadcasting():
    model = from_network(nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten()), input_shape=8)
    with pytest.raises(InputError, match=r"needs \(n, 3, H, W\)"):
        run_preflight(model, images())

"""One small network in every format, and what each format is measured to be able to do."""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, fx, nn

from attacks.graph_surrogate import report_graph
from attacks.surrogate import report
from auditor.control import randomize
from auditor.loading import load_model
from auditor.models import Classifier
from auditor.recalibration import recalibrate

SIZE = (1, 12, 12)
DOCS = Path(__file__).parents[3] / "docs" / "formats.md"
COLUMNS = (
    *("first derivative", "second derivative", "images in one call", "layers", "training"),
    *("re-initialized control", "surrogate"),
)

CODE = """
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(216, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        x = nn.functional.silu(nn.functional.max_pool2d(x, 2))
        return self.head(self.drop(x.flatten(1)))
"""


def small(folder: Path) -> nn.Module:
    """The network in eval mode, with statistics and weights that no reset would give."""
    (folder / "small.py").write_text(CODE)
    space: dict[str, type] = {"__name__": "small"}
    exec(compile(CODE, str(folder / "small.py"), "exec"), space)
    network = space["Small"]()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) - 0.4)
        network.norm.running_var.add_(1)
    return network.eval()


def write_all(folder: Path, network: nn.Module) -> dict[str, str]:
    """Save a network in every format that holds one; returns format → SPEC of ``--model``."""
    x = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(1))
    free = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(network, (x,)), folder / "static.pt2")
    torch.export.save(torch.export.export(network, (x,), dynamic_shapes=free), folder / "free.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript and its ONNX exporter are deprecated
        torch.jit.save(torch.jit.trace(network, x), folder / "traced.ts")
        torch.onnx.export(network, (x[:1],), folder / "network.onnx", dynamo=False)
    return {
        "torch.export, fixed batch": str(folder / "static.pt2"),
        "torch.export, free batch": str(folder / "free.pt2"),
        "TorchScript": str(folder / "traced.ts"),
        "ONNX": str(folder / "network.onnx"),
    }


def load_all(folder: Path) -> dict[str, Classifier]:
    """A classifier of every format, ready to be measured."""
    network = small(folder)
    save_file(network.state_dict(), folder / "small.safetensors")
    plain = {"mean": [0.0], "std": [1.0]}
    factory = f"{folder / 'small.py'}:Small"
    weights = folder / "small.safetensors"
    found = {"factory": load_model(factory, weights=weights, input_size=12, **plain)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found["torchvision"] = load_model("torchvision:squeezenet1_1", input_size=64, **plain)
        found["timm"] = load_model("timm:test_resnet", input_size=64)
    found["Hugging Face"] = load_model(str(write_huggingface(folder / "hf")))
    for name, spec in write_all(folder, network).items():
        found[name] = load_model(spec, input_size=SIZE, **plain)
    return found


def write_huggingface(folder: Path, **processor: object) -> Path:
    """A folder as ``save_pretrained`` makes it, with a tiny ResNet and its processor."""
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor
    from transformers.utils import logging

    names = {0: "cat", 1: "dog", 2: "fly"}
    config = ResNetConfig(
        embedding_size=4,
        hidden_sizes=[4, 8],
        depths=[1, 1],
        layer_type="basic",
        id2label=names,
        label2id={name: index for index, name in names.items()},
    )
    settings = {
        "size": {"height": 32, "width": 32},
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.5, 0.25, 0.2],
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        logging.disable_progress_bar()
        ResNetForImageClassification(config).save_pretrained(folder)
        ViTImageProcessor(**(settings | processor)).save_pretrained(folder)
        logging.enable_progress_bar()
    return folder


def measure(classifier: Classifier) -> dict[str, str]:
    """What the classifier's format can do, found by doing it; the columns of the table."""
    x = torch.rand(5, *classifier.input_shape, generator=torch.Generator().manual_seed(2))
    first, second = _derivatives(classifier, x[:2])
    return {
        "first derivative": _yes(first),
        "second derivative": _yes(second),
        "images in one call": _batches(classifier, x),
        "layers": _yes(_hooks(classifier, x[:2])),
        "training": _yes(_trains(classifier, x[:2])),
        "re-initialized control": _yes(_resets(classifier, x)),
        "surrogate": _surrogate(classifier, x[:2]),
    }


def declared(classifier: Classifier) -> dict[str, str]:
    """The same from the record that the engine goes by."""
    can = classifier.capabilities
    low, high = can.batches
    return {
        "first derivative": _yes(can.first_derivative.able),
        "second derivative": _yes(can.second_derivative.able),
        "images in one call": "any" if (low, high) == (1, None) else f"{low}",
        "layers": _yes(can.layers.able),
        "training": _yes(can.training.able),
        "re-initialized control": _yes(can.reinitialization.able),
        "surrogate": can.surrogate,
    }


def table(rows: dict[str, dict[str, str]]) -> str:
    """Markdown of format × capability."""
    lines = [f"| format | {' | '.join(COLUMNS)} |", "|" + "---|" * (len(COLUMNS) + 1)]
    lines += [f"| {name} | {' | '.join(row[c] for c in COLUMNS)} |" for name, row in rows.items()]
    return "\n".join(lines)


def table_in_docs() -> str:
    """The table as the docs have it now."""
    found = re.search(r"<!-- capabilities -->\n(.*?)\n\n", DOCS.read_text(), re.DOTALL)
    assert found is not None
    return found.group(1)


def _yes(able: bool) -> str:
    return "yes" if able else "no"


def _derivatives(classifier: Classifier, x: Tensor) -> tuple[bool, bool]:
    """Whether double backward agrees with differences of values and of gradients, in float64."""
    exact = copy.deepcopy(classifier).double()
    x = x.double()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).double()
    step = 1e-8  # so small that no kink lies within it; rounding leaves six digits

    def score(at: Tensor) -> Tensor:  # log p is curved even where the logits are linear
        return exact(at).log_softmax(1)[:, 1].sum()

    def gradient(at: Tensor) -> Tensor:
        leaf = at.clone().requires_grad_()
        return torch.autograd.grad(score(leaf), leaf)[0]

    leaf = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(score(leaf), leaf, create_graph=True)
    (second,) = torch.autograd.grad((first * direction).sum(), leaf)
    slope = (score(x + step * direction) - score(x - step * direction)) / (2 * step)
    bend = (gradient(x + step * direction) - gradient(x - step * direction)) / (2 * step)
    return (
        torch.isclose((first * direction).sum(), slope, rtol=1e-4).item(),
        bool(bend.abs().max() > 0) and torch.dist(second, bend) < 1e-3 * bend.norm(),
    )


def _batches(classifier: Classifier, x: Tensor) -> str:
    """Batch sizes that the network itself takes, the same for an image alone and among others."""
    truth = classifier.scores(x).detach()
    taken = []
    for size in (1, 2, 5):
        try:
            part = classifier.network((x[:size] - classifier._mean) / classifier._std)
        except Exception:  # a fixed size raises what it likes
            continue
        scores = part if isinstance(part, Tensor) else part["logits"]
        if torch.allclose(scores, truth[:size], rtol=1e-4, atol=1e-5):
            taken.append(size)
    return "any" if taken == [1, 2, 5] else ", ".join(map(str, taken))


def _hooks(classifier: Classifier, x: Tensor) -> bool:
    """Whether a hook on some inner module sees activations with height and width."""
    seen = []

    def hook(module: nn.Module, inputs: object, output: object) -> None:
        seen.append(isinstance(output, Tensor) and output.ndim == 4)

    handles = []
    for module in classifier.network.modules():
        try:
            handles.append(module.register_forward_hook(hook))
        except RuntimeError:  # TorchScript refuses
            return False
    classifier(x)
    for handle in handles:
        handle.remove()
    return any(seen)


def _trains(classifier: Classifier, x: Tensor) -> bool:
    """Whether train mode changes the output and weights get a gradient."""
    network = copy.deepcopy(classifier.network).requires_grad_(True)
    network.to(memory_format=torch.contiguous_format)  # as training does, see Trainable
    before = classifier.scores(x)
    returned = network.train()((x - classifier._mean) / classifier._std)
    scores = returned if isinstance(returned, Tensor) else returned["logits"]
    weights = [p for p in network.parameters() if p.ndim > 1]
    if not weights or not network.training or torch.allclose(scores, before, atol=1e-4):
        return False
    return all(g is not None for g in torch.autograd.grad(scores.sum(), weights, allow_unused=True))


def _resets(classifier: Classifier, x: Tensor) -> bool:
    """Whether re-initialization changes all learned tensors, statistics included.

    Biases and scales may be what a reset gives already, so only larger tensors are looked at, and
    statistics where they are not fresh.
    """
    control = copy.deepcopy(classifier)
    can = classifier.capabilities
    before = {name: value.clone() for name, value in control.network.state_dict().items()}
    randomize(control.network, seed=0, layers=can.training.able)
    recalibrate(control, control.network, x, fewest=can.batches[0], name="control")
    after = control.network.state_dict()
    learned = [
        name
        for name, value in before.items()
        if value.is_floating_point() and value.numel() > 1 and not _fresh(value)
    ]
    return bool(learned) and all(not torch.equal(before[name], after[name]) for name in learned)


def _fresh(value: Tensor) -> bool:
    return bool((value == 0).all() or (value == 1).all())


def _surrogate(classifier: Classifier, x: Tensor) -> str:
    """The way to a surrogate without kinks that tends to the model; a graph is rewritten first."""
    graph = getattr(classifier.network, "graph", None)
    if isinstance(graph, fx.GraphModule):
        found = report_graph(graph, (x - classifier._mean) / classifier._std)
        if found.counts and not found.missed:
            return "graph"
    found = report(classifier, x)
    return "eager mode" if found.counts and not found.missed else "none"


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        rows = {name: measure(model) for name, model in load_all(Path(temporary)).items()}
    DOCS.write_text(DOCS.read_text().replace(table_in_docs(), table(rows)))

"""Smooth twins of the audited model, by what its format allows."""

from __future__ import annotations

import copy
import dataclasses
import functools

from torch import Tensor, fx, nn

from attacks import Surrogate, smooth
from attacks.graph_surrogate import smooth_graph
from attacks.surrogate import LIMIT, examine
from auditor.evaluation import Evaluator
from auditor.formats.loaded import Graph
from auditor.models import Classifier


def has_surrogate(model: object) -> bool:
    """Whether ramps of the model can be made smooth."""
    return not isinstance(model, Classifier) or model.capabilities.surrogate != "none"


def smooth_evaluator(evaluator: Evaluator, beta: float) -> Evaluator:
    """Evaluate the surrogate of sharpness β in the place of the model.

    The model must have one, see :func:`has_surrogate`. An eager network runs in a mode that also
    reaches ramps in a user's explanation; the graph of an exported program is rewritten.
    """
    model = evaluator.model
    if isinstance(model, Classifier) and model.capabilities.surrogate == "graph":
        return dataclasses.replace(evaluator, model=_rewritten(model, beta))
    return dataclasses.replace(evaluator, around=functools.partial(Surrogate, beta))


def kinks_left(model: Classifier, x: Tensor) -> tuple[str, ...]:
    """Kinks that the surrogate of a model still has on images (B, C, H, W), pooling aside.

    One entry for each sort, and one if the surrogate does not tend to the model as β grows.
    """
    graph = model.capabilities.surrogate == "graph"
    limit = _rewritten(model, LIMIT) if graph else smooth(model, beta=LIMIT)
    missed, _ = examine(model, limit, x)
    return missed


def _rewritten(model: Classifier, beta: float) -> Classifier:
    """The classifier around a copy of its graph; nothing else is copied."""
    network = model.network
    graph = network.graph if isinstance(network, Graph) else network
    assert isinstance(graph, fx.GraphModule)  # what the format promises
    twin = copy.copy(model)
    twin._modules = dict(model._modules)
    smooth: nn.Module = smooth_graph(graph, beta=beta)
    if isinstance(network, Graph):
        smooth = Graph(smooth, architecture=network.architecture)
    twin._modules["network"] = smooth
    return twin

"""Checks before any work: what an attribution audit needs of a model, each with its remedy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from auditor.errors import InputError
from auditor.models import Classifier
from auditor.results import Check
from auditor.usercode import describe, plain_errors

# Two evaluations of one image in float32 differ by the order of summation only: about 1e-6 of the
# largest logit, 1e-4 with TF32 on a GPU. Dropout and batch statistics move logits by far more.
REPEAT_TOLERANCE = 1e-5
BATCH_TOLERANCE = 1e-3
PROBABILITY_TOLERANCE = 1e-4
DOUBLY_SCALED = 1.5 / 255


def run_preflight(classifier: Classifier, x: Tensor) -> tuple[Check, ...]:
    """Examine a classifier on a few images before an audit.

    Parameters
    ----------
    x
        Images (B, C, H, W) in pixel space [0, 1], on the classifier's device; a handful will do.

    Returns
    -------
    tuple of Check
        Status ``ok`` or ``note``, the loader's remarks first.

    Raises
    ------
    InputError
        If the audit could not be right: pixels outside [0, 1], weights, logits or gradients that
        are not finite, images rejected, output that is not (B, classes) logits, changes between
        two calls or depends on the rest of the batch, or no gradient.
    """
    checks = [*classifier.remarks, _pixels(classifier, x), _weights(classifier)]
    if classifier.preprocess is not None and classifier.preprocess.inside is not None:
        checks.append(_inside(classifier.preprocess.name, classifier.preprocess.inside, x))
    logits = _logits(classifier, x)
    checks += [
        _labels(classifier, logits.shape[1]),
        _repeatable(classifier, x, logits),
        _not_probabilities(classifier, logits),
        _batch_independent(classifier, x, logits),
        _gradient(classifier, x),
        _second_derivatives(classifier, x[:1]),  # costs ten gradients and more
    ]
    return tuple(checks)


def _pixels(classifier: Classifier, x: Tensor) -> Check:
    channels = classifier.input_shape[0]
    if x.ndim != 4 or len(x) == 0 or x.shape[1] != channels:
        raise InputError(
            f"Images have shape {tuple(x.shape)}; {classifier.name} needs (n, {channels}, H, W), "
            "n ≥ 1."
        )
    low, high = x.min().item(), x.max().item()
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise InputError(f"Pixels span [{low:.4g}, {high:.4g}]. Give images in [0, 1].")
    if high <= DOUBLY_SCALED:
        message = f"The brightest pixel is {high:.2g}: were the images divided by 255 twice?"
        return Check(name="pixel range", status="note", message=message)
    return _ok("pixel range", f"Pixels span [{low:.3f}, {high:.3f}].")


def _weights(classifier: Classifier) -> Check:
    state = classifier.network.state_dict()
    floats = {k: v for k, v in state.items() if isinstance(v, Tensor) and v.is_floating_point()}
    bad = [key for key, value in floats.items() if not value.isfinite().all()]
    if bad:
        raise InputError(
            f"{classifier.name}: NaN weights, first in {bad[0]!r} ({len(bad)} of {len(floats)} "
            "tensors). Train again or give an earlier checkpoint."
        )
    return _ok("weights", f"All {len(floats)} tensors are finite.")


def _inside(name: str, inside: Callable[[Tensor], Tensor], x: Tensor) -> Check:
    """Run the differentiable part of a user's preprocessing alone, so that it is blamed itself."""
    leaf = x.detach().clone().requires_grad_()
    with plain_errors(f"{name}: fails on images of shape {tuple(x.shape)}"), torch.enable_grad():
        y: object = inside(leaf)
    if not isinstance(y, Tensor) or y.ndim == 0 or len(y) != len(x):
        found = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise InputError(
            f"{name}: makes {found} of {len(x)} image(s) of shape {tuple(x.shape[1:])}. Return one "
            "tensor with a row for each, (B, C, H, W)."
        )
    if not y.isfinite().all():
        raise InputError(f"{name}: its values are not finite. Check for 0/0, log(0) and sqrt(-1).")
    if not y.requires_grad:
        raise InputError(
            f"{name}: no gradient comes through it. Use torch alone, without detach, no_grad, "
            "numpy and whole numbers, or do this when pictures are read."
        )
    # Random weights, since the plain sum of an image less its mean does not change.
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y)
    score = (y * weights).sum()
    gradient = _derivative(name, lambda: torch.autograd.grad(score, leaf, allow_unused=True)[0])
    if gradient is None or not gradient.any():
        raise InputError(
            f"{name}: the gradient through it is zero. Leave rounding and comparisons out, or do "
            "them when pictures are read."
        )
    if not gradient.isfinite().all():
        raise InputError(f"{name}: its gradient is not finite. Check for log(0) or sqrt(0).")
    message = f"Makes {tuple(y.shape)} of {tuple(x.shape)}; a gradient comes through."
    return _ok("differentiable preprocessing", message)


def _run(classifier: Classifier, x: Tensor) -> Tensor:
    """Logits, where any exception of the model's code means that it rejects such images."""
    try:
        logits: Tensor = classifier(x)
        return logits
    except InputError:
        raise
    except Exception as error:  # a user's forward may raise anything
        shape = "×".join(map(str, classifier.input_shape))
        raise InputError(
            f"{classifier.name}: rejects {len(x)} image(s) of {shape} ({describe(error)}). "
            "Check --input-size."
        ) from error


def _logits(classifier: Classifier, x: Tensor) -> Tensor:
    with torch.no_grad():
        logits = _run(classifier, x)
        scores = classifier.scores(x)
    name = classifier.name
    if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        raise InputError(
            f"{name}: the output has shape {tuple(logits.shape)} for {len(x)} image(s). "
            "Return logits (batch, classes) with at least 2 classes."
        )
    if not scores.is_floating_point():
        raise InputError(f"{name}: returns whole numbers. Return logits: leave argmax out.")
    if not logits.isfinite().all():
        raise InputError(f"{name}: logits are not finite. Check --mean, --std and weights.")
    if classifier.output.scale != "logits" and not ((scores >= 0) & (scores <= 1)).all():
        raise InputError(
            f"{name}: its outputs looked like probabilities but span [{scores.min():.3g}, "
            f"{scores.max():.3g}] on these images. Return logits: leave the last function out."
        )
    return logits


def _labels(classifier: Classifier, classes: int) -> Check:
    if classifier.labels is not None and len(classifier.labels) != classes:
        raise InputError(
            f"{classifier.name}: {classes} logits but {len(classifier.labels)} labels. Give one "
            "label for each logit."
        )
    shape = "×".join(map(str, classifier.input_shape))
    return _ok("output", f"Takes {shape}, returns {classes} finite logits.")


def _repeatable(classifier: Classifier, x: Tensor, logits: Tensor) -> Check:
    with torch.no_grad():
        change = _relative(_run(classifier, x), logits)
    if not change <= REPEAT_TOLERANCE:
        raise InputError(
            f"{classifier.name}: two calls on the same images differ by {change:.1e} of the "
            "largest logit. Switch dropout and sampling off in eval mode."
        )
    return _ok("same output twice", f"Two calls differ by {change:.1e} of the largest logit.")


def _not_probabilities(classifier: Classifier, logits: Tensor) -> Check:
    name = classifier.name
    if classifier.output.scale != "logits":
        message = f"Logits are recovered from the probabilities of a {classifier.output.scale}."
        return _ok("logits", message)

    def sums_to_one(p: Tensor) -> bool:
        return bool(((p.sum(1) - 1).abs() <= PROBABILITY_TOLERANCE).all())

    if logits.min() >= 0 and logits.max() <= 1 and sums_to_one(logits):
        raise InputError(
            f"{name}: the outputs are probabilities. Return logits: leave the softmax out."
        )
    if logits.max() <= 0 and sums_to_one(logits.exp()):
        message = "The outputs are log-probabilities: maps explain log p, not a logit."
        return Check(name="logits", status="note", message=message)
    return _ok("logits", "The outputs are not probabilities.")


def _batch_independent(classifier: Classifier, x: Tensor, logits: Tensor) -> Check:
    with torch.no_grad():
        alone = torch.cat([_run(classifier, image[None]) for image in x])
    change = _relative(alone, logits)
    if not change <= BATCH_TOLERANCE:
        raise InputError(
            f"{classifier.name}: an image alone and in a batch of {len(x)} differ by {change:.1e} "
            f"of the largest logit (limit {BATCH_TOLERANCE:.0e}). Remove what mixes images."
        )
    message = f"Batches of 1 and {len(x)} differ by {change:.1e} of the largest logit."
    return _ok("batch independence", message)


def _gradient(classifier: Classifier, x: Tensor) -> Check:
    name = classifier.name
    score, leaf = _score(classifier, x)
    if not score.requires_grad:
        raise InputError(
            f"{name}: no gradient reaches the image. Remove detach, no_grad and inference_mode."
        )
    gradient = _derivative(name, lambda: torch.autograd.grad(score, leaf, allow_unused=True)[0])
    if gradient is None or not gradient.any():
        raise InputError(
            f"{name}: the gradient is zero on all {len(x)} image(s). Remove rounding or argmax on "
            "the way to the logits; an untrained last layer of zeros does this, too."
        )
    if not gradient.isfinite().all():
        raise InputError(f"{name}: the gradient is not finite. Check for log(0) or sqrt(0).")
    dead = int((~gradient.flatten(1).any(1)).sum())
    if dead:
        message = f"The gradient is exactly zero on {dead} of {len(x)} images."
        return Check(name="gradient", status="note", message=message)
    return _ok("gradient", f"Not zero on any of {len(x)} images.")


def _second_derivatives(classifier: Classifier, x: Tensor) -> Check:
    """Try double backward; only for information, since our attacks do without it."""
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    try:
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no double backward
            score, leaf = _score(classifier, x)
            (gradient,) = torch.autograd.grad(score, leaf, create_graph=True)
            product = None
            if gradient.requires_grad:
                (product,) = torch.autograd.grad(
                    (gradient * direction).sum(), leaf, allow_unused=True
                )
    except Exception as error:  # whatever a user's own backward raises
        message = f"Double backward fails ({describe(error)}): attacks use gradient differences."
        return Check(name="second derivatives", status="note", message=message)
    if product is None or not product.any():
        message = (
            "Double backward gives zero, as in ReLU networks: attacks use gradient differences."
        )
        return Check(name="second derivatives", status="note", message=message)
    return _ok("second derivatives", "Double backward works and is not zero.")


def _score(classifier: Classifier, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = _run(classifier, leaf)
        return logits.gather(1, logits.detach().argmax(1, keepdim=True)).sum(), leaf


def _derivative(name: str, compute: Callable[[], Tensor | None]) -> Tensor | None:
    try:
        return compute()
    except Exception as error:  # a user's own backward may raise anything
        raise InputError(f"{name}: backward fails ({describe(error)}).") from error


def _relative(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    return ((a - b).abs().max() / b.abs().max().clamp_min(1e-12)).item()


def _ok(name: str, message: str) -> Check:
    return Check(name=name, status="ok", message=message)

"""Products with Hessians of a network, from one graph that is built once and used many times."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from auditor.bounds.lanczos import Product
from auditor.evaluation import Evaluator


def logit_hessian(evaluator: Evaluator, x: Tensor, target: Tensor) -> Product:
    """V ↦ ∇²f_c(x)·v for one batch of images, exact where the network is smooth.

    The graph of the gradient is kept, so a product is one pass backward through it, without the
    forward and the first backward pass that a fresh double backward repeats. Each product is booked
    as two gradients an image. It is zero for a network whose only kinks are ramps.

    Parameters
    ----------
    x
        (B, C, H, W) in pixel space, at most as many as fit a batch.
    target
        Explained class (B,).
    """
    leaf = x.to(evaluator.device, copy=True).requires_grad_()
    with torch.enable_grad(), evaluator.around(), sdpa_kernel(SDPBackend.MATH):
        logits = evaluator.model(leaf)
        score = logits.gather(1, target.to(evaluator.device)[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, leaf, create_graph=True)
    evaluator.meter.add(evaluator.probe, gradients=len(x))

    def product(v: Tensor) -> Tensor:
        evaluator.meter.add(evaluator.probe, gradients=2 * len(v))
        if not gradient.requires_grad:
            return torch.zeros_like(v)
        with sdpa_kernel(SDPBackend.MATH):
            (bent,) = torch.autograd.grad(
                gradient,
                leaf,
                v.to(leaf),
                retain_graph=True,
                materialize_grads=True,
            )
        return bent.to(v.device)

    return product


def loss_gauss_newton(evaluator: Evaluator, x: Tensor) -> Product:
    """V ↦ W(diag p − ppᵀ)Wᵀv, W the d×c Jacobian of the logits, which is never formed.

    It is the input Hessian of the cross-entropy loss where the logits are linear around ``x`` (S3
    Prop. 3), for any number of classes. A product takes Wᵀv by forward differentiation and Wu
    backward through a graph that is kept, and is booked as two gradients an image.
    """
    leaf = x.to(evaluator.device, copy=True).requires_grad_()
    with torch.enable_grad(), evaluator.around(), sdpa_kernel(SDPBackend.MATH):
        logits = evaluator.model(leaf)
    p = logits.detach().double().softmax(dim=1)
    evaluator.meter.add(evaluator.probe, gradients=len(x))
    push = _push(evaluator, leaf, logits)

    def product(v: Tensor) -> Tensor:
        evaluator.meter.add(evaluator.probe, gradients=2 * len(v))
        pushed = push(v.to(leaf)).double()
        # The mean is removed before it is multiplied, lest nearly equal classes cancel.
        centered = pushed - (p * pushed).sum(dim=1, keepdim=True)
        (back,) = torch.autograd.grad(logits, leaf, (p * centered).to(logits), retain_graph=True)
        return back.to(v.device)

    return product


def _push(evaluator: Evaluator, leaf: Tensor, logits: Tensor) -> Callable[[Tensor], Tensor]:
    """V ↦ Wᵀv: forward where the model allows it, for that is three times as fast.

    Else u ↦ Wu is differentiated, which is linear in u and has Wᵀ as its derivative.
    """

    def forward(v: Tensor) -> Tensor:
        with (
            forward_ad.dual_level(),
            torch.no_grad(),
            evaluator.around(),
            sdpa_kernel(SDPBackend.MATH),
        ):
            output = evaluator.model(forward_ad.make_dual(leaf.detach(), v))  # type: ignore[no-untyped-call]
            tangent = forward_ad.unpack_dual(output).tangent  # type: ignore[no-untyped-call]
        return torch.zeros_like(output) if tangent is None else tangent

    try:
        with warnings.catch_warnings():
            # Torch compiles its forward rules with what it calls deprecated itself.
            warnings.simplefilter("ignore", FutureWarning)
            forward(torch.zeros_like(leaf))
    except (RuntimeError, NotImplementedError):  # an operation, or a format, without a forward rule
        weight = torch.zeros_like(logits).requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):
            (pulled,) = torch.autograd.grad(logits, leaf, weight, create_graph=True)
        return lambda v: torch.autograd.grad(pulled, weight, v, retain_graph=True)[0]
    return forward

"""The curvature of the loss at each image, and how far its gradient really moved."""

from __future__ import annotations

import torch
from torch import Tensor

from auditor.bounds.curvature import Lanczos
from auditor.bounds.hessian import loss_gradient, loss_hessian_eigenvalue
from auditor.evaluation import Evaluator
from auditor.probes.smoothing import norms
from auditor.probes.subject import Subject
from auditor.records import Records, book

LANCZOS = Lanczos(steps=20, tolerance=1e-4)


def curvature(
    evaluator: Evaluator,
    subject: Subject,
    deltas: dict[float, Tensor],
    *,
    classes: int,
    max_classes: int,
) -> Records:
    """Largest eigenvalue of the loss Hessian (S3 Prop. 3) beside the measured drift of ∇L.

    Up to ``max_classes`` classes the closed form is used, beyond it Lanczos with the residual of
    each value. For each ε the drift is ‖∇L(x + δ) − ∇L(x)‖₂/‖δ‖₂ at the perturbation δ that moved
    the unsmoothed map most, and ``rho`` = ‖δ‖₂. L is the cross-entropy of the explained class; the
    eigenvalue says nothing of the logit's map. To first order the drift cannot exceed it (S3
    Thm 3), but kinks of ReLU networks can.
    """
    records: Records = {}
    if classes > max_classes:
        lanczos = LANCZOS.of_loss(evaluator, subject.x, subject.generators(5))
        values = {
            "hessian_eigenvalue": lanczos.eigenvalue.clamp_min(0).cpu(),
            "hessian_residual": lanczos.residual.cpu(),
        }
    else:
        eigenvalues = []
        for x in torch.split(subject.x, evaluator.batch):
            found = loss_hessian_eigenvalue(
                evaluator.model, x.to(evaluator.device), max_classes=max_classes
            )
            evaluator.meter.add(evaluator.probe, gradients=found.classes_used * len(x))
            eigenvalues.append(found.eigenvalue.cpu())
        values = {"hessian_eigenvalue": torch.cat(eigenvalues)}
    book(records, values, probe="curvature")
    start = _loss_gradient(evaluator, subject, subject.x)
    for epsilon, delta in deltas.items():
        lost = delta.flatten(1).isnan().any(dim=1)
        rho = norms(delta.nan_to_num())
        moved = _loss_gradient(evaluator, subject, subject.x + delta.nan_to_num())
        slope = torch.where(rho > 0, norms(moved - start) / rho, torch.nan)
        values = {
            "loss_gradient_drift": slope.masked_fill(lost, torch.nan),
            "rho": rho.masked_fill(lost, torch.nan),
            "infeasible": lost.double(),
        }
        book(records, values, probe="curvature", epsilon=epsilon)
    return records


def _loss_gradient(evaluator: Evaluator, subject: Subject, x: Tensor) -> Tensor:
    evaluator.meter.add(evaluator.probe, gradients=len(x))
    parts = zip(
        torch.split(x, evaluator.batch), torch.split(subject.target, evaluator.batch), strict=True
    )
    return torch.cat(
        [
            loss_gradient(
                evaluator.model, part.to(evaluator.device), target.to(evaluator.device)
            ).cpu()
            for part, target in parts
        ]
    )

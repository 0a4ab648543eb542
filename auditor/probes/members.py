"""How alike two networks' maps are: a twin of the model, or its re-initialized control."""

from __future__ import annotations

from torch import Tensor

from auditor.metrics.drift import Reference
from auditor.probes.smoothing import norms
from auditor.probes.subject import CleanMaps
from auditor.records import Records, book


def twin_probe(
    own_plain: Tensor,
    own: Tensor,
    twin_plain: Tensor,
    twin: Tensor,
    *,
    sigma: float,
    k: int,
    name: str,
) -> Records:
    """Stability and fidelity of a pair of members at one σ (S0 (12), (13)); raw maps (B, C, H, W).

    ``stability_error`` = ‖own − twin‖, ``fidelity_error`` = mean over both members of
    ‖smoothed − plain‖, both in map units; ``map_norm`` is the mean norm of the two smoothed maps,
    to normalize them by. ``ssim``, ``topk_iou`` and ``topk_intersection`` compare the two maps.
    """
    records: Records = {}
    drift = Reference(own, k).drift(twin)
    values = {name: drift[name] for name in ("ssim", "topk_iou", "topk_intersection")}
    values["stability_error"] = drift["l2"]
    values["fidelity_error"] = (norms(own - own_plain) + norms(twin - twin_plain)) / 2
    values["map_norm"] = (norms(own) + norms(twin)) / 2
    book(records, values, probe="twin", sigma=sigma, partner=name)
    return records


def control_probe(own: CleanMaps, control: Tensor, *, sigma: float, k: int) -> Records:
    """Similarity (B,) of the map to that of the re-initialized network (Adebayo 2018)."""
    records: Records = {}
    drift = Reference(own.shown, k).drift(control)
    values = {name: drift[name] for name in ("topk_intersection", "ssim", "spearman")}
    book(records, values, probe="control", sigma=sigma, partner="reinitialized")
    return records

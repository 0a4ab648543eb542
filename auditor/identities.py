"""Frozen records of what was audited: model, explanation, images, profile, settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ExplanationRecord:
    """Which explanation was audited.

    Attributes
    ----------
    name
        As in :attr:`Measurement.method`.
    identity
        What tells it from another of the same name; empty for the plain gradient.
    price
        Gradients of the model that one map takes.
    random
        Whether two maps of one image differ.
    differentiable
        Whether attacks could differentiate it; if not, they are weaker.
    formula, source
        What it is in one line and where that is from; empty for a user's own.
    spec
        What ``--method`` makes it from; empty for a user's own.
    """

    name: str = "simple_grad"
    identity: str = ""
    price: int = 1
    random: bool = False
    differentiable: bool = True
    formula: str = ""
    source: str = ""
    spec: str = ""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the preflight: ``status`` is ``ok``, ``note`` or ``failed``."""

    name: str
    status: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """What was audited: enough to recognize the same model again.

    ``mean`` and ``std`` are the model's own normalization per channel, empty where a preprocessing
    of the user's takes its place; ``input_shape`` is (C, H, W), ``sha256`` covers every parameter
    and buffer.
    """

    name: str
    format: str
    architecture: str
    sha256: str
    parameters: int
    classes: int
    input_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preflight: tuple[Check, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImageIdentity:
    """Which images were audited and which were left out.

    ``screen`` and ``confirm`` are indices into ``names``; an image in neither half is counted in
    ``misclassified``. ``unreadable`` holds (file, reason). ``predicted`` and ``labels`` are class
    indices; ``class_balance`` counts the audited images by class name. ``subgroups`` holds the
    subgroup of each image, ``None`` where there are none.
    """

    source: str
    format: str
    manifest_sha256: str
    available: int
    selection: str
    names: tuple[str, ...]
    predicted: tuple[int, ...]
    labels: tuple[int, ...] | None
    class_balance: Mapping[str, int]
    class_names: tuple[str, ...]
    misclassified: int | None
    unreadable: tuple[tuple[str, str], ...]
    screen: tuple[int, ...]
    confirm: tuple[int, ...]
    subgroups: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A parameter, its value as text, and its origin.

    ``origin`` is ``default``, ``effort``, ``profile``, ``model``, ``python`` or ``command line``.
    """

    name: str
    value: str
    origin: str


@dataclass(frozen=True, kw_only=True)
class ProfileRecord:
    """A profile as it was declared, before anything was measured.

    ``tried`` lists every profile used on this run folder: (name, sha256, time).
    """

    name: str
    title: str
    summary: str
    sha256: str
    declared: str
    confidence: float
    objective: str
    tried: tuple[tuple[str, str, str], ...]

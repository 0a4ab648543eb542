"""Every attribution method in one table, and how a user names one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from types import MappingProxyType
from typing import Any, get_args

from auditor.attributions.backward_rules import DeepLift, GuidedBackprop
from auditor.attributions.cam import GradCam, GradCamPlusPlus
from auditor.attributions.gradient import GradXInput, Method, SimpleGrad, Smoothed
from auditor.attributions.noise import SHOWN, Noise, Sampler, Spread
from auditor.attributions.optimal import Optimal
from auditor.attributions.path import (
    BASELINES,
    RULES,
    IntegratedGradients,
    SmoothIntegratedGradients,
)
from auditor.attributions.shap import KernelShap
from auditor.errors import InputError

Reader = Callable[[str], Any]
"""Reads the value of an option; raises ValueError with what would be right."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One method, and what a user may set of it.

    Attributes
    ----------
    name
        As in ``--method NAME`` and in the tables of a report.
    make
        Makes the method; takes ``options`` as keyword arguments.
    formula
        In one line; f is the explained class's logit.
    source
        Where it is defined.
    options
        What may be set, and how to read it.
    needs
        What it asks of the model beyond logits and gradients.
    """

    name: str
    make: Callable[..., Method]
    formula: str
    source: str
    options: Mapping[str, Reader] = field(default_factory=dict)
    needs: str = ""

    def defaults(self) -> dict[str, Any]:
        """What each option is if it is not set."""
        return self.values(self.make())

    def values(self, method: Method) -> dict[str, Any]:
        """What each option is in a method that ``make`` made."""
        return {name: attrgetter(_WHERE.get(name, name))(method) for name in self.options}


_WHERE: Mapping[str, str] = {"radius": "sigma", "sampler": "noise.sampler"}
"""Options that are not attributes of the method by their name."""


def _smooth(method: Method, shape: Spread, size: float) -> Callable[..., Method]:
    def make(*, sampler: Sampler = "lhs", samples: int = 50, **given: float) -> Method:
        (amount,) = given.values() or (size,)
        noise = Noise(seed=0, stream=SHOWN, sampler=sampler)
        return Smoothed(method=method, sigma=amount, samples=samples, noise=noise, shape=shape)

    return make


def _number(text: str) -> float:
    """Reads a positive size of noise."""
    found = float(text)
    if not 0 < found <= 1:
        raise ValueError("give a number above 0, at most 1 (pixel units).")
    return found


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1_000_000:
        raise ValueError("give a whole number from 1 to 1,000,000.")
    return int(text)


def _one_of(names: Iterable[str]) -> Reader:
    known = tuple(names)

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"choose one of {', '.join(known)}.")
        return text

    return read


def _uniform(*, radius: float = 4 / 255, shape: Spread = "box", **given: Any) -> Method:
    return _smooth(SimpleGrad(), shape, radius)(**given)


def _smooth_path(*, sampler: Sampler = "lhs", **given: Any) -> Method:
    noise = Noise(seed=0, stream=SHOWN, sampler=sampler)
    return SmoothIntegratedGradients(noise=noise, **given)


def _drawn(kind: Callable[..., Method], **fixed: Any) -> Callable[..., Method]:
    def make(**given: Any) -> Method:
        return kind(noise=Noise(seed=0, stream=SHOWN), **fixed, **given)

    return make


_DRAWS: Mapping[str, Reader] = {"samples": _count, "sampler": _one_of(get_args(Sampler))}
_BASELINE: Mapping[str, Reader] = {"baseline": _one_of(BASELINES)}
_LAYER: Mapping[str, Reader] = {"layer": str}

METHODS: Mapping[str, Entry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Entry(name="simple_grad", make=SimpleGrad, formula="∇f(x)", source="S0 (4)"),
            Entry(
                name="grad_x_input",
                make=GradXInput,
                formula="x ⊙ ∇f(x)",
                source="Shrikumar 2016; S3 C.1",
            ),
            Entry(
                name="smooth_grad",
                make=_smooth(SimpleGrad(), "gaussian", 0.1),
                formula="E ∇f(x + z), z normal of standard deviation sigma",
                source="Smilkov 2017; S0 (5)",
                options={"sigma": _number, **_DRAWS},
            ),
            Entry(
                name="uniform_grad",
                make=_uniform,
                formula="E ∇f(x + z), z uniform in the box ±radius, or in the ball of radius √d · "
                "radius",
                source="Wang 2020; S3 C.1; S4 B.1",
                options={"radius": _number, "shape": _one_of(("box", "ball")), **_DRAWS},
            ),
            Entry(
                name="integrated_gradients",
                make=IntegratedGradients,
                formula="(x − x₀) ⊙ ∫∇f(x₀ + α(x − x₀))dα",
                source="Sundararajan 2017; S0 (6)",
                options={"points": _count, "rule": _one_of(RULES), **_BASELINE},
            ),
            Entry(
                name="smooth_integrated_gradients",
                make=_smooth_path,
                formula="E (y − y₀) ⊙ ∇f(y₀ + α(y − y₀)), y = x + z, joint draws of z and α",
                source="S0 (5), (6)",
                options={"sigma": _number, **_DRAWS, **_BASELINE},
            ),
            Entry(
                name="grad_cam",
                make=GradCam,
                formula="relu(Σₖ αₖAₖ), αₖ the mean of ∂f/∂Aₖ, A a layer's output",
                source="Selvaraju 2017; S0 C.2",
                options=_LAYER,
                needs="a convolution, or a named layer with a grid of places",
            ),
            Entry(
                name="grad_cam_pp",
                make=GradCamPlusPlus,
                formula="relu(Σₖ αₖAₖ), αₖ = Σ g²/(2g² + ΣAₖ·g³) relu(g), g = ∂f/∂Aₖ",
                source="Chattopadhyay 2018",
                options=_LAYER,
                needs="a convolution, or a named layer with a grid of places",
            ),
            Entry(
                name="guided_backprop",
                make=GuidedBackprop,
                formula="∇f(x), only what is positive goes back through a ReLU",
                source="Springenberg 2014; S4 B.1",
                needs="ReLU, and a network from code",
            ),
            Entry(
                name="smooth_guided_backprop",
                make=_smooth(GuidedBackprop(), "gaussian", 0.1),
                formula="E guided_backprop(x + z)",
                source="S4 B.1",
                options={"sigma": _number, **_DRAWS},
                needs="ReLU, and a network from code",
            ),
            Entry(
                name="deep_lift",
                make=DeepLift,
                formula="(x − x₀) ⊙ m, m from changes instead of slopes (rescale rule)",
                source="Shrikumar 2017",
                options=_BASELINE,
                needs="a network from code",
            ),
            Entry(
                name="kernel_shap",
                make=_drawn(KernelShap),
                formula="Shapley values of superpixels, of pixels up to 28×28, by weighted least "
                "squares",
                source="Lundberg 2017; S4 B.1",
                options={"samples": _count, "segments": _count, **_BASELINE},
                needs="more than one pixel",
            ),
            Entry(
                name="noisy_baseline",
                make=_drawn(Optimal, perturbation="noisy_baseline"),
                formula="the Φ of least E (IᵀΦ − (f(x) − f(x−I)))², I = x − noise",
                source="Yeh 2019; S4 B.1",
                options={"draws": _count},
            ),
            Entry(
                name="square_removal",
                make=_drawn(Optimal, perturbation="squares"),
                formula="the Φ of least E (IᵀΦ − (f(x) − f(x−I)))², I = a square of x",
                source="Yeh 2019; S4 B.1",
                options={"draws": _count},
            ),
        )
    }
)
"""Name → method."""


def find_method(spec: str) -> Method:
    """The method that a user names: ``NAME`` or ``NAME,key=value,...``.

    >>> find_method("simple_grad").name
    'simple_grad'

    Raises
    ------
    InputError
        If there is no such method or option, or a value cannot be read.
    """
    name, *parts = (part.strip() for part in spec.split(","))
    if name not in METHODS:
        raise InputError(f"method {name!r} is unknown. Choose one of {', '.join(METHODS)}.")
    entry = METHODS[name]
    values: dict[str, Any] = {}
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in entry.options:
            known = ", ".join(f"{option}=…" for option in entry.options) or "it has none"
            raise InputError(f"method {spec}: option {part!r} is unknown. Known: {known}.")
        if key in values:
            raise InputError(f"method {spec}: {key} is given twice. Give it once.")
        try:
            values[key] = entry.options[key](value)
        except ValueError as error:
            raise InputError(f"method {spec}: {key}={value}: {error}") from None
    return entry.make(**values)


def spec_of(method: Method) -> str:
    """What :func:`find_method` makes the method from; empty for one that is not ours.

    >>> spec_of(find_method("integrated_gradients,baseline=black,points=7"))
    'integrated_gradients,points=7'
    """
    entry = METHODS.get(method.name)
    if entry is None or not isinstance(method, type(entry.make())):
        return ""
    usual = entry.defaults()
    changed = {k: v for k, v in entry.values(method).items() if v != usual[k]}
    return ",".join((method.name, *(f"{key}={value}" for key, value in changed.items())))

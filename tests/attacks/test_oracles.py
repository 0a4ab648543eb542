from __future__ import annotations

import dataclasses
import math
import time
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from attacks import (
    Boundary,
    Clean,
    Cosine,
    Difference,
    DifferencePullback,
    DoubleBackward,
    Fees,
    Mass,
    Search,
    SurrogateDifference,
    fastest,
)
from attacks.oracles import Aim, Step

from .subjects import (
    EPSILON,
    SHAPE,
    K,
    Subject,
    images,
    network,
    perceptron,
)

SIZE = math.sqrt(math.prod(SHAPE) / 784)
"""The factor of lengths that follow σ, for images of this shape."""
REACH = 28 * SIZE * EPSILON
"""The largest ℓ₂ length in the ball, which other lengths are a share of."""
FIRST, SECOND = Step(number=0, progress=0.0), Step(number=1, progress=0.0)


def aim(problem, objective=None, memory: float = 0.0) -> Aim:
    return Aim(objective or Boundary(), problem.clean, memory)


def product(matrices: Tensor, v: Tensor) -> Tensor:
    return (matrices @ v.flatten(1)[..., None])[..., 0].reshape(v.shape)


def error(found: Tensor, exact: Tensor) -> Tensor:
    return (found - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)


def dense(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """Hessians (B, d, d) of the target's logit."""

    def hessian(image: Tensor, c: int) -> Tensor:
        gradient = torch.func.jacrev(lambda p: model(p.reshape(1, *SHAPE))[0, c])
        return torch.func.jacrev(gradient)(image.flatten())

    return torch.stack([hessian(image, c) for image, c in zip(x, target.tolist(), strict=True)])


@pytest.fixture(params=[nn.Softplus, nn.Tanh], ids=["softplus", "tanh"])
def smooth_subject(request):
    """A smooth network in float64, away from the clean images, and its exact products."""
    subject = Subject.of(network(9, request.param).double(), images(9, 3).double())
    delta = subject.problem(EPSILON).start(0)
    return subject, delta, dense(subject.model, subject.x + delta, subject.target)


def test_one_end_is_a_hessian_vector_product_up_to_h(smooth_subject):
    """Against the dense Hessian: halving h halves the error, up to terms of the next order."""
    subject, delta, hessian = smooth_subject
    problem, errors = subject.problem(EPSILON), []
    for h in (0.01, 0.005):
        subject.forget()
        looking = aim(problem)
        maps, kept, found = Difference(longest=h / REACH)(problem, delta, looking, FIRST)
        here, there = subject.searched
        torch.testing.assert_close(maps, subject.maps(here.x, problem.rows)[0])
        assert torch.equal(here.x, subject.x + delta)
        assert kept.tolist() == [True] * 3
        v = Boundary().gradient(maps, problem.clean)
        v = v / v.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        torch.testing.assert_close((there.x - here.x) / h, v, rtol=0, atol=1e-12)
        errors.append(error(found, product(hessian, v)))
    assert errors[0].max() < 0.1
    ratio = errors[0] / errors[1]
    assert ((ratio > 1.9) & (ratio < 2.1)).all()


def test_the_end_alternates_and_two_of_them_make_a_central_difference(smooth_subject):
    """The mean of a step ahead and one behind has an error of h²: halving h quarters it."""
    subject, delta, hessian = smooth_subject
    problem, errors = subject.problem(EPSILON), []
    for h in (0.02, 0.01):
        subject.forget()
        oracle, looking = Difference(longest=h / REACH), aim(problem)
        ahead = oracle(problem, delta, looking, FIRST)[2]
        behind = oracle(problem, delta, looking, SECOND)[2]
        _, end, _, other = subject.searched
        torch.testing.assert_close(end.x - subject.x - delta, -(other.x - subject.x - delta))
        errors.append(error((ahead + behind) / 2, product(hessian, looking.v())))
    assert errors[0].max() < 0.05
    ratio = errors[0] / errors[1]
    assert ((ratio > 3.8) & (ratio < 4.2)).all()


def test_maps_with_noise_take_both_ends_and_their_mean_is_the_map(smooth_subject):
    """σ is tiny here, so that the exact product of the network without noise is the oracle."""
    subject, delta, hessian = smooth_subject
    problem, errors = subject.problem(EPSILON, sigma=1e-9, samples=2), []
    for h in (0.02, 0.01):
        subject.forget()
        oracle, looking = Difference(longest=h / REACH), aim(problem)
        oracle(problem, delta, looking, FIRST)
        v = looking.v()  # what the next step aims with
        subject.forget()
        middle, kept, found = oracle(problem, delta, looking, SECOND)
        (ends,) = subject.searched
        assert ends.draw == 1
        assert ends.rows.tolist() == [0, 1, 2, 0, 1, 2]
        torch.testing.assert_close(ends.x[:3] - subject.x - delta, h * v, rtol=0, atol=1e-12)
        torch.testing.assert_close(ends.x[3:] - subject.x - delta, -h * v, rtol=0, atol=1e-12)
        (asked,) = subject.predicted
        assert torch.equal(asked, subject.x + delta)
        assert kept.tolist() == [True] * 3
        maps = subject.maps(ends.x, ends.rows)[0]
        torch.testing.assert_close(middle, (maps[:3] + maps[3:]) / 2, rtol=1e-6, atol=1e-6)
        errors.append(error(found, product(hessian, v)))
    assert errors[0].max() < 0.05
    ratio = errors[0] / errors[1]
    assert ((ratio > 3.8) & (ratio < 4.2)).all()


def test_both_ends_share_their_noise_and_steps_do_not():
    """Else the difference of two maps would be mostly noise."""
    subject = Subject.small(3, 2)
    problem = subject.problem(EPSILON, sigma=0.3, samples=3)
    looking = aim(problem)
    for number in range(3):
        Difference()(problem, problem.start(0), looking, Step(number=number, progress=0.0))
    assert [look.draw for look in subject.searched] == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("sigma", "progress", "length"),
    [
        (0.0, 0.0, REACH),
        (0.0, 1.0, 0.02 * REACH),
        (0.0, 0.5, math.sqrt(0.02) * REACH),
        (0.3, 0.0, 6.0 * SIZE),  # 20σ
        (0.3, 1.0, 0.6 * SIZE),  # 2σ
        (0.001, 0.0, REACH),
        (0.001, 1.0, 0.02 * REACH),
    ],
)
def test_the_length_of_a_difference(sigma, progress, length):
    subject = Subject.small(4, 2)
    problem = subject.problem(EPSILON, sigma=sigma)
    delta, looking = problem.start(0), aim(problem)
    Difference()(problem, delta, looking, Step(number=0, progress=progress))
    moved = subject.searched[-1].x[:2] - subject.x - delta
    # Float32: the difference of two images.
    torch.testing.assert_close(
        moved.flatten(1).norm(dim=1), torch.full((2,), length), rtol=1e-4, atol=0
    )


def test_the_difference_needs_a_gradient_field():
    """The documented assumption: Jv = Jᵀv for gradients, and not for gradient times input."""
    model, x = network(11, nn.Tanh).double(), images(11, 1).double()

    def gradient(flat: Tensor) -> Tensor:
        return torch.func.grad(lambda p: model(p.view(1, *SHAPE))[0, 0])(flat)

    v = torch.randn(x.numel(), generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    symmetric = torch.func.jacrev(gradient)(x.flatten())
    torch.testing.assert_close(symmetric @ v, symmetric.T @ v, rtol=1e-9, atol=1e-12)
    other = torch.func.jacrev(lambda p: p * gradient(p))(x.flatten())
    assert (other @ v - other.T @ v).norm() > 0.1 * (other @ v).norm()
    assert "gradient fields" in (Difference.__doc__ or "")


@pytest.fixture
def hidden():
    """A ReLU network with one hidden layer, in float64, at points that are near enough to kinks.

    Elsewhere the Hessian of a sharp surrogate is nil, and a relative error says nothing.
    """
    subject = Subject.of(perceptron(16).double(), images(16, 4).double())
    return subject, subject.problem(EPSILON), subject.problem(EPSILON).start(0)


def closed_form(subject: Subject, x: Tensor, beta: float) -> Tensor:
    """Hessians Wᵀ diag(u_c · β s(1 − s)) W of the softplus twin, s = sigmoid(β(Wx + b))."""
    _, first, _, last = subject.model
    s = torch.sigmoid(beta * first(x.flatten(1)))
    curvature = last.weight[subject.target] * beta * s * (1 - s)
    return torch.einsum("hi,bh,hj->bij", first.weight, curvature, first.weight)


@pytest.mark.parametrize(("progress", "beta"), [(0.0, 10.0), (0.5, math.sqrt(1000)), (1.0, 100.0)])
def test_double_backward_is_the_surrogates_exact_product(hidden, progress, beta):
    subject, problem, delta = hidden
    looking, step = aim(problem, Mass()), Step(number=3, progress=progress)
    maps, kept, found = DoubleBackward()(problem, delta, looking, step)
    exact = product(closed_form(subject, subject.x + delta, beta), looking.v())
    # Torch's softplus is linear beyond βz = 20, where its curvature is 2e-9 of the largest.
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-7 * exact.abs().max().item())
    truth, logits = subject.maps(subject.x + delta, problem.rows)
    assert torch.equal(maps, truth)
    assert torch.equal(kept, logits.argmax(dim=1) == subject.target)


@pytest.mark.parametrize(("progress", "beta"), [(0.0, 10.0), (1.0, 100.0)])
def test_surrogate_difference_is_central(hidden, progress, beta):
    """Against the closed form; its error is h²: halving h quarters it."""
    subject, problem, delta = hidden
    looking, step, errors = aim(problem, Mass()), Step(number=3, progress=progress), []
    for h in (0.02 / beta, 0.01 / beta):
        subject.forget()
        oracle = SurrogateDifference(longest=h / REACH, shortest=h / SIZE)
        maps, _, found = oracle(problem, delta, looking, step)
        (ends,) = subject.surrogate
        assert (ends.draw, ends.rows.tolist()) == (3, [0, 1, 2, 3] * 2)
        assert torch.equal(maps, subject.maps(subject.x + delta, problem.rows)[0])
        exact = product(closed_form(subject, subject.x + delta, beta), looking.v())
        errors.append(error(found, exact))
    assert errors[0].max() < 0.05
    ratio = errors[0] / errors[1]
    assert ((ratio > 3.5) & (ratio < 4.5)).all()


@pytest.mark.parametrize("oracle", [DoubleBackward(), SurrogateDifference()])
def test_an_oracle_that_needs_a_surrogate_says_so(oracle):
    problem = dataclasses.replace(Subject.small(0, 1).problem(EPSILON), twin=None)
    with pytest.raises(ValueError, match="needs a surrogate"):
        Search(steps=1, oracle=oracle).run(problem)


def test_an_oracle_that_needs_gradients_says_so():
    with pytest.raises(ValueError, match="made of gradients"):
        Search(steps=1, oracle=DifferencePullback()).run(Subject.small(0, 1).problem(EPSILON))


def test_the_product_rule_is_asked_at_the_iterate_with_a_length_that_shrinks(hidden):
    subject, problem, delta = hidden
    asked = []

    def pullback(x, v, *, rows, draw, length):
        asked.append((x, v, rows, draw, length))
        return 7 * v

    problem = dataclasses.replace(problem, pullback=pullback)
    for progress in (0.0, 1.0):
        looking, step = aim(problem, Mass()), Step(number=3, progress=progress)
        maps, _, found = DifferencePullback()(problem, delta, looking, step)
        x, v, rows, draw, _ = asked[-1]
        assert torch.equal(x, problem.x + delta)
        assert torch.equal(maps, subject.maps(x, problem.rows)[0])
        assert torch.equal(found, 7 * looking.v())
        assert torch.equal(v, looking.v())
        assert (rows.tolist(), draw) == (problem.rows.tolist(), 3)
    torch.testing.assert_close(asked[1][4] / asked[0][4], torch.full_like(asked[0][4], 0.02))


@pytest.mark.parametrize(
    ("oracle", "sigma", "cost"),
    [
        (Difference(), 0.0, 2),
        (Difference(), 0.1, 2 * 4 + 1),
        (SurrogateDifference(), 0.0, 3),
        (SurrogateDifference(), 0.1, 3 * 4),
        (DoubleBackward(), 0.0, 4),
        (DoubleBackward(), 0.1, 4 * 4),
    ],
)
def test_a_step_costs_what_it_says(oracle, sigma, cost):
    """A double backward is booked as three gradients; with noise a map is 4 samples."""
    subject = Subject.small(14, 3)
    problem = subject.problem(EPSILON, sigma=sigma, samples=4)
    looking = aim(problem)
    looking.see(problem.clean.maps + torch.randn(problem.x.shape))
    oracle(problem, problem.start(0), looking, FIRST)
    assert oracle.cost(problem.fees) == cost == subject.spent(problem)


def test_aim_averages_the_maps_and_has_unit_length():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn((3, 4, *SHAPE), generator=generator)
    clean = Clean(maps=torch.randn((4, *SHAPE), generator=generator), k=K)
    looking = Aim(Cosine(), clean, 0.75)
    for seen in maps:
        looking.see(seen)
    mean = 0.75 * (0.75 * maps[0] + 0.25 * maps[1]) + 0.25 * maps[2]
    expected = Cosine().gradient(mean, clean)
    expected = expected / expected.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(looking.v(), expected)
    some = looking.take(torch.tensor([3, 1]))
    torch.testing.assert_close(some.v(), expected[[3, 1]])
    assert torch.equal(looking.mean, Aim.take(looking, torch.arange(4)).mean)


def test_without_memory_the_aim_is_the_last_map_and_a_zero_map_aims_nowhere():
    clean = Clean(maps=torch.rand((2, *SHAPE)), k=K)
    looking = Aim(Mass(), clean, 0.0)
    looking.see(torch.rand((2, *SHAPE)))
    looking.see(torch.zeros((2, *SHAPE)))
    assert not looking.v().any()


@dataclasses.dataclass(frozen=True)
class Quick:
    """Costs a tenth of the slow one."""

    seconds: float = 0.002

    def __call__(self, problem, delta, aim, step):
        time.sleep(self.seconds)
        return torch.zeros_like(delta), torch.ones(len(problem), dtype=torch.bool), delta

    def cost(self, fees: Fees) -> float:
        return 1.0


class Slow(Quick):
    """The same, but."""


def test_fastest_picks_the_one_that_takes_less_time():
    problem = Subject.small(0, 2).problem(EPSILON)
    quick, slow = Quick(), Slow(0.1)
    for order in ([quick, slow], [slow, quick]):
        chosen, seconds = fastest(problem, Boundary(), order)
        assert chosen is quick
        assert seconds["Quick"] >= 0.002
        assert seconds["Slow"] >= 0.1


@pytest.mark.parametrize(("share", "wins"), [(1.0, 0), (0.85, 0), (0.75, 1), (1.5, 0)])
def test_a_later_oracle_wins_only_if_clearly_faster(monkeypatch, share, wins):
    """By a clock of its own, for real ones vary; the warm-up does not count."""
    now, calls = [0.0], []

    class Timed(Quick):
        def __call__(self, problem, delta, aim, step):
            calls.append(self.seconds)
            warming = calls.count(self.seconds) == 1
            now[0] += 100.0 if warming and self.seconds < 1 else self.seconds
            return torch.zeros_like(delta), torch.ones(len(problem), dtype=torch.bool), delta

    class Other(Timed):
        pass

    monkeypatch.setattr("attacks.oracles.time", SimpleNamespace(perf_counter=lambda: now[0]))
    oracles = [Timed(1.0), Other(share)]
    chosen, seconds = fastest(Subject.small(0, 1).problem(EPSILON), Boundary(), oracles)
    assert chosen is oracles[wins]
    assert seconds == pytest.approx({"Timed": 1.0, "Other": share})

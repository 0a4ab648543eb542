from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import structural_similarity
from torch import Tensor

from auditor.errors import InputError
from auditor.metrics import drift as metrics
from auditor.metrics.drift import Reference, auc_over_eps, chance, default_k, drift, iou_k

EXACT = 1e-12  # float64 rounding over a few hundred terms


def random_pair(seed: int, size: int = 16, channels: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(5, channels, size, size, generator=generator)
    return a, a + torch.randn(a.shape, generator=generator)


def flat(raw: Tensor) -> np.ndarray:
    return np.abs(raw.numpy().astype(np.float64)).sum(axis=1).reshape(len(raw), -1)


def one(rows: list[list[float]]) -> Tensor:
    return torch.tensor([[rows]])


# --- against independent implementations


def test_top_pixels_equal_sets():
    a, b = random_pair(0)
    k = 20
    for i, (x, y) in enumerate(zip(flat(a), flat(b), strict=True)):
        top_x, top_y = set(np.argsort(-x)[:k]), set(np.argsort(-y)[:k])
        shared = len(top_x & top_y)
        assert metrics.topk_intersection(a, b, k)[i] == shared / k
        assert metrics.topk_iou(a, b, k)[i].item() == pytest.approx(
            shared / len(top_x | top_y), abs=EXACT
        )
        assert metrics.topk_mass(a, b, k)[i].item() == pytest.approx(
            y[list(top_x)].sum() / y.sum(), abs=EXACT
        )


@pytest.mark.parametrize("levels", [None, 3], ids=["no ties", "many ties"])
def test_spearman_equals_scipy(levels):
    a, b = random_pair(1, channels=1)
    if levels:
        a, b = (a * levels).round(), (b * levels).round()
    expected = [
        scipy.stats.spearmanr(x, y).statistic for x, y in zip(flat(a), flat(b), strict=True)
    ]
    np.testing.assert_allclose(metrics.spearman(a, b).numpy(), expected, rtol=0, atol=EXACT)


def test_center_shift_equals_the_sum_written_out():
    a, b = random_pair(2)
    rows, columns = np.mgrid[:16, :16].reshape(2, -1)
    for i, (x, y) in enumerate(zip(flat(a), flat(b), strict=True)):
        dr = (rows * x).sum() / x.sum() - (rows * y).sum() / y.sum()
        dc = (columns * x).sum() / x.sum() - (columns * y).sum() / y.sum()
        assert metrics.center_shift(a, b)[i].item() == pytest.approx(np.hypot(dr, dc), abs=EXACT)


def test_raw_metrics_equal_numpy():
    a, b = random_pair(3)
    x, y = (t.double().numpy().reshape(len(t), -1) for t in (a, b))
    norm = np.linalg.norm
    cosine = 1 - (x * y).sum(axis=1) / (norm(x, axis=1) * norm(y, axis=1))
    np.testing.assert_allclose(metrics.cosine_distance(a, b), cosine, rtol=0, atol=EXACT)
    np.testing.assert_allclose(metrics.l2(a, b), norm(x - y, axis=1), rtol=EXACT)
    np.testing.assert_allclose(
        metrics.relative_l2(a, b), norm(x - y, axis=1) / norm(x, axis=1), rtol=EXACT
    )


def test_ssim_equals_scikit_image_on_clipped_maps():
    a, b = random_pair(4, size=14)

    def picture(values: np.ndarray) -> np.ndarray:
        low, high = values.min(), np.percentile(values, 99)
        return ((np.clip(values, low, high) - low) / (high - low)).reshape(14, 14)

    for i, (x, y) in enumerate(zip(flat(a), flat(b), strict=True)):
        expected = structural_similarity(
            picture(x),
            picture(y),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
        )
        assert metrics.ssim(a, b)[i].item() == pytest.approx(expected, abs=1e-10)


# --- small tables worked out by hand


@pytest.mark.parametrize(
    ("metric", "a", "b", "expected"),
    [
        ("topk_intersection", [[4, 3, 0], [0, 0, 1]], [[4, 0, 3], [0, 0, 1]], 1 / 2),
        ("topk_iou", [[4, 3, 0], [0, 0, 1]], [[4, 0, 3], [0, 0, 1]], 1 / 3),
        ("topk_mass", [[4, 3, 0], [0, 0, 1]], [[4, 0, 3], [0, 0, 1]], 4 / 8),
        # Of three equal pixels the two lower indices are in the top 2.
        ("topk_intersection", [[1, 1, 1]], [[0, 1, 2]], 1 / 2),
        ("topk_intersection", [[1, 1, 1]], [[1, 2, 0]], 1),
        ("spearman", [[1, 2, 3]], [[-3, 2, 1]], -1),
        ("spearman", [[1, 2, 2]], [[1, 2, 3]], math.sqrt(3) / 2),
        ("center_shift", [[1, 0], [0, 0]], [[0, 0], [0, -5]], math.sqrt(2)),
        ("center_shift", [[1, 1, 0, 0]], [[1, 0, 0, 0]], 0.5),
        ("cosine_distance", [[1, 0]], [[-2, 0]], 2),
        ("cosine_distance", [[1, 0]], [[0, 3]], 1),
        ("l2", [[1, 2]], [[4, -2]], 5),
        ("l2", [[0, 0]], [[3, 4]], 5),
        ("relative_l2", [[3, 4]], [[0, 0]], 1),
    ],
)
def test_small_tables(metric, a, b, expected):
    k = (2,) if metric.startswith("topk") else ()
    value = getattr(metrics, metric)(one(a).float(), one(b).float(), *k)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize(("first", "second"), [((8, 8), (20, 20)), ((14, 14), (14, 15))])
def test_ssim_flatters_two_disjoint_spikes(first, second):
    """What the docstring warns of; top-k intersection sees that nothing is shared."""
    a, b = torch.zeros(2, 1, 1, 28, 28)
    a[0, 0][first] = b[0, 0][second] = 1
    assert metrics.ssim(a, b).item() > 0.7
    assert metrics.topk_intersection(a, b, 1).item() == 0


# --- what is undefined

BOTH = set(metrics.UNITS)
RANKED = BOTH - {"l2", "relative_l2"}


@pytest.mark.parametrize(
    ("clean", "moved", "undefined"),
    [
        ("map", "map", set()),
        ("map", "zero", RANKED),
        ("zero", "map", BOTH - {"l2"}),
        ("zero", "zero", BOTH - {"l2"}),
        ("map", "nan", BOTH),
        ("inf", "map", BOTH),
        ("constant", "map", {"spearman"}),
    ],
)
def test_undefined_is_nan_and_stays_with_its_image(clean, moved, undefined):
    a, b = random_pair(5)
    planted = {"zero": 0.0, "nan": math.nan, "inf": math.inf, "constant": 2.0}
    expected = drift(a, b, k=20)
    for maps, kind in ((a, clean), (b, moved)):
        if kind != "map":
            maps[2] = planted[kind]
    values = drift(a, b, k=20)
    assert {name for name, value in values.items() if value[2].isnan()} == undefined
    others = [0, 1, 3, 4]
    for name, value in values.items():
        torch.testing.assert_close(value[others], expected[name][others], rtol=0, atol=EXACT)


def test_ssim_needs_its_window():
    for size, applicable in ((10, False), (11, True)):
        a, b = random_pair(6, size=size)
        assert metrics.ssim(a, b).isfinite().all().item() is applicable


def test_bad_arguments_are_refused():
    a, b = random_pair(7, size=4)
    for k in (0, 17):
        with pytest.raises(InputError, match="between 1 and the 16 pixels"):
            metrics.topk_iou(a, b, k)
    with pytest.raises(ValueError, match="do not compare"):
        metrics.l2(a, b[:1])
    with pytest.raises(ValueError, match="raw maps"):
        metrics.spearman(a[0], b[0])


# --- all nine together


@pytest.mark.parametrize(("k", "k_of_iou"), [(20, 20), (7, 7)])
def test_drift_equals_the_single_metrics(k, k_of_iou):
    a, b = random_pair(8)
    values = Reference(a, k).drift(b)
    assert list(values) == list(metrics.UNITS)
    for name, value in values.items():
        arguments = {"topk_iou": (k_of_iou,)}.get(name, (k,) if name.startswith("topk") else ())
        assert torch.equal(value, getattr(metrics, name)(a, b, *arguments))
        assert value.shape == (5,)
        assert value.dtype == torch.float64


def test_reference_serves_many_maps():
    a, b = random_pair(9)
    reference = Reference(a, 20, k_iou=5)
    for moved in (b, a, b):
        values = reference.drift(moved)
        assert torch.equal(values["spearman"], metrics.spearman(a, moved))
        assert torch.equal(values["topk_iou"], metrics.topk_iou(a, moved, 5))


def test_iou_takes_its_own_k_at_224():
    generator = torch.Generator().manual_seed(10)
    a, b = torch.randn(2, 1, 1, 224, 224, generator=generator)
    for k, k_of_iou in ((1000, 500), (900, 900)):
        assert torch.equal(drift(a, b, k=k)["topk_iou"], metrics.topk_iou(a, b, k_of_iou))


def test_every_image_stands_alone():
    a, b = random_pair(11)
    together = drift(a, b, k=20)
    for i in range(len(a)):
        for name, value in drift(a[i : i + 1], b[i : i + 1], k=20).items():
            # Sums may be ordered otherwise in another batch.
            torch.testing.assert_close(value, together[name][i : i + 1], rtol=EXACT, atol=EXACT)


def test_unrelated_maps_meet_at_chance():
    generator = torch.Generator().manual_seed(12)
    a, b = torch.randn(2, 400, 1, 28, 28, generator=generator)
    level = chance(20, 28, 28)
    # Hypergeometric: sd .035 per pair, so .0018 for the mean of 400; five of them.
    assert metrics.topk_intersection(a, b, 20).mean().item() == pytest.approx(level, abs=0.009)
    # The mass of 20 random pixels is narrower still.
    assert metrics.topk_mass(a, b, 20).mean().item() == pytest.approx(level, abs=0.009)
    iou = metrics.topk_iou(a, b, 20).mean().item()
    assert iou == pytest.approx(level / (2 - level), abs=0.009)


# --- properties


@st.composite
def map_pairs(draw):
    shape = (2, draw(st.integers(1, 2)), 11, draw(st.integers(11, 13)))
    # Few distinct values make ties and zeros likely; powers of two keep scaling exact.
    element = st.sampled_from([0.0, 0.0, 1.0, -1.0, 0.25, 3.0, -7.5, 1e-3])
    arrays = hnp.arrays(np.float32, shape, elements=element, fill=st.just(0.0))
    return tuple(torch.from_numpy(draw(arrays).copy()) for _ in range(2))


@settings(deadline=None, max_examples=60)
@given(map_pairs(), st.integers(1, 121))
def test_values_stay_in_range(pair, k):
    for name, value in drift(*pair, k=k).items():
        low, high = metrics.RANGES.get(name, (0.0, math.inf))
        assert (value.isnan() | ((value >= low) & (value <= high))).all(), name


@settings(deadline=None, max_examples=60)
@given(map_pairs(), st.integers(1, 121))
def test_symmetry(pair, k):
    a, b = pair
    there, back = drift(a, b, k=k), drift(b, a, k=k)
    for name in BOTH - {"topk_mass", "relative_l2"}:
        torch.testing.assert_close(
            there[name], back[name], rtol=EXACT, atol=EXACT, equal_nan=True, msg=name
        )


@settings(deadline=None, max_examples=60)
@given(map_pairs(), st.integers(1, 121), st.integers(-20, 20))
def test_scale_does_not_matter(pair, k, power):
    a, b = pair
    plain, scaled = drift(a, b, k=k), drift(a, b * 2.0**power, k=k)
    for name in BOTH - {"l2", "relative_l2"}:
        torch.testing.assert_close(
            plain[name], scaled[name], rtol=1e-9, atol=1e-9, equal_nan=True, msg=name
        )


@settings(deadline=None, max_examples=60)
@given(map_pairs(), st.integers(1, 121))
def test_a_map_equals_itself(pair, k):
    a, _ = pair
    shown = (a != 0).flatten(1).any(dim=1)
    same = {"topk_intersection": 1, "topk_iou": 1, "ssim": 1}
    apart = {"center_shift": 0, "cosine_distance": 0, "l2": 0, "relative_l2": 0}
    values = drift(a, a.clone(), k=k)
    for name, expected in (same | apart).items():
        torch.testing.assert_close(
            values[name][shown],
            torch.full_like(values[name][shown], expected),
            rtol=0,
            atol=1e-9,
            msg=name,
        )
    rank = values["spearman"]
    assert (rank.isnan() | ((rank - 1).abs() < EXACT)).all()


# --- settings and areas


@pytest.mark.parametrize(
    ("height", "width", "k", "k_of_iou"),
    [
        (28, 28, 20, 20),
        (32, 32, 20, 20),
        (64, 64, 80, 80),
        (224, 224, 1000, 500),
        (240, 240, 1152, 1152),
        (40, 30, 24, 24),
        (3, 4, 12, 12),
    ],
)
def test_default_k(height, width, k, k_of_iou):
    assert default_k(height, width) == k
    assert iou_k(height, width) == k_of_iou


def test_chance_is_a_share_of_the_pixels():
    assert chance(20, 28, 28) == 20 / 784


def test_area_over_eps():
    values = {2: torch.tensor([1.0, 0.8]), 4: torch.tensor([1.0, 0.6])}
    values |= {8: torch.tensor([1.0, 0.2]), 16: torch.tensor([1.0, math.nan])}
    area = auc_over_eps({0.5: torch.zeros(2)} | values)
    assert area[0] == 3
    assert area[1].isnan()
    values[16] = torch.tensor([1.0, 0.0])
    assert auc_over_eps(values)[1].item() == pytest.approx(0.4 + 0.6 + 0.2, abs=1e-7)  # float32
    del values[8]
    with pytest.raises(ValueError, match=r"missing \[8\]"):
        auc_over_eps(values)

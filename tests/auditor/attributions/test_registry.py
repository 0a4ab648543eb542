from __future__ import annotations

import pytest

from auditor.attributions import Custom
from auditor.attributions.registry import METHODS, find_method, spec_of
from auditor.errors import InputError


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_found_by_its_name(name):
    assert find_method(name).name == name
    assert METHODS[name].name == name


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("saliency", "method 'saliency' is unknown. Choose one of simple_grad"),
        ("simple_grad,points=3", "option 'points=3' is unknown. Known: it has none"),
    ],
)
def test_what_is_not_understood_ends_with_one_line(spec, message):
    with pytest.raises(InputError) as caught:
        find_method(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        *METHODS,
        "smooth_grad,sigma=0.25,samples=7,sampler=iid",
        "uniform_grad,radius=0.05,shape=ball",
        "integrated_gradients,points=7,rule=trapezoid,baseline=mean",
        "smooth_integrated_gradients,sigma=0.2,samples=9,baseline=blurred",
        "grad_cam,layer=features.3",
        "kernel_shap,samples=300,segments=20",
    ],
)
def test_a_method_tells_what_it_is_made_from(spec):
    method = find_method(spec)
    assert spec_of(method) == spec
    assert find_method(spec_of(method)) == method


def test_a_users_function_of_a_methods_name_is_not_ours():
    assert spec_of(Custom(function=lambda model, x, target: x, name="simple_grad")) == ""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

import profiles
from profiles import (
    Criterion,
    Gates,
    Measure,
    Objective,
    ProfileError,
    Threat,
    load_profile,
)
from profiles.schema import KEYS

FOLDER = Path(profiles.__file__).parent
COMPLIANCE = (FOLDER / "compliance.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["clinical", "compliance", "debugging", "discovery"])
def test_shipped_profiles_load_and_say_where_every_threshold_comes_from(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.confidence == (0.99 if name == "clinical" else 0.95)
    for criterion in profile.criteria:
        assert criterion.basis == "judgment"
        assert criterion.because.startswith("A judgment"), "no paper derives these thresholds"
    assert "Judgments" in profile.gates.because
    assert profile.sha256 == hashlib.sha256((FOLDER / f"{name}.toml").read_bytes()).hexdigest()


def test_available_lists_every_file():
    assert profiles.available() == ("clinical", "compliance", "debugging", "discovery")


def test_gates_are_those_of_the_mathematics():
    for name in profiles.available():
        gates = load_profile(name).gates
        assert (gates.self_overlap, gates.label_kept, gates.reinitialized_margin) == (
            0.8,
            0.9,
            0.25,
        )


@pytest.mark.parametrize(
    ("name", "size", "epsilons"),
    [
        ("compliance", (28, 28), (4.0,)),
        ("compliance", (127, 129), (4.0,)),
        ("compliance", (128, 128), (0.5,)),
        ("debugging", (28, 28), (2.0,)),
        ("debugging", (224, 224), (0.25,)),
        ("discovery", (28, 28), (2.0,)),  # no attack criterion, but the front needs one size
    ],
)
def test_attack_sizes_fit_the_input(name, size, epsilons):
    profile = load_profile(name)
    assert profile.attack_epsilons(*size) == epsilons
    assert profile.front_epsilon(*size) in epsilons


def test_a_profile_of_the_user_is_read_from_a_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(COMPLIANCE.replace('name = "compliance"', 'name = "mine"'))
    profile = load_profile(path)
    assert profile.name == "mine"
    assert profile.sha256 != load_profile("compliance").sha256


def test_a_criterion_may_declare_its_own_attack_size(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(COMPLIANCE.replace('comparison = ">="', 'comparison = ">="\nepsilon = 8'))
    profile = load_profile(path)
    assert profile.criteria[0].epsilon == 8
    assert profile.criteria[0].epsilon_large is None
    assert profile.attack_epsilons(28, 28) == (4.0, 8.0)
    assert profile.attack_epsilons(224, 224) == (0.5, 8.0)


ERRORS = [
    # replaced, by, and what the message must name
    ('title = "Compliance evidence"', 'titel = "x"', ["unknown key 'titel'", "'title'"]),
    ("bound = 0.6", "bound = 0.6\nepsilom = 4", ["[[criteria]] number 1", "'epsilom'", "epsilon"]),
    ("bound = 0.6", "zzz = 1", ["unknown key 'zzz'", "Known keys"]),
    ("bound = 0.6", "bound = 0.6\nconfidence = 1", ["[[criteria]] number 1", "confidence is 1"]),
    ("bound = 0.6", "bound = 0.6\nimages = 3", ["number 1", "images is 3", "from 30"]),
    ('basis = "judgment"', 'basis = "hearsay"', ["basis 'hearsay'", "regulation"]),
    ('direction = "max', 'indifference = -1\ndirection = "max', ["[objective]", "indifference"]),
    ("[gates]", "[measure]\nsigmas = [2]\n[gates]", ["[measure]", "sigmas", "[0, 1]"]),
    ("[gates]", "[measure]\nsamples = 1.5\n[gates]", ["samples is 1.5", "whole number"]),
    ('metric = "topk_intersection"', 'metric = "gini"', ["[objective]", "probe = 'quality'"]),
    ('metric = "topk_intersection"', 'metric = "zip"', ["[objective]", "no probe measures"]),
    ("bound = 0.6", "", ["[[criteria]] number 1", "'bound' is missing"]),
    ("bound = 0.6", 'bound = "high"', ["bound must be a finite number", "'high'"]),
    ("bound = 0.6", "bound = true", ["bound must be a finite number", "True"]),
    ("bound = 0.6", "bound = nan", ["bound must be a finite number", "nan"]),
    ("bound = 0.6", "bound = 1.5", ["bound is 1.5", "[0, 1]"]),
    ("bound = 0.6", "bound = -0.1", ["bound is -0.1"]),
    ('comparison = ">="', 'comparison = "<="', ["topk_intersection <=", "bad map"]),
    ('comparison = ">="', 'comparison = "=="', ["'=='", ">=, <="]),
    ('direction = "maximize"', 'direction = "minimize"', ["[objective]", "minimize"]),
    ('probe = "smoothing"', 'probe = "magic"', ["[[criteria]] number 2", "'magic'", "twin"]),
    ('metric = "normalized_fidelity_error"', 'metric = "fidelty"', ["'fidelty'", "ssim"]),
    ('attack = "strongest"', 'attack = "transfer"', ["'transfer'", "strongest"]),
    ('probe = "smoothing"', 'probe = "smoothing"\nepsilon = 4', ["'epsilon'", "probe 'attack'"]),
    ("confidence = 0.95", "confidence = 1.0", ["confidence is 1"]),
    ("confidence = 0.95", "confidence = 0", ["confidence is 0"]),
    ("confidence = 0.95", "confidence = [0.95]", ["confidence must be a finite number"]),
    ("epsilon = 4", "epsilon = 0", ["[threat]", "epsilon is 0"]),
    ("epsilon = 4", "epsilon = 256", ["epsilon is 256", "(0, 255]"]),
    ("epsilon_large = 0.5", "epsilon_large = -1", ["epsilon_large is -1"]),
    ("self_overlap = 0.8", "self_overlap = 1.1", ["[gates]", "self_overlap is 1.1"]),
    ("self_overlap = 0.8", "", ["[gates]", "'self_overlap' is missing"]),
    ('name = "fidelity"', 'name = "worst_case_overlap"', ["two criteria", "worst_case_overlap"]),
    ('name = "compliance"', 'name = ""', ["name must be"]),
    ('name = "compliance"', 'name = "a\\u0000b"', ["name must be", "printable"]),
    ('name = "compliance"', "name = 7", ["name must be text"]),
    ('name = "compliance"', "name.a.b = 7", ["name must be text"]),
    ("[gates]", "[gate]", ["unknown key 'gate'", "'gates'"]),
    ("[threat]", "[threat", ["not valid TOML", "line"]),
    ("confidence = 0.95", f"confidence = {'9' * 5000}", ["not valid TOML"]),
    ("confidence = 0.95", "confidence = " + "[" * 20000, ["not valid TOML"]),
]


@pytest.mark.parametrize(("old", "new", "words"), ERRORS)
def test_errors_name_the_place_and_the_remedy(tmp_path, old, new, words):
    assert old in COMPLIANCE
    path = tmp_path / "mine.toml"
    path.write_text(COMPLIANCE.replace(old, new, 1))
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    message = str(caught.value)
    assert "mine.toml" in message
    assert len(message.splitlines()) <= 2
    for word in words:
        assert word in message


def test_unknown_names_list_the_known_ones():
    with pytest.raises(
        ProfileError, match=r"complience.*\nKnown.*clinical, compliance, debugging, discov"
    ):
        load_profile("complience")


@pytest.mark.parametrize("hostile", ["", "\0", "x" * 5000, "."])
def test_hostile_names_are_refused(hostile):
    with pytest.raises(ProfileError):
        load_profile(hostile)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"# " + b"x" * 70_000])
def test_hostile_files_are_refused(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ProfileError):
        load_profile(path)


def test_criteria_must_be_a_list_of_sections(tmp_path):
    path = tmp_path / "mine.toml"
    head = COMPLIANCE[: COMPLIANCE.index("[[criteria]]")]
    gates = COMPLIANCE[COMPLIANCE.index("[gates]") :]
    for criteria in ("criteria = []\n", "criteria = 3\n", "criteria = [3]\n"):
        path.write_text(criteria + head + gates)
        with pytest.raises(ProfileError, match="criteria"):
            load_profile(path)


def test_a_dotted_key_of_great_depth_does_not_overflow(tmp_path):
    path = tmp_path / "mine.toml"
    deep = "name" + ".a" * 5000 + " = 1"
    path.write_text(COMPLIANCE.replace('name = "compliance"', deep, 1))
    with pytest.raises(ProfileError):
        load_profile(path)


GAIN = """
[[criteria]]
name = "gain"
title = "Gain"
probe = "attack"
attack = "strongest"
metric = "topk_intersection"
compared_to = "unsmoothed"
comparison = ">="
bound = 0.1
because = "A judgment."
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'metric = "normalized_fidelity_error"',
            'compared_to = "unsmoothed"\nmetric = "normalized_fidelity_error"',
            ["'fidelity'", "at its best there", "compared_to"],
        ),
        (
            "bound = 1.0",
            "bound = 0.0",
            ["'fidelity' allows no smoothing", "'gain' asks for a gain", "Relax"],
        ),
        (
            'name = "gain"',
            'name = "again"',
            ["'gain' and 'again' limit the same quantity", "Keep the stricter"],
        ),
    ],
    ids=["better than the best", "gain without smoothing", "twice"],
)
def test_contradictory_criteria_are_refused(tmp_path, old, new, words):
    text = COMPLIANCE.replace("[gates]", f"{GAIN}\n[gates]")
    if new == 'name = "again"':
        text = text.replace("[gates]", f"{GAIN.replace(old, new)}\n[gates]")
    else:
        bound = "bound = -0.1" if "compared_to" in new else "bound = 1.0"
        text = text.replace("bound = 1.0", bound).replace(old, new)
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 2
    assert [word for word in words if word not in message] == []


def test_a_profile_may_say_what_to_measure(tmp_path):
    path = tmp_path / "mine.toml"
    measure = "[measure]\nsigmas = [0.2, 0.1]\nsamples = 16\nbudget = 90\n\n[gates]"
    path.write_text(COMPLIANCE.replace("[gates]", measure))
    assert load_profile(path).measure == Measure(sigmas=(0.1, 0.2), samples=16, budget=90)


@pytest.mark.parametrize("section", [section for section in KEYS if section])
def test_the_schema_lists_the_keys_that_are_read(section):
    kind = {
        "threat": Threat,
        "measure": Measure,
        "objective": Objective,
        "criteria": Criterion,
        "gates": Gates,
    }[section]
    assert set(KEYS[section]) == {field.name for field in dataclasses.fields(kind)}

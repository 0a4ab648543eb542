"""Deciding again from what was measured."""

from __future__ import annotations

import pytest

from auditor.reconsider import other_verdicts, reconsider
from profiles import available, load_profile


def test_the_own_profile_says_the_same_again(audited):
    again = reconsider(audited, load_profile(audited.profile.name))
    assert again == audited.recommendation


def test_every_other_profile_is_asked(audited):
    found = other_verdicts(audited)
    assert set(found) == set(available()) - {audited.profile.name}
    for answer in found.values():
        assert [option.sigma for option in answer.options] == list(audited.sigmas)
        assert answer.verdict == "inconclusive"  # twelve images
        assert answer.sigma is None


@pytest.mark.parametrize("name", available())
def test_nothing_is_measured(audited, name, monkeypatch):
    monkeypatch.setattr("torch.autograd.grad", None)
    reconsider(audited, load_profile(name))

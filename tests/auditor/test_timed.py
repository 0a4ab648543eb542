from __future__ import annotations

import time

import pytest
import torch

from auditor.evaluation import Evaluator
from auditor.timed import TimedEvaluator


@pytest.mark.parametrize("name", ["logits", "gradients", "margin_gradients", "pullbacks"])
def test_only_evaluations_are_timed_and_nothing_else_changes(classifier, held_out, name):
    x = held_out[0][:3]
    target = torch.tensor([1, 2, 3])
    given = {"logits": (x,), "pullbacks": (x, target, x)}.get(name, (x, target))
    timed = TimedEvaluator(model=classifier, batch=2)
    time.sleep(0.2)
    found = getattr(timed, name)(*given)
    assert 0 < timed.clock.seconds < 0.2
    expected = getattr(Evaluator(model=classifier, batch=2), name)(*given)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)

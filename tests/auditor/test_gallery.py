"""Which images are shown."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.gallery import gallery_rows

NAN = np.nan
TABLE = {
    "none counts": ([NAN, NAN], ()),
    "one": ([NAN, 0.3], (1,)),
    "all are shown": ([0.4, 0.1, 0.3], (1, 2, 0)),
    # the median of 0.0 … 0.9 is .45
    "worst, then the middle": ([v / 10 for v in range(10)], (0, 1, 2, 3, 4, 5)),
    "ties in order": ([0.5] * 8, (0, 1, 2, 3, 4, 5)),
    "the middle is not shown twice": ([0.0, 0.1, 0.1, 0.1, 0.2, 0.9, NAN], (0, 1, 2, 3, 4, 5)),
}


@pytest.mark.parametrize(("overlap", "rows"), TABLE.values(), ids=TABLE)
def test_the_worst_and_the_middle(overlap, rows):
    assert gallery_rows(np.array(overlap)) == rows

"""Choose images by a seeded rule before they are read; read them to see that they can be used."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from auditor.decoding import UnusableImageError
from auditor.listing import Listing, Reader
from auditor.safe_files import Skipped


@dataclass(frozen=True)
class Drawn:
    """An image that was chosen and is readable; ``digest`` is the SHA-256 of its bytes."""

    read: Reader
    digest: str


def draw(listing: Listing, wanted: int, *, seed: int, skipped: Skipped) -> dict[int, Drawn]:
    """Choose one image of each class in turn until there are enough, in order of the listing.

    What is unreadable is replaced by the next of the draw, and goes to ``skipped``. Pixels are
    decoded one image at a time and not kept.
    """
    rng = np.random.default_rng(seed)
    groups: dict[int | None, list[int]] = defaultdict(list)
    for place in range(len(listing.names)):
        groups[listing.labels[place] if listing.labels else None].append(place)
    queues = [rng.permutation(group).tolist() for group in groups.values()]
    queues = [queues[i] for i in rng.permutation(len(queues))]
    drawn: dict[int, Drawn] = {}
    while any(queues) and len(drawn) < wanted:
        for queue in queues:
            while queue and len(drawn) < wanted:
                place = queue.pop()
                try:
                    read = listing.reader(place)
                    _, digest = read()
                except UnusableImageError as error:
                    skipped.append((listing.names[place], str(error)))
                else:
                    drawn[place] = Drawn(read, digest)
                    break
    return dict(sorted(drawn.items()))


def sentence(count: int, available: int, wanted: int, *, seed: int, labeled: bool) -> str:
    """How the images were chosen, for the report."""
    if wanted == available:
        return f"All {count} readable images of {available}, in order of name."
    return (
        f"{count} of {available} images, drawn at random with seed {seed}"
        + (", one of each class in turn" if labeled else "")
        + "; an unreadable image is replaced by the next of the draw"
        + (" from its class." if labeled else ".")
    )

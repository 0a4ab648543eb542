"""Put eight photographs from the scikit-image and scikit-learn packages into a folder."""

from __future__ import annotations

import argparse
import shutil
from importlib import resources
from pathlib import Path

PHOTOGRAPHS = {
    "skimage.data": (
        "astronaut.png",
        "chelsea.png",
        "coffee.png",
        "rocket.jpg",
        "motorcycle_left.png",
        "retina.jpg",
    ),
    "sklearn.datasets.images": ("china.jpg", "flower.jpg"),
}


def prepare(folder: Path) -> None:
    """Copy the files as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for package, names in PHOTOGRAPHS.items():
        for name in names:
            with resources.as_file(resources.files(package) / name) as file:
                shutil.copyfile(file, folder / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    prepare(parser.parse_args().folder)

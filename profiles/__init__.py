"""Application profiles: what a smoothed map must achieve for a use, as commented TOML files."""

from profiles.loader import available, load_profile
from profiles.records import (
    Criterion,
    Gates,
    Measure,
    Objective,
    Profile,
    ProfileError,
    Quantity,
    Threat,
)

__all__ = [
    "Criterion",
    "Gates",
    "Measure",
    "Objective",
    "Profile",
    "ProfileError",
    "Quantity",
    "Threat",
    "available",
    "load_profile",
]

"""Attribution maps: what is attacked, smoothed and compared."""

from auditor.attributions.custom import Custom
from auditor.attributions.gradient import Method, SimpleGrad, Smoothed
from auditor.attributions.median import MedianFiltered
from auditor.attributions.noise import FRESH, SEARCH, SELECT, SHOWN, Noise

__all__ = [
    "FRESH",
    "SEARCH",
    "SELECT",
    "SHOWN",
    "Custom",
    "MedianFiltered",
    "Method",
    "Noise",
    "SimpleGrad",
    "Smoothed",
]

"""Audit the attributions of an image classifier and recommend how much to smooth them.

>>> import auditor
>>> model = auditor.load_model("net.py:make", weights="net.safetensors")  # doctest: +SKIP
>>> images = auditor.load_images("photos", input_shape=model.input_shape)  # doctest: +SKIP
>>> auditor.audit(model, images, profile="compliance").recommendation.sigma  # doctest: +SKIP
0.1
"""

from auditor.attack_result import AttackResult
from auditor.attacking import attack
from auditor.attributions.custom import Custom
from auditor.attributions.foreign import from_cam, from_captum
from auditor.engine import audit
from auditor.errors import AuditorError, IncompleteRunError, InputError
from auditor.images import ImageSet, from_arrays, load_images
from auditor.loading import load_model, load_twin
from auditor.models import Classifier, from_network
from auditor.results import AuditResult
from auditor.several import audit_methods
from auditor.version import __version__

__all__ = [
    "AttackResult",
    "AuditResult",
    "AuditorError",
    "Classifier",
    "Custom",
    "ImageSet",
    "IncompleteRunError",
    "InputError",
    "__version__",
    "attack",
    "audit",
    "audit_methods",
    "from_arrays",
    "from_cam",
    "from_captum",
    "from_network",
    "load_images",
    "load_model",
    "load_twin",
]

"""Sign a report as the last step, and say who signed it; needs pyHanko (extra ``sign``)."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Who signed a file and when they say so.

    ``intact`` says that nothing it covers was changed and that the signature is the signer's;
    ``whole`` that it covers the whole file, ``trusted`` that the signer's certificate leads to one
    of those that are trusted.
    """

    signer: str
    time: str
    intact: bool
    whole: bool
    trusted: bool


def sign_pdf(data: bytes, key: bytes, passphrase: str) -> bytes:
    """Append a signature to a PDF; the bytes before it stay as they are.

    ``key`` is a PKCS#12 file with a key and its certificate.

    Raises
    ------
    InputError
        If pyHanko is missing, or the key cannot be read with this passphrase.
    """
    signers = _library().signers
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter

    try:
        signer = signers.SimpleSigner.load_pkcs12_data(
            key, other_certs=[], passphrase=passphrase.encode()
        )
    except ValueError as error:
        raise InputError(
            "The key cannot be read: give a PKCS#12 file (.p12, .pfx) and its passphrase."
        ) from error
    writer = IncrementalPdfFileWriter(io.BytesIO(data))
    taken = writer.root.get("/AcroForm", {}).get("/Fields", [])
    settings = signers.PdfSignatureMetadata(
        field_name=f"Signature{len(taken) + 1}", md_algorithm="sha256"
    )
    signed: bytes = signers.sign_pdf(writer, settings, signer=signer).getvalue()
    return signed


def signatures(data: bytes, trust: Sequence[Path]) -> tuple[Signature, ...]:
    """The signatures of a PDF; ``trust`` are files with certificates (PEM or DER).

    Raises
    ------
    InputError
        If pyHanko is missing, or a certificate cannot be read.
    """
    validation = _library().validation
    from pyhanko.keys import load_cert_from_pemder
    from pyhanko.pdf_utils.reader import PdfFileReader
    from pyhanko.sign.validation.status import SignatureCoverageLevel
    from pyhanko_certvalidator import ValidationContext

    roots = []
    for path in trust:
        try:
            roots.append(load_cert_from_pemder(str(path)))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not a certificate in PEM or DER ({error}).") from error
    found = []
    for embedded in PdfFileReader(io.BytesIO(data)).embedded_signatures:
        # A context belongs to one validation; nothing is fetched.
        context = ValidationContext(trust_roots=list(roots), allow_fetching=False)
        status = validation.validate_pdf_signature(embedded, context)
        when = status.signer_reported_dt
        found.append(
            Signature(
                signer=str(embedded.signer_cert.subject.human_friendly),
                time=when.isoformat() if when else "an unknown time",
                intact=bool(status.intact and status.valid),
                whole=status.coverage == SignatureCoverageLevel.ENTIRE_FILE,
                trusted=bool(status.trusted),
            )
        )
    return tuple(found)


def _library() -> Any:
    try:
        import pyhanko.sign.signers
        import pyhanko.sign.validation
    except ModuleNotFoundError as error:
        raise InputError(
            "Signatures need pyHanko. Install it with: pip install 'attribution-auditor[sign]'"
        ) from error
    # What it logs of a certificate that is not trusted is in its answer too.
    for name in ("pyhanko", "pyhanko_certvalidator"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    return pyhanko.sign

"""What was changed after an audit is found, and what was not is not."""

from __future__ import annotations

import dataclasses
import datetime
import json
import shutil

import numpy as np
import pikepdf
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

import reports
from auditor.errors import InputError
from auditor.results import AuditResult
from auditor.seal import SEAL, seal_text
from auditor.signing import sign_pdf
from auditor.verify import verify_pdf, verify_run

SECRET = "secret"


@pytest.fixture(scope="module")
def original(audited, tmp_path_factory):
    """A finished run as an audit leaves it."""
    run = tmp_path_factory.mktemp("run")
    (run / "audit.json").write_text(audited.to_json(), encoding="utf-8")
    np.savez(run / "maps.npz", **audited.gallery)
    (run / SEAL).write_text(seal_text(run, ("audit.json", "maps.npz")), encoding="utf-8")
    reports.write_report(AuditResult.load(run), run / "report.pdf")
    return run


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run")


def statuses(found):
    return {finding.what: finding.status for finding in found}


def edit(path, change):
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def test_an_untouched_run(folder):
    assert statuses(verify_run(folder)) == {
        "audit.json": "same",
        "maps.npz": "same",
        "attachment": "same",
        "attached results": "same",
        "attached table": "same",
        "pages": "same",
        "signature": "not checked",
    }


def test_a_report_by_itself_is_checked_by_its_first_page(folder):
    (folder / "maps.npz").unlink()
    found = statuses(verify_pdf(folder / "report.pdf"))
    assert (found["attached results"], found["page one"]) == ("same", "same")


def test_an_edited_result(folder):
    edit(folder / "audit.json", lambda record: record.update(seed=5))
    found = statuses(verify_run(folder))
    assert (found["audit.json"], found["attachment"]) == ("changed", "changed")
    assert found["pages"] == "same"


def test_maps_that_are_gone(folder):
    (folder / "maps.npz").unlink()
    assert statuses(verify_run(folder))["maps.npz"] == "changed"


def test_an_attachment_that_was_exchanged(folder, audited):
    better = dataclasses.replace(
        audited,
        recommendation=dataclasses.replace(
            audited.recommendation, verdict="recommended", sigma=0.05
        ),
    )
    path = folder / "report.pdf"
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        del pdf.attachments["audit.json"]
        pdf.attachments["audit.json"] = pikepdf.AttachedFileSpec(
            pdf, better.to_json().encode(), filename="audit.json"
        )
        pdf.save(path)
    for maps in (True, False):
        found = statuses(verify_pdf(path))
        assert found["attached results"] == "changed"
        assert found["pages" if maps else "page one"] == "changed"
        (folder / "maps.npz").unlink(missing_ok=True)


@pytest.mark.parametrize("maps", [True, False])
def test_a_table_that_was_exchanged(folder, maps):
    path = folder / "report.pdf"
    if not maps:
        (folder / "maps.npz").unlink()
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        del pdf.attachments["images.csv"]
        pdf.attachments["images.csv"] = pikepdf.AttachedFileSpec(
            pdf, b"image,predicted\r\n", filename="images.csv"
        )
        pdf.save(path)
    found = statuses(verify_pdf(path))
    assert (found["attached results"], found["attached table"]) == ("same", "changed")


def test_a_page_that_was_drawn_over(folder):
    path = folder / "report.pdf"
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        page = pdf.pages[0]
        page.contents_add(b"q 0 0 0 rg 50 700 200 50 re f Q")
        pdf.save(path)
    found = statuses(verify_pdf(path))
    assert (found["attached results"], found["pages"]) == ("same", "changed")
    (folder / "maps.npz").unlink()
    assert statuses(verify_pdf(path))["page one"] == "changed"


def test_a_report_of_another_auditor_is_not_compared(folder, audited):
    other = dataclasses.replace(audited, auditor_version="9.9")
    reports.write_report(other, folder / "other.pdf")
    assert statuses(verify_pdf(folder / "other.pdf"))["pages"] == "not checked"


@pytest.mark.parametrize("content", [b"", b"no pdf", b"%PDF-1.7\n"], ids=["empty", "text", "cut"])
def test_what_is_no_pdf(tmp_path, content):
    (tmp_path / "report.pdf").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a PDF"):
        verify_pdf(tmp_path / "report.pdf")


def test_a_pdf_of_someone_else(tmp_path):
    with pikepdf.new() as pdf:
        pdf.add_blank_page()
        pdf.save(tmp_path / "a.pdf")
    with pytest.raises(InputError, match=r"no audit\.json attached"):
        verify_pdf(tmp_path / "a.pdf")


@pytest.fixture(scope="module")
def signer(tmp_path_factory):
    """A key with its certificate, as PKCS#12, and the certificate's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test Laboratory")])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(True, True, False, False, False, True, False, False, False)
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, serial_number=7)
        .public_key(key.public_key())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(usage, critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("certificate") / "lab.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encryption = serialization.BestAvailableEncryption(SECRET.encode())
    return pkcs12.serialize_key_and_certificates(b"lab", key, certificate, None, encryption), path


def test_a_signed_report(folder, signer):
    key, certificate = signer
    path = folder / "report.pdf"
    signed = sign_pdf(path.read_bytes(), key, SECRET)
    assert signed.startswith(path.read_bytes())
    path.write_bytes(signed)
    for trust, says in (((), "not among those trusted"), ((certificate,), "valid; trusted.")):
        *others, last = verify_pdf(path, trust=trust)
        assert {finding.status for finding in others} == {"same"}
        assert (last.what, last.status) == ("signature", "same")
        assert "Test Laboratory" in last.message
        assert says in last.message


def test_a_signature_does_not_survive_a_change(folder, signer):
    key, certificate = signer
    path = folder / "report.pdf"
    signed = bytearray(sign_pdf(path.read_bytes(), key, SECRET))
    place = signed.index(b"/Lang (en-US)")
    signed[place + 7 : place + 12] = b"de-DE"
    path.write_bytes(bytes(signed))
    last = verify_pdf(path, trust=(certificate,))[-1]
    assert last.status == "changed"
    assert "NOT valid" in last.message


def test_a_wrong_passphrase_and_no_key(folder, signer):
    for key, passphrase in ((signer[0], "wrong"), (b"no key", SECRET)):
        with pytest.raises(InputError, match=r"PKCS#12"):
            sign_pdf((folder / "report.pdf").read_bytes(), key, passphrase)


def test_a_trusted_certificate_that_is_none(folder, signer):
    path = folder / "report.pdf"
    path.write_bytes(sign_pdf(path.read_bytes(), signer[0], SECRET))
    with pytest.raises(InputError, match="not a certificate"):
        verify_pdf(path, trust=(folder / "audit.json",))

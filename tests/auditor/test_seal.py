"""A result that was changed after the audit is not taken for the audit's."""

from __future__ import annotations

import hashlib
import subprocess

import pytest

from auditor.errors import InputError
from auditor.results import AuditResult
from auditor.seal import SEAL, check_seal, seal_text, sealed


@pytest.fixture
def folder(tmp_path, audited):
    (tmp_path / "audit.json").write_text(audited.to_json(), encoding="utf-8")
    (tmp_path / SEAL).write_text(seal_text(tmp_path, ("audit.json", "maps.npz")), encoding="utf-8")
    return tmp_path


def test_hashes_of_what_is_there(folder):
    digest = hashlib.sha256((folder / "audit.json").read_bytes()).hexdigest()
    assert sealed(folder) == {"audit.json": digest}
    subprocess.run(["sha256sum", "--check", "--quiet", SEAL], cwd=folder, check=True)


def test_an_unchanged_result_loads(folder, audited):
    assert AuditResult.load(folder) == audited


def test_an_edited_result_is_refused_with_a_remedy(folder):
    path = folder / "audit.json"
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(InputError, match=r"(?s)was changed after the audit.*--resume"):
        AuditResult.load(folder)


def test_what_has_no_seal_passes(folder):
    (folder / "maps.npz").write_bytes(b"anything")
    check_seal(folder, "maps.npz")
    (folder / SEAL).unlink()
    check_seal(folder, "audit.json")


@pytest.mark.parametrize("content", [b"no hash", b"\xff\xfe"], ids=["form", "encoding"])
def test_a_damaged_seal_is_said(folder, content):
    (folder / SEAL).write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        AuditResult.load(folder)

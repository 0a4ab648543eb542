"""The PDF as a file: the same bytes, whole or absent, metadata, fonts, outline, attachment."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import subprocess
import sys
import time

import pikepdf
import pytest
from pypdf import PdfReader

from auditor.results import AuditResult
from reports import images_csv, write_pdf
from reports.outline import SECTIONS
from reports.pdf import render

from .whole import make_whole


@pytest.fixture(scope="module")
def data(result):
    return render(result)


@pytest.fixture(scope="module")
def reader(data):
    return PdfReader(io.BytesIO(data))


def all_text(data: bytes) -> str:
    pages = (page.extract_text() for page in PdfReader(io.BytesIO(data)).pages)
    return " ".join(" ".join(pages).split())


def test_same_result_gives_the_same_bytes(result, data):
    assert render(result) == data


def test_same_result_gives_the_same_bytes_in_another_process(result, data, tmp_path):
    """Hash randomization, font caches and the clock must not reach the file."""
    (tmp_path / "audit.json").write_text(result.to_json(), encoding="utf-8")
    code = (
        "import sys, pathlib, reports; from auditor.results import AuditResult; "
        "run = pathlib.Path(sys.argv[1]); "
        "reports.write_pdf(AuditResult.load(run), run / 'report.pdf')"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=True,
        env={"PYTHONPATH": path, "PYTHONHASHSEED": "5", "TZ": "Asia/Tokyo"},
    )
    bare = dataclasses.replace(result, gallery={})
    assert (tmp_path / "report.pdf").read_bytes() == render(bare)


def test_another_result_gives_other_bytes(result, data):
    assert render(dataclasses.replace(result, created="2026-03-02T09:30:00+00:00")) != data


def test_write_replaces_the_file_and_leaves_nothing_else(result, data, tmp_path):
    path = tmp_path / "report.pdf"
    path.write_bytes(b"older")
    write_pdf(result, str(path))
    assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_older_file(result, tmp_path, monkeypatch):
    path = tmp_path / "report.pdf"
    path.write_bytes(b"older")

    def full_disk(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_pdf(result, path)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder_is_an_error(result, tmp_path):
    with pytest.raises(FileNotFoundError):
        write_pdf(result, tmp_path / "nowhere" / "report.pdf")


def test_a_date_that_is_none_is_an_error(result):
    with pytest.raises(ValueError, match="isoformat"):
        render(dataclasses.replace(result, created="yesterday"))


def test_results_and_their_table_are_attached(result, data):
    with pikepdf.open(io.BytesIO(data)) as pdf:
        assert [str(s.F) for s in pdf.Root.AF] == ["audit.json", "images.csv"]
        assert all(s.AFRelationship == pikepdf.Name.Data for s in pdf.Root.AF)
        table = pdf.attachments["images.csv"].get_file()
        assert table.mime_type == "text/csv"
        assert table.read_bytes().decode() == images_csv(result)
        attached = pdf.attachments["audit.json"].get_file()
        assert attached.mime_type == "application/json"
        text = attached.read_bytes().decode()
    assert text == result.to_json()
    assert AuditResult.from_json(text) == result


def test_every_font_is_embedded_truetype(reader):
    fonts = {
        reference.get_object()["/BaseFont"]: reference.get_object()
        for page in reader.pages
        for reference in page["/Resources"]["/Font"].values()
    }
    assert {name.split("+")[1] for name in fonts} == {
        "DejaVuSansCondensed",
        "DejaVuSansCondensed-Bold",
        "DejaVuSansMono",
    }
    for font in fonts.values():
        assert font["/Subtype"] == "/TrueType"
        assert len(font["/FontDescriptor"]["/FontFile2"].get_data()) > 1000


def test_outline_holds_every_section_on_its_page(reader):
    top = [entry for entry in reader.outline if not isinstance(entry, list)]
    titles = [f"{i}. {s.title}" for i, s in enumerate(SECTIONS, start=1)]
    assert [entry["/Title"] for entry in top] == titles
    for entry in top[1:]:
        page = reader.pages[reader.get_destination_page_number(entry)]
        assert entry["/Title"] in page.extract_text()


def test_metadata_and_page_numbers(result, reader):
    total = len(reader.pages)
    for number, page in enumerate(reader.pages, start=1):
        assert f"page {number} of {total}" in page.extract_text()
        assert [round(float(v)) for v in page.mediabox] == [0, 0, 595, 842]
    assert reader.metadata.title == f"Audit of explanations: {result.model.name}"
    assert reader.metadata.creation_date.isoformat() == result.created
    assert reader.trailer["/Root"]["/Lang"] == "en-US"
    xmp = reader.xmp_metadata
    assert xmp.dc_title["x-default"] == reader.metadata.title
    assert xmp.xmp_create_date.isoformat().startswith("2026-03-01T09:30:00")


@pytest.mark.parametrize(
    ("paper", "size"), [("a4", [0, 0, 595, 842]), ("letter", [0, 0, 612, 792])]
)
def test_paper_and_structure(make_result, paper, size):
    data = render(make_result(images=3), paper=paper)
    with pikepdf.open(io.BytesIO(data)) as pdf:
        assert pdf.check_pdf_syntax() == []  # what qpdf --check looks for
        assert [[round(float(v)) for v in page.mediabox] for page in pdf.pages] == [size] * len(
            pdf.pages
        )


def test_charts_and_pictures_have_alternative_text(reader):
    content = b"".join(page.get_contents().get_data() for page in reader.pages)
    found = re.findall(rb"/Span <</Alt <([0-9A-F]+)>>> BDC", content)
    assert content.count(b"BDC") == content.count(b"EMC") == len(found)
    words = [bytes.fromhex(text.decode()).decode("utf-16") for text in found]
    assert sum(w.startswith("Chart: ") for w in words) > 10
    assert any(w.startswith("Trade-off: ") for w in words)
    assert any(w.startswith("Map after the attack, digits/7/held-out-00000.png") for w in words)


def test_it_never_claims_compliance(data):
    text = all_text(data).lower()
    assert "pdf/a" not in text
    assert "evidence towards" in text
    assert b"pdfaid" not in data


def test_an_audit_of_everything_stays_within_twenty_pages():
    """Where it would be longer, the appendix and the twins give way; nothing else does."""
    whole = make_whole(images=210)
    data = render(whole)
    assert 8 <= len(PdfReader(io.BytesIO(data)).pages) <= 20
    text = all_text(data)
    assert "The 60 worst of 210 images" in text
    assert "Tables are printed of the first 1 of 3 twins" in text
    assert "Figures are printed of the first 1 of 4 ensembles" in text


@pytest.mark.parametrize("images", [1, 2, 2000])
def test_size_of_the_audit(make_result, images):
    result = make_result(images=images)
    start = time.monotonic()
    data = render(result)
    assert time.monotonic() - start < 60  # seconds on two slow cores; far above what it takes
    assert 8 <= len(PdfReader(io.BytesIO(data)).pages) <= 20
    text = all_text(data)
    assert f"{images:,} image" in text
    capped = "The 200 worst of 2,000 images" in text
    assert capped == (images > 200)

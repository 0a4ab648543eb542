from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import attacks
import auditor.errors
import auditor.results
from auditor.errors import InputError
from auditor.usercode import OURS, ROOT, UserCode, describe, user_factory, user_object


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


PROJECT = {
    "attacks/__init__.py": "NAME = 'user attacks'",
    "attacks/pgd.py": "from attacks import NAME\nSTEP = NAME + ' pgd'",
    "reports/tables.py": "ROWS = 'user reports'",  # without __init__.py
    "lazy.py": "VALUE = 'lazy'",
    "net.py": (
        "import attacks, attacks.pgd\nfrom reports.tables import ROWS\n"
        "def make():\n"
        "    import lazy\n    from attacks.pgd import STEP\n"
        "    return attacks.NAME, STEP, ROWS, lazy.VALUE, attacks.__file__\n"
    ),
}
EXPECTED = ("user attacks", "user attacks pgd", "user reports", "lazy")


def snapshot() -> tuple[object, ...]:
    ours = {n: m for n, m in sys.modules.items() if n.partition(".")[0] in OURS}
    return ours, sys.path[:], sys.meta_path[:]


@pytest.mark.parametrize("how", ["file", "module", "own package"])
def test_user_packages_of_our_names_do_not_collide(how, tmp_path, monkeypatch):
    root = write(tmp_path, {**PROJECT, "attacks/nets.py": PROJECT["net.py"]})
    before = snapshot()
    monkeypatch.chdir(Path("/") if how == "file" else root)
    target = {"file": str(root / "net.py"), "module": "net", "own package": "attacks.nets"}[how]
    factory, _ = user_factory(target, "make")
    for _ in range(2):  # the second call still sees the user's modules
        *values, file = factory()
        assert tuple(values) == EXPECTED
        assert Path(file).parent == root / "attacks"
    assert snapshot() == before
    import attacks as again
    import auditor.results as results_again

    assert again is attacks
    assert results_again is auditor.results
    assert not {"net", "lazy", "attacks.pgd"} & set(sys.modules)


def test_a_name_that_the_user_has_not_stays_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(
        tmp_path, {"net.py": "from auditor.errors import InputError\ndef make(): return InputError"}
    )
    factory, _ = user_factory(str(tmp_path / "net.py"), "make")
    assert factory() is InputError


def test_packages_on_a_path_that_the_user_adds(tmp_path):
    write(tmp_path, {"lib/attacks/__init__.py": "X = 3"})
    text = f"import sys; sys.path.append({str(tmp_path / 'lib')!r})\nfrom attacks import X\n"
    write(tmp_path, {"code/net.py": text + "def make(): return X"})
    factory, _ = user_factory(str(tmp_path / "code/net.py"), "make")
    assert factory() == 3
    assert str(tmp_path / "lib") not in sys.path


def test_two_projects_with_files_of_the_same_names(tmp_path):
    for name in "ab":
        text = "import layers\ndef make():\n    import blocks\n    return layers.X, blocks.X"
        files = {"net.py": text, "layers.py": f"X = '{name}'", "blocks.py": f"X = '{name}{name}'"}
        write(tmp_path / name, files)
    (a, _), (b, _) = (user_factory(str(tmp_path / n / "net.py"), "make") for n in "ab")
    assert [a(), b(), a()] == [("a", "aa"), ("b", "bb"), ("a", "aa")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_thing_1", "ModuleNotFoundError: No module named 'no_such_thing_1'"),
        ("def make(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = 1", "no function 'make'"),
        ("make = 1", "no function 'make'"),
        ("def make(): raise ValueError('two\\nlines')", "ValueError: two)"),
        ("def make():\n import sys; sys.exit()", "SystemExit"),
        ("def make(width): pass", "TypeError"),
    ],
)
def test_what_the_users_code_raises_is_told_in_one_line(text, says, tmp_path):
    write(tmp_path, {"net.py": text})
    before = snapshot()
    with pytest.raises(InputError) as caught:
        user_factory(str(tmp_path / "net.py"), "make")[0]()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert snapshot() == before


@pytest.mark.parametrize("target", ["missing/net.py", "no_such_package_2.net"])
def test_missing_code(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no such file|No module named"):
        user_factory(target, "make")


def test_interrupts_pass_and_everything_is_put_back(tmp_path):
    write(tmp_path, {"net.py": "def make(): raise KeyboardInterrupt"})
    factory, _ = user_factory(str(tmp_path / "net.py"), "make")
    before = snapshot()
    with pytest.raises(KeyboardInterrupt):
        factory()
    assert snapshot() == before


def test_prints_go_to_stderr_and_gradients_are_on(tmp_path, capsys):
    text = "import torch; torch.set_grad_enabled(False)\nprint('loading')\n"
    write(tmp_path, {"net.py": text + "def make(): return torch.is_grad_enabled()"})
    factory, _ = user_factory(str(tmp_path / "net.py"), "make")
    assert factory() is True
    out, err = capsys.readouterr()
    assert (out, err) == ("", "loading\n")


def test_in_the_folder_of_our_own_checkout():
    # There, our packages are in the current folder: they must not be taken for the user's.
    code = "\n".join(
        [
            "import auditor.errors, sys",
            "from auditor.usercode import UserCode",
            f"code = UserCode(__import__('pathlib').Path({str(ROOT)!r}))",
            "ours = auditor.errors",
            "with code.active():",
            "    import auditor.errors as seen",
            "assert seen is ours",
            "assert sys.modules['auditor.errors'] is ours",
        ]
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_active_restores_after_an_error():
    before = snapshot()
    with pytest.raises(ValueError, match="inside"), UserCode(Path("/")).active():
        raise ValueError("inside")
    assert snapshot() == before


def test_describe_is_one_short_line():
    assert describe(ValueError("a\nb")) == "ValueError: a"
    assert describe(KeyError()) == "KeyError"
    assert len(describe(ValueError("x" * 999))) == 200
    assert auditor.errors.InputError.exit_code == 2


def test_any_object_of_a_users_module(tmp_path, monkeypatch):
    write(tmp_path, {"prep.py": "import layers\nPAIR = (layers.X, 2)", "layers.py": "X = 1"})
    value, code, content = user_object(str(tmp_path / "prep.py"), "PAIR", where="--p prep")
    assert (value, content) == ((1, 2), b"import layers\nPAIR = (layers.X, 2)")
    before = snapshot()
    with code.active():
        assert "layers" in sys.modules
    assert snapshot() == before
    monkeypatch.chdir(tmp_path)
    assert user_object("prep", "PAIR", where="--p prep")[0] == (1, 2)
    with pytest.raises(InputError, match=r"^--p prep: no function 'OTHER' there"):
        user_object("prep", "OTHER", where="--p prep")
    with pytest.raises(InputError, match=r"^--p prep: importing it failed"):
        user_object("prepp", "OTHER", where="--p prep")
    (tmp_path / "space").mkdir()  # a package without a file
    with pytest.raises(InputError, match=r"^--p prep: its file cannot be read"):
        user_object("space", "OTHER", where="--p prep")

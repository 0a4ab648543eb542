"""docs/profiles.md lists what a profile may say."""

from __future__ import annotations

import re
from pathlib import Path

from profiles import available
from profiles.schema import KEYS, PROBES

PAGE = Path(__file__).parent.parent / "docs" / "profiles.md"


def schema() -> str:
    lines = []
    for section, keys in KEYS.items():
        title = f"[[{section}]]" if section == "criteria" else f"[{section}]"
        lines += ["", f"**`{title}`**" if section else "**At the top**", ""]
        lines += [f"- `{key}`: {words}" for key, words in keys.items()]
    return "\n".join(lines) + "\n"


def test_the_page_lists_every_key():
    """Refresh with: python -m tests.test_docs_profiles."""
    assert schema() in PAGE.read_text(encoding="utf-8")


def test_the_page_names_every_profile_and_metric():
    text = PAGE.read_text(encoding="utf-8")
    assert set(available()) <= set(re.findall(r"\| `(\w+)` \|", text))
    for probe in ("attack", "smoothing", "twin"):
        assert [metric for metric in PROBES[probe] if f"`{metric}`" not in text] == []


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    made = re.sub(
        r"(?s)<!-- schema -->.*?(?=\nThe metrics)", lambda _: f"<!-- schema -->\n{schema()}", text
    )
    PAGE.write_text(made, encoding="utf-8")

"""The house in order: short files, a short README, and documentation that leads to every folder of code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = ("backend", "blender_addon", "kernels", "tests")
FILES = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "backend").rglob("*.md")]


def folders_of_code() -> list[str]:
    return sorted({path.parent.relative_to(ROOT).as_posix() for path in FILES})


def test_no_file_has_more_than_400_lines() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert len(lengths) > 200
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_every_file_says_what_it_does() -> None:
    silent = [str(path) for path in FILES if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert silent == []


def test_readme_is_read_in_a_minute() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120


def test_architecture_leads_to_every_folder_of_code() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    named = set(re.findall(r"`((?:backend|blender_addon|kernels|tests)[\w/]*)/`", page))
    assert set(folders_of_code()) - named == set()
    assert {name for name in named if not (ROOT / name).is_dir()} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_holds_both_sides_of_a_merge(page: Path) -> None:
    assert re.findall(r"^(?:<<<<<<<|=======|>>>>>>>)", page.read_text("utf-8"), re.MULTILINE) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        linked = page.parent / target if target else page
        assert linked.exists(), f"{page.name} links {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_pages_name_exist(page: Path) -> None:
    """Paths from the root in backticks, as `backend/job.py`."""
    for name in re.findall(
        r"`((?:backend|blender_addon|kernels|tests|docs)/[\w/]+\.\w+)`", page.read_text("utf-8")
    ):
        assert (ROOT / name).exists(), f"{page.name} names {name}"

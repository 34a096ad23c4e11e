"""Errors as values: they cross the process unchanged, and docs/errors.md lists every one of them."""

from __future__ import annotations

import ast
import errno
import re
from pathlib import Path

import pytest

from backend.shared.protocol import BROKEN_PIPE, REMEDIES, DioramaError, explained

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def codes_in_source() -> dict[str, set[str]]:
    """The error codes that the product names outside of the list itself, and the files they are in."""
    found: dict[str, set[str]] = {}
    for folder in ("backend", "blender_addon", "kernels"):
        for path in (ROOT / folder).rglob("*.py"):
            if path == ROOT / "backend/shared/protocol.py":
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and re.fullmatch(r"E_[A-Z_]+", str(node.value)):
                    found.setdefault(str(node.value), set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_every_code_in_the_source_is_documented_and_every_documented_one_can_be_met() -> None:
    found = codes_in_source()
    assert {code: files for code, files in found.items() if code not in REMEDIES} == {}
    protocol = (ROOT / "backend/shared/protocol.py").read_text("utf-8")
    unused = {code for code in set(REMEDIES) - set(found) if f'DioramaError("{code}"' not in protocol}
    assert unused == set()


def test_documentation_lists_every_code_and_no_other() -> None:
    page = (DOCS / "errors.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(E_\w+)`", page, re.MULTILINE)) == set(REMEDIES)


def test_documentation_lists_every_exit_code() -> None:
    page = (DOCS / "cli.md").read_text("utf-8")
    codes = {DioramaError(code, "").exit_code for code in REMEDIES}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == codes | {0, BROKEN_PIPE}


@pytest.mark.parametrize("code", REMEDIES)
def test_error_crosses_the_process_unchanged(code: str) -> None:
    error = DioramaError(code, "what happened", detail="for the log")
    assert DioramaError.from_dict(error.to_dict()).to_dict() == error.to_dict()
    assert error.hint


def test_code_of_a_newer_version_is_kept_in_the_detail() -> None:
    error = DioramaError.from_dict({"code": "E_NEWER", "message": "m", "hint": "", "detail": "d"})
    assert (error.code, error.detail) == ("E_INTERNAL", "E_NEWER d")


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (MemoryError(), "E_OUT_OF_MEMORY"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "E_OUT_OF_MEMORY"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8"), "E_OUT_OF_MEMORY"),
        (RuntimeError("CUDA error: out of memory"), "E_OUT_OF_MEMORY"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "E_OUT_OF_MEMORY"),
        (OSError(errno.ENOSPC, "No space left on device", "x.png"), "E_DISK_FULL"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "x.png"), "E_DISK_FULL"),
        (ModuleNotFoundError("No module named 'diffusers'", name="diffusers"), "E_ENVIRONMENT"),
        (ImportError("cannot import", name="backend.pipelines"), "E_INTERNAL"),
        (ValueError("a defect"), "E_INTERNAL"),
    ],
)
def test_any_exception_becomes_an_error_in_words(raised: Exception, code: str) -> None:
    assert explained(raised).code == code


def test_a_package_that_says_itself_what_it_lacks_is_quoted() -> None:
    assert (
        "requires the tokenizers library" in explained(ImportError("requires the tokenizers library")).message
    )

"""`python -m backend …`: what it makes and its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend import asset

ROOT = Path(__file__).parents[2]


def backend(*arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "backend", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_generate_makes_an_asset_and_prints_its_path(tmp_path: Path) -> None:
    out = tmp_path / "new" / "asset"
    result = backend("generate", "a red mushroom", "--seed", "7", "--steps", "2", "--out", str(out))
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()) == out
    assert asset.read_asset(out).request["steps"] == 2
    assert len(result.stderr.splitlines()) > 2  # a line for each stage, where there is no terminal


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["generate", ""], 2, "E_PROMPT_EMPTY"),
        (["generate", "x" * 10_000], 2, "E_PROMPT_TOO_LONG"),
        (["generate", "a red mushroom", "--model", "nothing"], 2, "E_MODEL_UNKNOWN"),
        (["generate", "a red mushroom", "--steps", "0"], 2, "E_REQUEST"),
        (["generate", "a red mushroom", "--method", "magic"], 2, "reconstruct, distill"),
        (["generate"], 2, "E_PROMPT_EMPTY"),
        (["nonsense"], 2, "usage"),
        ([], 2, "usage"),
        (["train", "nothing"], 2, "E_REQUEST"),
    ],
)
def test_wrong_request(tmp_path: Path, arguments: list[str], code: int, word: str) -> None:
    out = ["--out", str(tmp_path / "asset")] if arguments[:1] == ["generate"] else []
    result = backend(*arguments, *out)
    assert result.returncode == code
    assert word in result.stderr
    assert not (tmp_path / "asset").exists()


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = backend("generate", "a red mushroom", "--out", str(tmp_path / "file" / "asset"))
    assert result.returncode == 4
    assert "E_OUTPUT_UNWRITABLE" in result.stderr


def test_environment_without_torch(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    result = backend("generate", "a red mushroom", "--out", str(tmp_path / "asset"), python=str(python))
    assert result.returncode == 3
    assert "torch" in result.stderr
    assert "Install Backend" in result.stderr


def test_models_are_listed() -> None:
    result = backend("models")
    assert result.returncode == 0
    assert result.stdout.startswith("starter")


def test_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        out = tmp_path / name
        assert (
            backend("generate", "a blue car", "--seed", "3", "--steps", "2", "--out", str(out)).returncode
            == 0
        )
        files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "asset.json"]
        made.append({path.relative_to(out): path.read_bytes() for path in files})
    assert len(made[0]) > 8
    assert made[0] == made[1]

"""Job files as programs and people write them, and the folders that their jobs get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.shared.job_file import folder_name, is_complete, read_job_file
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest
from tests.shared.test_asset import write_small_asset


def written(tmp_path: Path, *lines: object, encoding: str = "utf-8", end: str = "\n") -> Path:
    path = tmp_path / "jobs.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_bytes(end.join(texts).encode(encoding))
    return path


@pytest.mark.parametrize(
    ("encoding", "end"),
    [("utf-8", "\n"), ("utf-8-sig", "\n"), ("utf-8", "\r\n"), ("utf-8", "\r"), ("utf-8-sig", "\n \n")],
)
def test_every_editors_file_is_read(tmp_path: Path, encoding: str, end: str) -> None:
    prompts = ["a red\u2028mushroom", "a blue\x85car", "赤いキノコ"]
    path = written(tmp_path, *({"prompt": prompt} for prompt in prompts), encoding=encoding, end=end)
    jobs, broken = read_job_file(path)
    assert [job.request.prompt for job in jobs] == prompts and not broken


def test_defaults_stand_behind_what_a_line_says(tmp_path: Path) -> None:
    path = written(tmp_path, {"prompt": "a car"}, {"prompt": "a car", "steps": 3})
    jobs, _ = read_job_file(path, {"steps": 9, "seed": 4})
    assert [(job.request.steps, job.request.seed) for job in jobs] == [(9, 4), (3, 4)]


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ('{"prompt": ""}', "E_PROMPT_EMPTY", "empty"),
        ("not json", "E_REQUEST", "not JSON"),
        ("[" * 100_000, "E_REQUEST", "not JSON"),
        ("[]", "E_REQUEST", "JSON object"),
        ('{"prompt": "a", "colour": 1}', "E_REQUEST", "colour"),
        ('{"prompt": "a", "name": "../a"}', "E_REQUEST", "name of a folder"),
        ('{"prompt": "a", "name": "NUL.txt"}', "E_REQUEST", "name of a folder"),
        ('{"prompt": "a", "name": 3}', "E_REQUEST", "name of a folder"),
        ('{"prompt": "a", "name": "ONE"}', "E_REQUEST", "line 2"),
        ('{"prompt": "a", "name": "report.html"}', "E_REQUEST", "name of a folder"),
        (json.dumps({"prompt": "a", "name": "🍄" * 60}), "E_REQUEST", "200 bytes"),
        ('{"prompt": "a", "seed": 1, "seed": 2}', "E_REQUEST", "seed is given more than once"),
        ('{"prompt": "a", "guidance": NaN}', "E_REQUEST", "guidance is nan"),
        ('{"prompt": "a\\u0000b"}', "E_REQUEST", "a NUL character"),
    ],
)
def test_a_broken_line_says_its_number_and_stops_no_other(
    tmp_path: Path, line: str, code: str, words: str
) -> None:
    path = written(tmp_path, "", {"prompt": "a car", "name": "one"}, line, {"prompt": "a tree"})
    jobs, (broken,) = read_job_file(path)
    assert [job.line for job in jobs] == [2, 4]
    assert broken.line == 3 and broken.error.code == code
    assert f"{path}:3: " in broken.error.message and words in broken.error.message


def test_a_line_that_repeats_another_is_one_job(tmp_path: Path) -> None:
    jobs, broken = read_job_file(written(tmp_path, {"prompt": "a car"}, {"prompt": "a car"}))
    assert len(jobs) == 1 and not broken


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_a_file_without_jobs_says_so(tmp_path: Path, text: str) -> None:
    with pytest.raises(DioramaError, match="holds no job"):
        read_job_file(written(tmp_path, text))


def test_folders_keep_every_script_and_the_whole_identity() -> None:
    names = [
        folder_name(GenerationRequest(prompt)) for prompt in ("赤いキノコ", "красный гриб", "!?", "a/b\\c:d")
    ]
    assert [name.rpartition("-")[0] for name in names] == [
        "赤いキノコ-0",
        "красный-гриб-0",
        "prompt-0",
        "a-b-c-d-0",
    ]
    many = {folder_name(GenerationRequest("a red mushroom", seed=7, guidance=i / 1000)) for i in range(5000)}
    assert len(many) == 5000
    assert len(folder_name(GenerationRequest("蘑" * 1000)).encode()) < 120


def test_a_part_of_the_lines_keeps_the_names_of_all(tmp_path: Path) -> None:
    path = written(
        tmp_path, {"prompt": "a car", "name": "a"}, "", "broken", {"prompt": "a tree", "name": "A"}
    )
    jobs, broken = read_job_file(path, first=2, last=4)
    assert not jobs and [line.line for line in broken] == [3, 4]
    jobs, broken = read_job_file(path, last=2)
    assert [job.line for job in jobs] == [1] and not broken


def test_a_named_job_whose_image_has_changed_is_not_found_complete(tmp_path: Path) -> None:
    image = tmp_path / "chair.png"
    image.write_bytes(b"as it was")
    request = GenerationRequest(image=str(image), model="videomv-i2v")
    write_small_asset(tmp_path / "asset", request=request.to_dict())
    assert is_complete(tmp_path / "asset", request)
    image.write_bytes(b"as it is now")
    with pytest.raises(DioramaError, match="as it was before"):
        is_complete(tmp_path / "asset", request)
    image.unlink()
    assert is_complete(tmp_path / "asset", request)

"""Files and messages that are damaged at random: read, or refused in words; never another error.

The seed is fixed, and so is the number of tries.
"""

from __future__ import annotations

import io
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backend.models.checkpoints import read_checkpoint
from backend.shared import asset, protocol
from backend.shared.job_file import read_job_file
from backend.shared.ply import read_ply, write_ply
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest
from backend.shared.sequence_file import read_sequence, write_sequence
from tests.shared.test_asset import make_cloud, write_small_asset

TRIES = 150
ODD = (
    None, True, -1, 0, 2**31, 2**64, 1e308, float("inf"), float("-inf"), float("nan"), "", "x", "../..",
    "/etc/passwd",
    "\ud800", "\0", "a" * 5000, [], {}, [[]], {"size": float("inf")}, [1, "2", None], {"prompt": {}},
)  # fmt: skip


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The bytes with some changed, cut off, repeated or put in between."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(out) + 1)
        match rng.randrange(5):
            case 0:
                del out[place:]
            case 1:
                del out[place : place + rng.randint(1, 40)]
            case 2:
                out[place:place] = rng.randbytes(rng.randint(1, 40))
            case 3:
                out[place : place + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\0\0\x80\x7f", b"9999"))
            case _:
                out[place:place] = out[: rng.randint(1, 60)]
    return bytes(out)


def odd(value: object, rng: random.Random) -> object:
    """A JSON value with one of its parts replaced by something else."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return {**value, key: odd(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        index = rng.randrange(len(value))
        return [*value[:index], odd(value[index], rng), *value[index + 1 :]]
    return rng.choice(ODD)


def read_or_refuse(read: Callable[[], object], what: object) -> None:
    try:
        read()
    except DioramaError as error:
        assert error.message and error.hint
    except Exception as error:
        pytest.fail(f"{type(error).__name__}: {error} of {what!r:.300}")


def test_splat_files(tmp_path: Path) -> None:
    rng, path = random.Random(1), tmp_path / "a.ply"
    write_ply(path, make_cloud(4, degree=1))
    content = path.read_bytes()
    for i in range(TRIES):
        path.write_bytes(bad := damaged(content[: 700 if i % 2 else None], rng))
        read_or_refuse(lambda: read_ply(path), bad)
        read_or_refuse(lambda: read_ply(path, lambda said: None), bad)


def test_sequences(tmp_path: Path) -> None:
    rng, path = random.Random(2), tmp_path / "a.npz"
    write_sequence(path, [make_cloud(4)] * 2, 8.0)
    content = path.read_bytes()
    arrays = dict(np.load(path))
    for i in range(TRIES):
        if i % 2:
            name = rng.choice(list(arrays))
            value = rng.choice((np.array(1e300), np.array("x"), np.zeros((0, 3)), np.full((2, 2), np.inf)))
            stream = io.BytesIO()
            np.savez(stream, **{**arrays, name: value})
            path.write_bytes(stream.getvalue())
        else:
            path.write_bytes(damaged(content, rng))
        read_or_refuse(lambda: read_sequence(path), i)


def test_manifests(tmp_path: Path) -> None:
    rng = random.Random(3)
    write_small_asset(tmp_path)
    for name in ("asset.json", "transforms.json"):
        path = tmp_path / name
        content = path.read_text("utf-8")
        for i in range(TRIES):
            if i % 3:
                path.write_text(json.dumps(odd(json.loads(content), rng)), "utf-8")
            else:
                path.write_bytes(damaged(content.encode(), rng))
            read_or_refuse(lambda: asset.read_asset(tmp_path), path.read_bytes()[:2000])
            if name == "asset.json":
                read_or_refuse(lambda: asset.claim(tmp_path, {}), path.read_bytes()[:2000])
        path.write_text(content, "utf-8")


def test_requests_messages_and_job_files(tmp_path: Path) -> None:
    rng = random.Random(4)
    request = GenerationRequest("a red mushroom", seed=7).to_dict()
    message = protocol.call(3, "job.submit", {"job": "j", "directory": "/tmp/x", "request": request})
    for i in range(2 * TRIES):
        read_or_refuse(lambda: GenerationRequest.from_dict(odd(request, rng)), i)
        line = damaged(json.dumps(odd(message, rng)).encode(), rng) + b"\n"
        read_or_refuse(lambda line=line: protocol.decode(line), line)
        path = tmp_path / "jobs.jsonl"
        path.write_bytes(damaged(json.dumps(odd({**request, "name": "x"}, rng)).encode() + b"\n", rng))
        read_or_refuse(lambda path=path: read_job_file(path), path.read_bytes())


class Bomb:
    """What a pickle could do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("ending", [".pth", ".ckpt", ".bin", ".safetensors", ".odd", ".npz", ""])
def test_weights_and_pickles(tmp_path: Path, ending: str) -> None:
    rng, path, ran = random.Random(5), tmp_path / f"weights{ending}", tmp_path / "ran"
    bomb = pickle.dumps(Bomb(ran))
    for content in (bomb, b"", b"\x80\x02", b"PK\x03\x04", *(damaged(bomb, rng) for _ in range(30))):
        path.write_bytes(content)
        read_or_refuse(lambda: read_checkpoint(path), content)
        read_or_refuse(lambda: read_sequence(path), content)
    assert not ran.exists()

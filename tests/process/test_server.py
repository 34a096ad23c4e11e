"""The backend's side of the conversation: what it says, when, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.shared import protocol


def error_of(message: protocol.Message) -> str:
    return message["error"]["data"]["code"]


def test_hello_comes_before_torch(talk) -> None:
    backend = talk()
    hello = backend.next()
    assert hello["method"] == "hello"
    assert hello["params"]["protocol"] == list(protocol.VERSION)
    assert hello["params"]["pid"] == backend.process.pid
    listed = backend.call("models.list")
    assert backend.until(id=listed)["result"]["models"][0]["name"] == "starter"
    maps = Path(f"/proc/{backend.process.pid}/maps")
    if maps.exists():
        assert "libtorch" not in maps.read_text()
    probed = backend.call("probe")
    assert backend.until(id=probed)["result"]["versions"]["torch"]
    if maps.exists():
        assert "libtorch" in maps.read_text()


def test_says_alive(backend) -> None:
    for _ in range(2):
        backend.until(timeout_s=3 * protocol.ALIVE_EVERY_S + 10, method="alive")


def test_garbage_is_answered_and_survived(backend) -> None:
    backend.send(b'garbage\n[1, 2]\n{"id": 1}\n\xff\xfe\x00\n' + b"[" * 100_000 + b"\n")
    backend.send(b"x" * (3 * protocol.MAX_LINE_BYTES) + b"\n")
    for _ in range(6):
        assert error_of(backend.until(id=None, jsonrpc="2.0", method=None)) == "E_PROTOCOL"
    assert "result" in backend.until(id=backend.call("models.list"))


def test_unknown_method_is_an_error(backend) -> None:
    number = backend.call("os.system", command="true")
    assert error_of(backend.until(id=number)) == "E_PROTOCOL"


@pytest.mark.parametrize(
    ("request_data", "code"),
    [
        ({"prompt": ""}, "E_PROMPT_EMPTY"),
        ({"prompt": "x" * 10_000}, "E_PROMPT_TOO_LONG"),
        ({"prompt": "a red mushroom", "model": "stable-nothing"}, "E_MODEL_UNKNOWN"),
        ({"prompt": "a red mushroom", "seed": -1}, "E_REQUEST"),
        ({"prompt": "a red mushroom", "seed": True}, "E_REQUEST"),
        ({"prompt": "a red mushroom", "steps": 0}, "E_REQUEST"),
        ({"prompt": "a red mushroom", "guidance": "high"}, "E_REQUEST"),
        ({"prompt": "a red mushroom", "mesh": "yes"}, "E_REQUEST"),
        ({"prompt": "a red mushroom", "method": ["distill"]}, "E_REQUEST"),
        ({"prompt": "a red mushroom", "colour": "red"}, "E_REQUEST"),
        ({"prompt": None}, "E_REQUEST"),
        ({}, "E_REQUEST"),
        ("a red mushroom", "E_REQUEST"),
    ],
)
def test_bad_request_is_refused_with_its_code(backend, tmp_path, request_data, code) -> None:
    number = backend.call("job.submit", job="j", directory=str(tmp_path / "asset"), request=request_data)
    assert error_of(backend.until(id=number)) == code
    assert not (tmp_path / "asset").exists()


def test_folder_that_cannot_be_made_is_refused_before_the_work(backend, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    answer = backend.until(id=backend.submit("j", tmp_path / "file" / "asset"))
    assert error_of(answer) == "E_OUTPUT_UNWRITABLE"
    assert str(tmp_path / "file") in answer["error"]["message"]


def test_stray_prints_never_reach_the_stream(talk) -> None:
    noisy = (
        "import os; from backend import server\n"
        "def probe():\n"
        "    print('a stray print', flush=True); os.write(1, b'from native code\\n')\n"
        "    os.system('echo child')\n"
        "    return {}\n"
        "server.probe = probe; server.serve()"
    )
    backend = talk("-c", noisy)
    number = backend.call("probe")
    assert "result" in backend.until(
        id=number
    )  # every line before it was a message, or `next` would have failed
    backend.process.stdin.close()
    assert backend.ended() == 0  # only then is all that it wrote there
    errors = b"".join(backend.errors)
    assert b"a stray print" in errors
    assert b"from native code" in errors
    assert b"child" in errors


def test_end_of_stdin_ends_an_idle_backend(talk) -> None:
    backend = talk()
    backend.next()
    backend.process.stdin.close()
    assert backend.ended() == 0


def test_shutdown_is_answered(talk) -> None:
    backend = talk()
    assert backend.until(id=backend.call("shutdown"))["result"] == {}
    assert backend.ended() == 0

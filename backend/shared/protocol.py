"""How Blender and the backend talk: one JSON object a line, errors as values, one version number."""

from __future__ import annotations

import errno
import json
import traceback
from collections.abc import Iterator
from typing import Any, BinaryIO

VERSION = (1, 0)  # the host refuses another major version, and ignores notifications it does not know
MAX_LINE_BYTES = 1 << 20  # everything large is a file; a longer line is a defect or garbage
ALIVE_EVERY_S = 2.0

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)  # of the system's errors, those that say so

Message = dict[str, Any]

REMEDIES = {
    "E_REQUEST": "Correct the setting that is named and try again.",
    "E_PROMPT_EMPTY": "Type what should be made, for example: a red mushroom.",
    "E_PROMPT_TOO_LONG": "Shorten the prompt: name the object, its colour and one or two details.",
    "E_IMAGE": "Choose a PNG or JPEG of one object, cut out or before a plain background.",
    "E_MODEL_UNKNOWN": "Choose one of the models that are listed.",
    "E_WEIGHTS_MISSING": "Install the model in the preferences; the starter comes with the extension.",
    "E_WEIGHTS_CORRUPT": "Install the extension again if it is the starter, else the model.",
    "E_DOWNLOAD": "Try again with a connection, or fetch the files by hand as the message says.",
    "E_OUTPUT_UNWRITABLE": "Choose an output folder that exists or can be made, and that you may write to.",
    "E_ENVIRONMENT": "Press Install Backend in the add-on's preferences, or choose a Python that has them.",
    "E_CANCELLED": "Nothing is wrong: the job was cancelled.",
    "E_WORKER_DIED": "Try again; if it happens again, read the log lines that come with this error.",
    "E_OUT_OF_MEMORY": "Close other programs, or ask for fewer views.",
    "E_DISK_FULL": "Free some disk space, or choose an output folder on another disk.",
    "E_PROTOCOL": "The add-on and its backend do not fit together: install the extension again.",
    "E_ASSET": "The asset folder is incomplete or was changed: generate it again.",
    "E_PLY": "Use a file of Gaussian splats: .ply, .spz, .sog, .splat, .ksplat or .glb.",
    "E_CAPTURE": "Choose a folder of images with transforms.json; 20 or more from all around are best.",
    "E_DATA": "Render the data set again (finished objects are skipped), or leave out what is named.",
    "E_MESH": "The splats are too thin for a mesh; another seed may give a more solid object.",
    "E_INTERNAL": "This is a defect: please report it with the detail text.",
}
"""Every error code that a user can meet, with what to do unless the error itself knows better."""


BROKEN_PIPE = 128 + 13  # nobody reads on, as after `| head`; what a shell says of programs that SIGPIPE ended
_EXIT_CODES = {
    "E_REQUEST": 2,
    "E_PROMPT_EMPTY": 2,
    "E_PROMPT_TOO_LONG": 2,
    "E_IMAGE": 2,
    "E_CAPTURE": 2,
    "E_MODEL_UNKNOWN": 2,
    "E_ENVIRONMENT": 3,
    "E_WEIGHTS_MISSING": 3,
    "E_WEIGHTS_CORRUPT": 3,
    "E_DOWNLOAD": 3,
    "E_OUTPUT_UNWRITABLE": 4,
    "E_DISK_FULL": 4,
    "E_OUT_OF_MEMORY": 5,
    "E_CANCELLED": 130,
}


class DioramaError(Exception):
    """A failure in words: a stable code, what happened, what to do about it, and detail for the log.

    Example:
        raise DioramaError("E_PROMPT_EMPTY", "the prompt is empty")
    """

    def __init__(self, code: str, message: str, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint or REMEDIES[code]
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.message} ({self.hint})"

    @property
    def exit_code(self) -> int:
        """What a command ends with; docs/cli.md lists the meanings."""
        return _EXIT_CODES.get(self.code, 1)

    def to_dict(self) -> dict[str, str]:
        """The error as it crosses the process boundary."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "detail": self.detail}

    @classmethod
    def from_dict(cls, data: dict[str, str]) -> DioramaError:
        """The error that `to_dict` wrote; a code this version does not know becomes E_INTERNAL."""
        code = data.get("code", "")
        detail = data.get("detail", "")
        if code not in REMEDIES:
            code, detail = "E_INTERNAL", f"{code} {detail}".strip()
        return cls(code, data.get("message", ""), data.get("hint", ""), detail)


def encode(message: Message) -> bytes:
    """One message as one ASCII line; NaN and objects that are not JSON raise, here and not at the reader."""
    return json.dumps(message, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message in a line.

    Raises:
        DioramaError: E_PROTOCOL if the line is not a JSON-RPC object.
    """
    try:
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"a line of more than {MAX_LINE_BYTES} bytes")
        message = json.loads(line)
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            raise ValueError("not a JSON-RPC 2.0 object")
        if not isinstance(message.get("params", {}), dict):
            raise ValueError("params are not an object")
    except (ValueError, RecursionError) as error:  # json's own errors are ValueErrors
        shown = line[:200].decode("ascii", "backslashreplace")
        raise DioramaError("E_PROTOCOL", f"a line that is no message: {error}", detail=shown) from error
    return message


def messages(stream: BinaryIO) -> Iterator[Message | DioramaError]:
    """Every message of a stream; a line that is none comes as its error, and reading goes on."""
    while line := stream.readline(MAX_LINE_BYTES + 1):
        whole = line
        while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):  # skip the rest of a line too long
            line = stream.readline(MAX_LINE_BYTES + 1)
        try:
            yield decode(whole)
        except DioramaError as error:
            yield error


def call(number: int, method: str, params: dict[str, Any]) -> Message:
    """A call that will be answered with the same number."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def notification(method: str, params: dict[str, Any]) -> Message:
    """A message that is not answered."""
    return {"jsonrpc": "2.0", "method": method, "params": params}


def answer(number: int | None, result: dict[str, Any]) -> Message:
    """The result of a call."""
    return {"jsonrpc": "2.0", "id": number, "result": result}


def failure(number: int | None, error: DioramaError) -> Message:
    """The failure of a call: JSON-RPC's own error object, with ours as its data."""
    number_in_rpc = -32800 if error.code == "E_CANCELLED" else -32000
    return {
        "jsonrpc": "2.0",
        "id": number,
        "error": {"code": number_in_rpc, "message": error.message, "data": error.to_dict()},
    }


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whichever device."""
    if isinstance(error, DioramaError):
        return error.code == "E_OUT_OF_MEMORY"
    # torch is not imported here: its own class is known by name; the rest, and Warp's, only by their texts
    texts = (
        "can't allocate",
        "DefaultCPUAllocator",
        "CUDA error: out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "Failed to allocate",
    )
    if isinstance(error, RuntimeError) and any(text in str(error) for text in texts):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def explained(error: BaseException) -> DioramaError:
    """Any exception as an error in words; what we did not foresee becomes E_INTERNAL with its traceback."""
    if isinstance(error, DioramaError):
        return error
    detail = "".join(traceback.format_exception(error))
    if is_out_of_memory(error):
        return DioramaError("E_OUT_OF_MEMORY", "there was not enough memory", detail=detail)
    # safetensors has an error of its own, and only its text says what the system said
    if getattr(error, "errno", None) in DISK_FULL or "No space left on device" in str(error):
        where = getattr(error, "filename", None) or error
        return DioramaError("E_DISK_FULL", f"the disk is full: {where}", detail=detail)
    if isinstance(error, ImportError) and not (error.name or "").startswith(("backend", "kernels")):
        return DioramaError(
            "E_ENVIRONMENT", f"the backend's Python cannot load {error.name or error}", detail=detail
        )
    return DioramaError("E_INTERNAL", f"{type(error).__name__}: {error}", detail=detail)

"""`python -m backend …` in this process, which saves loading torch once more."""

from __future__ import annotations

import contextlib
import io

from backend import __main__ as command_line


def command(*arguments: str) -> tuple[int, str, str]:
    """Runs a command; returns its exit code and what it printed on both streams."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = command_line.main([*arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, out.getvalue(), err.getvalue()

"""How operators tell of failures."""

from __future__ import annotations

import bpy

from .backend.shared.protocol import DioramaError


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "…", "!", "?")) else ".")


def in_words(error: DioramaError) -> str:
    """What went wrong and what to do about it, without the code, which is for logs and scripts."""
    return f"{sentence(error.message)} {error.hint}"


def report(operator: bpy.types.Operator, error: DioramaError) -> set[str]:
    """Tells of a failure, in words alone where an artist reads it, with its code where a script does."""
    words = str(error) if bpy.app.background else in_words(error)
    operator.report({"ERROR"}, words)
    return {"CANCELLED"}

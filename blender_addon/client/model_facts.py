"""What an installed model says of itself: its settings, and the words that it knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..backend.shared.model_store import SETTINGS


def facts(folder: Path) -> dict[str, Any]:
    """The settings that a model comes with; nothing if there are none."""
    try:
        found = json.loads((folder / SETTINGS).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def vocabulary(folder: Path) -> frozenset[str]:
    """Every word that the tokenizers of a model of few words know."""
    words: set[str] = set()
    for path in folder.glob("**/tokenizer/tokenizer.json"):
        words |= set(json.loads(path.read_text("utf-8"))["model"]["vocab"])
    return frozenset(words)

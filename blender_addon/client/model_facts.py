"""What is known of the models: of this computer's disk, or of the other computer that is the backend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backend.shared import model_store
from ..backend.shared.model_store import State


@dataclass(frozen=True)
class Known:
    """The models when somebody last looked, so that drawing need not.

    Attributes:
        states: of the files, by the model's name.
        facts: the settings that come with an installed model, and those of a model within it for what moves.
        words: all that such a model of few words knows.
        makes_images: of prompts, for models that need an image.
        there: it is said of the other computer.
    """

    states: dict[str, State]
    facts: dict[str, dict[str, Any]]
    words: dict[str, frozenset[str]]
    makes_images: bool
    there: bool = False


def look(root: Path, text_to_image: Path) -> Known:
    """What is on this computer: in the folder of all models, and in that of the text-to-image pipeline."""
    states = {name: model_store.state(model, root) for name, model in model_store.INSTALLABLE.items()}
    folders = {name: state.folder for name, state in states.items() if state.installed}
    folders |= {moving(name): folder / model_store.MOTION for name, folder in folders.items()}
    facts = {name: model_store.settings_of(folder) for name, folder in folders.items()}
    words = {name: vocabulary(folders[name]) for name, found in facts.items() if found.get("words")}
    return Known(states, facts, words, model_store.is_pipeline(text_to_image))


def of_other_computer(answer: Mapping[str, Any], here: Known) -> Known:
    """What `models.list` says there; the starter is a part of the code, and the same here."""
    found = {each["name"]: each for each in answer["models"]}
    states = {name: State.from_dict(each) for name, each in found.items()}
    facts = {
        name: found[name]["settings"] if state.model.components else here.facts.get(name, {})
        for name, state in states.items()
        if state.installed
    }
    facts |= {moving(name): here.facts.get(moving(name), {}) for name in facts}
    return Known(states, facts, here.words, bool(answer["makes_images"]), there=True)


def moving(model: str) -> str:
    """What the model within a model is called here."""
    return f"{model}/{model_store.MOTION}"


def vocabulary(folder: Path) -> frozenset[str]:
    """Every word that the tokenizer of a model of few words knows."""
    words: set[str] = set()
    for path in folder.glob("tokenizer/tokenizer.json"):  # drawing goes on without one
        words |= set(json.loads(path.read_text("utf-8"))["model"]["vocab"])
    return frozenset(words)

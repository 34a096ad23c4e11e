"""Where things are: the chosen Python, results, their history, models; all of them outlive the extension."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
from pathlib import Path

import bpy

from .backend.shared import model_store
from .backend.shared.client import Launch, over_ssh
from .client import environment

PACKAGE = __package__ or ""  # the name under which Blender knows the extension


def backend_python() -> str:
    """The Python chosen by the user, or an empty string."""
    preferences = get_preferences()
    return bpy.path.abspath(preferences.backend_python) if preferences else ""


def other_computer() -> tuple[str, ...]:
    """The arguments of a backend that lets the computer of the preferences work; none for this one."""
    preferences = get_preferences()
    if preferences is None or not preferences.remote_host.strip():
        return ()
    return over_ssh(preferences.remote_host.strip(), preferences.remote_python.strip())


def launch(chosen: str, root: Path, log: Path) -> Launch:
    """How to start the backend, here or on another computer.

    Args:
        chosen: a Python instead of that of the preferences, and of another computer.

    Raises:
        DioramaError: E_ENVIRONMENT if there is none.
    """
    online = bool(bpy.app.online_access)
    if (there := other_computer()) and not chosen:  # Blender's own Python can talk to it
        return Launch(Path(sys.executable), root, log, online, arguments=there)
    python = environment.backend_python(chosen or backend_python(), environment.default_folder())
    return Launch(python, root, log, online, *model_folders())


def installation_choices() -> tuple[str, str]:
    """The Python to make the backend's environment from, and the build of torch; each empty for the best."""
    preferences = get_preferences()
    if preferences is None:
        return "", ""
    return bpy.path.abspath(preferences.install_python), preferences.torch_build.replace("AUTO", "")


def data_folder() -> Path:
    """What Diorama keeps for the user: not in the extension's folder, which goes when it is uninstalled."""
    return environment.default_folder().parent


def output_folder() -> Path:
    """The folder for new assets."""
    preferences = get_preferences()
    chosen = preferences.output_folder if preferences else ""
    if chosen and not (chosen.startswith("//") and not bpy.data.filepath):
        return Path(bpy.path.abspath(chosen))
    return default_output_folder()


def default_output_folder() -> Path:
    """Where assets are kept if nothing is chosen."""
    return data_folder() / "assets"


def history_folder() -> Path:
    """The records of what was made, one small file a job."""
    return data_folder() / "history"


def models_folder() -> Path:
    """The folder of installed models."""
    preferences = get_preferences()
    chosen = preferences.models_folder if preferences else ""
    return Path(bpy.path.abspath(chosen)) if chosen else default_models_folder()


def default_models_folder() -> Path:
    """Where models are kept if nothing is chosen; the backend's command line keeps them there too."""
    variable = os.environ.get(model_store.ROOT_VARIABLE)
    return Path(variable).absolute() if variable else data_folder() / "models"


def model_folders() -> tuple[Path, Path]:
    """The folder of models, and that of the pipeline that makes images for models that need one."""
    models, preferences = models_folder(), get_preferences()
    chosen = preferences.text_to_image if preferences else ""
    return models, Path(bpy.path.abspath(chosen)) if chosen else model_store.text_to_image_folder(models)


def rescue_old_results() -> str:
    """Moves results and history of earlier versions out of the extension's folder.

    Links stay behind, so that .blend files find the views of moving assets for as long as the old folder
    lasts.

    Returns:
        Why something had to stay where it is, in words; empty if nothing had to.
    """
    try:
        old = Path(bpy.utils.extension_path_user(PACKAGE))
    except ValueError:  # run from an unpacked zip, not as an extension
        return ""
    moved: dict[str, str] = {}
    try:
        for name, new in (("assets", default_output_folder()), ("jobs", history_folder())):
            if (old / name).is_dir() and not (old / name).is_symlink():
                moved |= _move_all(old / name, new)
        records = [Path(new) for new in moved.values() if new.endswith(".json")]
        for record in records:
            text = record.read_text("utf-8")
            for before, after in moved.items():
                text = text.replace(_in_json(before), _in_json(after))
            record.write_text(text, "utf-8")
    except OSError as error:
        return f"Earlier results are still in {old} and go when Diorama is uninstalled: {error}"
    return ""


def _move_all(old: Path, new: Path) -> dict[str, str]:
    """Moves everything in a folder into another one and links to that; returns old paths with new ones."""
    new.mkdir(parents=True, exist_ok=True)
    moved = {}
    for item in sorted(old.iterdir()):
        names = itertools.chain([item.name], (f"{item.stem}-{n}{item.suffix}" for n in itertools.count(2)))
        target = next(new / name for name in names if not os.path.lexists(new / name))
        shutil.move(item, target)
        moved[str(item)] = str(target)
    old.rmdir()
    with contextlib.suppress(OSError):  # Windows allows links to few
        old.symlink_to(new, target_is_directory=True)
    return moved


def _in_json(path: str) -> str:
    return '"' + path.replace("\\", "\\\\") + '"'


def get_preferences() -> bpy.types.AddonPreferences | None:
    """The add-on's preferences; None while it is run from an unpacked zip."""
    addon = bpy.context.preferences.addons.get(PACKAGE)
    return addon.preferences if addon else None

"""Where models are on the disk, whether they are whole, and their removal.

    <models>/<name>/              one model, as its pipeline reads it
        unet/ autoencoder/ …      networks (config.json, .safetensors), tokenizer/, scheduler/
        model.json                the settings it was published with
        manifest.json             size and sha256 of every file; written last
    <models>/downloads/<source>/  published files that wait to be converted, downloaded or put there by hand

A folder without manifest.json is unfinished, whatever else it holds. The starter is a part of the extension,
which is installed whole, and needs no manifest.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .catalogue import COMPANIONS, MODELS, Model, Source, SourceFile
from .manifests import MANIFEST, Meter, read_manifest, sha256, size_problem
from .progress import Progress
from .protocol import DioramaError

SETTINGS = "model.json"
# How Blender tells its backend which folders the user chose.
ROOT_VARIABLE = "DIORAMA_MODELS"
TEXT_TO_IMAGE_VARIABLE = "DIORAMA_TEXT_TO_IMAGE"
STARTER = Path(__file__).parents[1] / "starter" / "weights"
MOTION = "motion"  # within a model's folder: what makes its objects move, which shares its other networks


INSTALLABLE = {**MODELS, **COMPANIONS}
_FILES = [file for model in INSTALLABLE.values() for part in model.components for file in part.files]
# Folders that belong to another source, or to one network.
_NOT_ARCHIVES = {file.source.folder for file in _FILES} | {
    PurePosixPath(name).parts[0] for file in _FILES for name in file.names
}


@dataclass(frozen=True)
class State:
    """A model's files on the disk.

    Attributes:
        folder: where it is, or will be.
        problems: of an installed model: what is wrong with it, found without reading its files.
        bytes: of its files on the disk.
        missing: published files that are neither installed nor waiting to be converted.
        downloads: where these go.
        leftover_bytes: of what was downloaded for it or half converted, and is not installed.
    """

    model: Model
    folder: Path
    installed: bool
    problems: tuple[str, ...]
    bytes: int
    missing: tuple[SourceFile, ...]
    downloads: Path
    leftover_bytes: int

    @property
    def by_hand(self) -> tuple[SourceFile, ...]:
        """The missing files that cannot be downloaded."""
        return tuple(file for file in self.missing if not file.source.repo)

    @property
    def to_fetch(self) -> list[str]:
        """In words: which files must be fetched by hand, from where, and where they go."""
        return instructions(self.by_hand, self.downloads)

    @property
    def to_download(self) -> list[str]:
        """In words: which files will be downloaded; they can be fetched by hand too."""
        return instructions((file for file in self.missing if file.source.repo), self.downloads)

    def to_dict(self) -> dict[str, Any]:
        """As it crosses the process boundary."""
        model = self.model
        return {
            "name": model.name,
            "description": model.description,
            "licence": model.licence,
            "commercial": model.commercial,
            "warning": model.warning,
            "download": model.download,
            "memory": model.memory,
            "installed": self.installed,
            "problems": list(self.problems),
            "bytes": self.bytes,
            "folder": str(self.folder),
            "missing": [file.name for file in self.missing],
            "to_fetch": self.to_fetch,
            "to_download": self.to_download,
            "downloads": str(self.downloads),
            "leftover_bytes": self.leftover_bytes,
            "settings": settings_of(self.folder) if self.installed else {},
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> State:
        """What `to_dict` gave on another computer, which has the same catalogue."""
        model = known(found["name"])
        return cls(
            model=model,
            folder=Path(found["folder"]),
            installed=bool(found["installed"]),
            problems=tuple(found["problems"]),
            bytes=int(found["bytes"]),
            missing=tuple(file for file in model.files if file.name in found["missing"]),
            downloads=Path(found["downloads"]),
            leftover_bytes=int(found["leftover_bytes"]),
        )


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings that a model comes with; nothing if there are none."""
    try:
        found = json.loads((folder / SETTINGS).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def models_root(chosen: Path | None = None) -> Path:
    """The folder of all models: the one given, else $DIORAMA_MODELS, else in the user's data folder."""
    if chosen is not None:
        return chosen.absolute()
    if variable := os.environ.get(ROOT_VARIABLE):
        return Path(variable).absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("diorama", appauthor=False)) / "models"


def text_to_image_folder(root: Path) -> Path:
    """Where a text-to-image pipeline is looked for: in $DIORAMA_TEXT_TO_IMAGE, else among the models."""
    chosen = os.environ.get(TEXT_TO_IMAGE_VARIABLE)
    return Path(chosen).absolute() if chosen else folder_of(COMPANIONS["text-to-image"], root)


def is_pipeline(folder: Path) -> bool:
    """Whether a folder holds a pipeline of diffusers."""
    return (folder / "model_index.json").is_file()


def known(name: Any) -> Model:
    """The model of that name.

    Raises:
        DioramaError: E_MODEL_UNKNOWN.
    """
    if not isinstance(name, str) or name not in INSTALLABLE:
        raise DioramaError(
            "E_MODEL_UNKNOWN", f"there is no model {name!r}", hint=f"Choose one of: {', '.join(INSTALLABLE)}."
        )
    return INSTALLABLE[name]


def folder_of(model: Model, root: Path) -> Path:
    """The folder of one model."""
    return root / model.name if model.components else STARTER


def unfinished_folder(model: Model, root: Path) -> Path:
    """Where a model is made; what a conversion that was killed leaves there is of no use."""
    return root / f".unfinished-{model.name}"


def state(model: Model, root: Path) -> State:
    """Looks at the disk, at names and sizes only; `verify` reads everything."""
    folder = folder_of(model, root)
    downloads = downloads_of(root)
    problems: tuple[str, ...] = ()
    files: Mapping[str, Any] = {}
    sealed = (folder / MANIFEST).is_file()
    if sealed:
        try:
            files = read_manifest(folder)["files"]
            problems = tuple(filter(None, (size_problem(folder, name, files[name]) for name in files)))
        except DioramaError as error:
            problems = (error.message,)
    finished = sealed or (not model.components and (folder / SETTINGS).is_file())
    installed = finished and not problems
    wanted = () if installed else [file for part in model.components for file in part.files]
    missing = [file for file in wanted if not file.optional and find(file, [downloads]) is None]
    return State(
        model=model,
        folder=folder,
        installed=installed,
        problems=problems,
        bytes=sum(entry["size"] for entry in files.values()),
        missing=tuple({(file.source, file.name): file for file in missing}.values()),
        downloads=downloads,
        leftover_bytes=sum(path.stat().st_size for path in _leftovers(model, root)),
    )


def require(name: str, root: Path | None = None) -> Path:
    """The folder of an installed model; `root` is that of all models, `models_root()` if not given.

    Raises:
        DioramaError: E_MODEL_UNKNOWN, E_WEIGHTS_MISSING, or E_WEIGHTS_CORRUPT if files of it are gone.
    """
    model = known(name)
    if root is None:
        root = models_root() if model.components else STARTER.parent
    found = state(model, root)
    if found.installed:
        return found.folder
    if not model.components:
        code = "E_WEIGHTS_CORRUPT" if found.problems else "E_WEIGHTS_MISSING"
        what = "; ".join(found.problems) or f"the starter's weights are not in {found.folder}"
        raise DioramaError(code, what, hint="Install the extension again; its zip contains them.")
    if found.problems:
        raise DioramaError(
            "E_WEIGHTS_CORRUPT",
            f"the model {name} is damaged: {'; '.join(found.problems)}",
            hint=f"Install it again: {where_to_press(name)}.",
        )
    hint = f"Install it: {where_to_press(name)}."
    if found.by_hand:
        hint += f" First fetch by hand: {'; '.join(found.to_fetch)}."
    raise DioramaError("E_WEIGHTS_MISSING", f"the model {name} is not installed in {root}", hint=hint)


def verify(name: str, root: Path, progress: Progress) -> dict[str, Any]:
    """Reads every file of an installed model and compares it with the manifest.

    Returns:
        `{model, files, bytes}`: how much was found to be right.

    Raises:
        DioramaError: E_WEIGHTS_MISSING if it is not installed, E_WEIGHTS_CORRUPT naming every file that is
            damaged or gone, E_REQUEST for a starter without a manifest.
    """
    model = known(name)
    folder = folder_of(model, root)
    if not (folder / MANIFEST).is_file():
        require(name, root)  # says what is missing, and what to do
        raise DioramaError("E_REQUEST", f"{name} came without checksums", hint="It cannot be verified.")
    files = read_manifest(folder)["files"]
    progress.stage("Checking the files")
    meter = Meter(sum(entry["size"] for entry in files.values()), progress)
    problems = []
    for file, entry in files.items():
        problem = size_problem(folder, file, entry)
        if not problem and sha256(folder / file, meter.add) != entry["sha256"]:
            problem = f"{file} was changed"
        problems += [problem] if problem else []
    if problems:
        again = f"Install it again: {where_to_press(name)}." if model.components else ""
        raise DioramaError("E_WEIGHTS_CORRUPT", f"{name} is damaged: {'; '.join(problems)}", hint=again)
    return {"model": name, "files": len(files), "bytes": meter.total}


def remove(name: str, root: Path) -> dict[str, Any]:
    """Deletes an installed model, and what was downloaded or half converted for one that is not installed.

    Only files that the manifest lists, or that we made or downloaded, and folders that are empty then. What
    else is in its folder stays, and so do published files that somebody put among the downloads.

    Returns:
        `{model, files, bytes}`: how much was deleted.

    Raises:
        DioramaError: E_REQUEST for the starter, E_WEIGHTS_MISSING if there is nothing of it.
    """
    model = known(name)
    if not model.components:
        raise DioramaError(
            "E_REQUEST", f"{name} is a part of the extension", hint="Remove the extension to be rid of it."
        )
    folder = folder_of(model, root)
    leftovers = _leftovers(model, root)
    freed = sum(path.stat().st_size for path in leftovers)
    count = len(leftovers)
    for path in leftovers:
        path.unlink()
    shutil.rmtree(unfinished_folder(model, root), ignore_errors=True)
    if (folder / MANIFEST).is_file():
        files, size = remove_files(folder)
        count, freed = count + files, freed + size
    if not count:
        raise DioramaError(
            "E_WEIGHTS_MISSING", f"nothing of {name} is in {root}", hint="There is nothing to remove."
        )
    return {"model": name, "files": count, "bytes": freed}


def remove_files(folder: Path) -> tuple[int, int]:
    """Deletes the files that a folder's manifest lists, and it; returns how many files and bytes."""
    files = read_manifest(folder)["files"]
    deleted = freed = 0
    for file in files:
        path = folder / file
        if path.is_file() or path.is_symlink():
            freed += path.lstat().st_size
            path.unlink()
            deleted += 1
    # Last: were it interrupted before, a manifest without its files counts as damaged, and can be removed.
    (folder / MANIFEST).unlink()
    parents = {parent for file in files for parent in (folder / file).parents if folder in parent.parents}
    for parent in (*sorted(parents, key=lambda path: -len(path.parts)), folder):
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
    return deleted, freed


def _leftovers(model: Model, root: Path) -> list[Path]:
    half_converted = unfinished_folder(model, root).rglob("*")
    return [*downloaded_files(model, root), *(path for path in half_converted if path.is_file())]


def where_to_press(name: str) -> str:
    """In words: how a model is installed."""
    in_blender = f"Preferences → Add-ons → Diorama → Models → {name} → Install"
    return f"{in_blender}, or python -m backend models download {name}"


def downloads_of(root: Path) -> Path:
    """The folder of all files that wait; each source has a folder in it."""
    return root / "downloads"


def find(file: SourceFile, folders: Iterable[Path]) -> Path | None:
    """A published file, or another with the same network in it, under the first folder that has one.

    Archives put everything into a folder of their own, so one level of folders is looked through.
    """
    for folder in folders:
        named = [folder / file.source.folder, folder / file.source.repo.rpartition("/")[2], folder]
        for name in file.names:
            for base in dict.fromkeys(named):
                if (base / name).is_file():
                    return base / name
        for base in dict.fromkeys(named):
            below = sorted(
                path for path in base.glob("*") if path.is_dir() and path.name not in _NOT_ARCHIVES
            )
            for name in file.names:
                for inner in below:
                    if (inner / name).is_file():
                        return inner / name
    return None


def instructions(files: Iterable[SourceFile], downloads: Path) -> list[str]:
    """A sentence for each source: which files of it, where it is published, where they go."""
    by_source: dict[Source, list[str]] = {}
    for file in files:
        size = f" ({file.size_gb:g} GB)" if file.size_gb else ""
        by_source.setdefault(file.source, []).append(file.name + size)
    return [
        f"{', '.join(names)} from {source.page} into {downloads / source.folder}"
        for source, names in by_source.items()
    ]


def partial_file(target: Path, version: str) -> Path:
    """Where a download is kept until it is complete; another version of the file has another name."""
    return target.with_name(f".{target.name}.{version[:16]}.part")


def checked_mark(target: Path) -> Path:
    """The file that says: this one was downloaded by us, completely."""
    return target.with_name(f".{target.name}.downloaded")


def downloaded_files(model: Model, root: Path) -> list[Path]:
    """Files that were downloaded for a model, complete or not; none that a person put there."""
    found: list[Path] = []
    for file in model.files:
        for name in file.names:
            target = downloads_of(root) / file.source.folder / name
            found += target.parent.glob(f".{target.name}.*.part")
            if checked_mark(target).is_file():
                found += [path for path in (target, checked_mark(target)) if path.is_file()]
    return found

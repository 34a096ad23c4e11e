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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .catalogue import MODELS, Model, SourceFile
from .manifests import is_inside, sha256
from .model_files import downloaded_files, downloads_of, find, instructions
from .progress import Progress
from .protocol import DioramaError

SCHEMA = 1
MANIFEST = "manifest.json"
SETTINGS = "model.json"
ROOT_VARIABLE = "DIORAMA_MODELS"  # how Blender tells its backend which folder the user chose
STARTER = Path(__file__).parents[1] / "starter" / "weights"
MOTION = "motion"  # within a model's folder: what makes its objects move, which shares its other networks


@dataclass(frozen=True)
class State:
    """What the disk holds of a model.

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
            "to_fetch": self.to_fetch,
            "to_download": self.to_download,
            "downloads": str(self.downloads),
            "leftover_bytes": self.leftover_bytes,
        }


def models_root(chosen: Path | None = None) -> Path:
    """The folder of all models: the one given, else $DIORAMA_MODELS, else in the user's data folder."""
    if chosen is not None:
        return chosen.absolute()
    if variable := os.environ.get(ROOT_VARIABLE):
        return Path(variable).absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("diorama", appauthor=False)) / "models"


def known(name: Any) -> Model:
    """The model of that name.

    Raises:
        DioramaError: E_MODEL_UNKNOWN.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise DioramaError(
            "E_MODEL_UNKNOWN", f"there is no model {name!r}", hint=f"Choose one of: {', '.join(MODELS)}."
        )
    return MODELS[name]


def folder_of(model: Model, root: Path) -> Path:
    """The folder of one model."""
    return root / model.name if model.components else STARTER


def network_folder(folder: Path, part: str) -> Path:
    """Where a network of the model in `folder` is; one without a place of its own is shared.

    It is then that of the model whose folder this one is in.
    """
    shared = folder.parent / part
    return shared if shared.is_dir() and not (folder / part).is_dir() else folder / part


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
            problems = tuple(filter(None, (_size_problem(folder, name, files[name]) for name in files)))
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
            hint=f"Install it again: {_where_to_press(name)}.",
        )
    hint = f"Install it: {_where_to_press(name)}."
    if found.by_hand:
        hint += f" First fetch by hand: {'; '.join(found.to_fetch)}."
    raise DioramaError("E_WEIGHTS_MISSING", f"the model {name} is not installed in {root}", hint=hint)


def seal(
    folder: Path,
    name: str,
    sources: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
) -> None:
    """Writes the manifest of all files in a model's folder; from then on it counts as installed.

    Args:
        sources: size and sha256 of the published files it was made from, by name.
    """
    paths = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder) != Path(MANIFEST)
    )
    sizes = {path: path.stat().st_size for path in paths}
    meter = _Meter(sum(sizes.values()), progress)
    files = {
        path.relative_to(folder).as_posix(): {"size": sizes[path], "sha256": sha256(path, meter.add)}
        for path in paths
    }
    manifest = {"schema": SCHEMA, "model": name, "files": files, "sources": dict(sources or {})}
    unfinished = folder / f".{MANIFEST}"
    unfinished.write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    unfinished.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a model's folder.

    Raises:
        DioramaError: E_WEIGHTS_MISSING if there is none, E_WEIGHTS_CORRUPT if it cannot be what `seal` wrote.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
        if manifest["schema"] > SCHEMA:
            raise DioramaError(
                "E_WEIGHTS_CORRUPT", f"{folder} was made by a newer Diorama", hint="Update the extension."
            )
        for name, entry in manifest["files"].items():
            if not is_inside(name) or entry["size"] < 0 or len(entry["sha256"]) != 64:
                raise ValueError(name)
    except FileNotFoundError as error:
        raise DioramaError("E_WEIGHTS_MISSING", f"there is no finished model in {folder}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DioramaError("E_WEIGHTS_CORRUPT", f"{path} is damaged: {error!r}") from error
    assert isinstance(manifest, dict)
    return manifest


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
    meter = _Meter(sum(entry["size"] for entry in files.values()), progress)
    problems = []
    for file, entry in files.items():
        problem = _size_problem(folder, file, entry)
        if not problem and sha256(folder / file, meter.add) != entry["sha256"]:
            problem = f"{file} was changed"
        problems += [problem] if problem else []
    if problems:
        again = f"Install it again: {_where_to_press(name)}." if model.components else ""
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


class _Meter:
    """Counts bytes that were read, and reports them as steps of the progress's current stage."""

    def __init__(self, total: int, progress: Progress | None = None) -> None:
        self.total = total
        self._done = 0
        self._progress = progress

    def add(self, count: int) -> None:
        self._done += count
        if self._progress and self.total:
            mib = 1 << 20
            self._progress.step(self._done // mib, max(1, self.total // mib))


def _size_problem(folder: Path, name: str, entry: Mapping[str, Any]) -> str:
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    size = path.stat().st_size
    return "" if size == entry["size"] else f"{name} has {size} bytes instead of {entry['size']}"


def _where_to_press(name: str) -> str:
    in_blender = f"Preferences → Add-ons → Diorama → Models → {name} → Install"
    return f"{in_blender}, or python -m backend models download {name}"

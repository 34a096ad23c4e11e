"""Installs a model: downloads what is missing, turns the published files into ours, and seals the folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..shared import manifests, model_store
from ..shared.catalogue import Component, Model, SourceFile
from ..shared.manifests import MANIFEST, sha256
from ..shared.model_store import SETTINGS
from ..shared.progress import Progress
from ..shared.protocol import DioramaError

TOKENIZER = "tokenizer"
_TOKENIZER_BYTES = 10 << 20


@dataclass(frozen=True)
class _Part:
    """A component, and where its published files were found, by their published names."""

    component: Component
    found: dict[str, Path]

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self.found.values())


def download(name: str, root: Path, progress: Progress) -> dict[str, Any]:
    """Downloads a model's files, goes on with what was downloaded before, and installs it.

    Files that are not to be had from Hugging Face must be in their folder already. With all files there,
    nothing is downloaded. An installed model stays as it is.

    Returns:
        `{model, folder, components, files, bytes}`; see `convert`.

    Raises:
        DioramaError: E_WEIGHTS_MISSING naming the files to fetch by hand and where they go, before anything
            is downloaded; E_DOWNLOAD; and those of `convert`.
    """
    model = _installable(name)
    _check_place(model, root)
    found = model_store.state(model, root)
    if found.installed:
        progress.log("info", f"{name} is installed already")
        return _report(model, found.folder, [])
    if by_hand := found.by_hand:
        raise _missing(model, by_hand, found.downloads)
    if found.missing:
        from .download import fetch

        _make(found.downloads)
        fetch(list(found.missing), found.downloads, progress)
    report = convert(name, root, None, progress)
    for path in model_store.downloaded_files(model, root):
        path.unlink()
    return report


def convert(name: str, root: Path, source: Path | None, progress: Progress) -> dict[str, Any]:
    """Turns published files into an installed model; one that is installed is replaced at the very end.

    Args:
        source: a folder with the published files; those it does not hold are looked for among the downloads.

    Returns:
        `{model, folder, components, files, bytes}`, with for each component `{folder, tensors, from}`.

    Raises:
        DioramaError: E_WEIGHTS_MISSING if a file is not there, E_WEIGHTS_CORRUPT if one is damaged or of
            another model, E_DISK_FULL if the result would not fit, E_OUTPUT_UNWRITABLE.
    """
    model = _installable(name)
    _check_place(model, root)
    if source is not None and not source.is_dir():
        raise DioramaError("E_REQUEST", f"{source} is not a folder", hint="Name the folder of the files.")
    downloads = model_store.downloads_of(root)
    parts = _find_all(model, [source, downloads] if source else [downloads], source or downloads)
    _make(root)
    progress.stage("Loading libraries")
    _check_space(parts, root)

    folder = model_store.folder_of(model, root)
    unfinished = model_store.unfinished_folder(model, root)
    shutil.rmtree(unfinished, ignore_errors=True)  # of a conversion that was killed
    try:
        unfinished.mkdir()
        report = [_convert_part(part, unfinished, progress) for part in parts]
        _write_settings(model, unfinished)
        progress.stage("Recording checksums")
        sources = _checksums(parts, progress)
        _compare_with_published(model, sources, progress)
        _compare_with_before(folder, sources, progress)
        manifests.seal(unfinished, name, sources, progress)
        _put_in_place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    if model.warning and any(file.optional for file in _absent(model, [source or downloads, downloads])):
        progress.log("warning", model.warning)
    progress.finish()
    return _report(model, folder, report)


def _installable(name: str) -> Model:
    model = model_store.known(name)
    if not model.components:
        raise DioramaError("E_REQUEST", f"{name} is a part of the extension and needs no installation")
    return model


def _check_place(model: Model, root: Path) -> None:
    """Refuses to mix a pipeline of diffusers with another one, which somebody has put there."""
    folder = model_store.folder_of(model, root)
    if not model_store.is_pipeline(folder) or (folder / MANIFEST).is_file():
        return
    raise DioramaError(
        "E_OUTPUT_UNWRITABLE",
        f"{folder} holds a pipeline that was not installed by Diorama",
        hint="It is used as it is. To have this one instead, move it to another place.",
    )


def _absent(model: Model, folders: list[Path]) -> list[SourceFile]:
    return [file for file in model.files if model_store.find(file, folders) is None]


def _find_all(model: Model, folders: list[Path], named: Path) -> list[_Part]:
    parts, missing = [], {}
    for component in model.components:
        found: dict[str, Path] = {}
        for file in component.files:
            if path := model_store.find(file, folders):
                found[next(name for name in file.names if path.as_posix().endswith(name))] = path
            elif not file.optional:
                missing[file.source, file.name] = file
        parts.append(_Part(component, found))
    if missing:
        raise _missing(model, tuple(missing.values()), named)
    return parts


def _missing(model: Model, files: tuple[SourceFile, ...], folder: Path) -> DioramaError:
    wanted = "; ".join(model_store.instructions(files, folder))
    return DioramaError(
        "E_WEIGHTS_MISSING",
        f"files of {model.name} are missing: {', '.join(file.name for file in files)}",
        hint=f"Fetch {wanted}.",
    )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "it may not be written")
    except OSError as error:
        raise DioramaError(
            "E_OUTPUT_UNWRITABLE",
            f"cannot write to the models folder {folder}: {error.strerror or error}",
            hint="Choose a models folder that you may write to.",
        ) from error


def _check_space(parts: list[_Part], root: Path) -> None:
    """Refuses before the first byte is written. At most as much is written as is in the files."""
    import torch

    from .download import SPARE_BYTES
    from .published import NETWORKS

    needed = SPARE_BYTES
    for part in parts:
        in_files = sum(path.stat().st_size for path in part.paths)
        if not part.component.folder:
            needed += sum(path.stat().st_size for path in part.paths if not _is_ours(path))
        elif part.component.folder == TOKENIZER:
            needed += _TOKENIZER_BYTES
        else:
            with torch.device("meta"):
                network = NETWORKS[part.component.network].make()
            # A file may hold several networks; none is stored in more than single precision.
            needed += min(in_files, 4 * sum(p.numel() for p in network.parameters()))
    free = shutil.disk_usage(root).free
    if free < needed:
        raise DioramaError(
            "E_DISK_FULL",
            f"the converted model needs {needed / 1e9:.1f} GB and {root} has {free / 1e9:.1f} GB free",
            hint="Free some disk space, or choose a models folder on another disk.",
        )


def _convert_part(part: _Part, unfinished: Path, progress: Progress) -> dict[str, Any]:
    from . import published

    component = part.component
    progress.stage(f"Converting {component.folder}" if component.folder else "Putting the files in place")
    if not component.folder:
        tensors = 0
        for name, path in part.found.items():
            progress.raise_if_cancelled()
            _put(path, unfinished / name)
    elif component.folder == TOKENIZER:
        tensors = 0
        _write_tokenizer(part.paths, component.pad_token, unfinished)
    else:
        tensors = published.convert(component.network, part.paths, unfinished / component.folder)
    progress.step(1, 1)
    return {
        "folder": component.folder,
        "tensors": tensors,
        "from": [str(path) for path in part.paths],
    }


def _is_ours(path: Path) -> bool:
    """Whether a published file was downloaded by us, and goes once the model is installed."""
    return model_store.checked_mark(path).is_file()


def _put(path: Path, target: Path) -> None:
    """A second name for a file that goes soon, where the disk knows such a thing; else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if _is_ours(path):
        with contextlib.suppress(OSError):
            os.link(path, target)
            return
    shutil.copyfile(path, target)


def _write_tokenizer(paths: tuple[Path, ...], filler: str, unfinished: Path) -> None:
    """CLIP's tokenizer from its words and merges; `filler` is the token after a short prompt."""
    from transformers import CLIPTokenizer

    words_path, merges_path = paths
    text_encoder = json.loads((unfinished / "text_encoder" / "config.json").read_text("utf-8"))
    try:
        words = json.loads(words_path.read_text("utf-8"))
        lines = merges_path.read_text("utf-8").splitlines()
        merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
        if filler not in words:
            raise ValueError(f"there is no {filler!r} in it")
        if len(words) != text_encoder["vocab_size"]:
            raise ValueError(f"{len(words)} words; the text encoder knows {text_encoder['vocab_size']}")
        tokenizer = CLIPTokenizer(
            vocab=words,
            merges=merges,  # type: ignore[arg-type]  # pairs, as the tokenizer below it takes them
            pad_token=filler,
            model_max_length=text_encoder["max_position_embeddings"],
        )
    except Exception as error:  # the tokenizer's own errors are plain Exceptions
        raise DioramaError(
            "E_WEIGHTS_CORRUPT",
            f"{words_path} and {merges_path.name} are not CLIP's words: {error}",
            hint="Fetch both files again.",
        ) from error
    tokenizer.save_pretrained(unfinished / TOKENIZER)


def _write_settings(model: Model, unfinished: Path) -> None:
    if model.pipeline in ("background-removal", "text-to-image"):
        return
    if model.pipeline == "triposplat":
        from ..pipelines.triposplat_model import TripoSplatSettings

        TripoSplatSettings().write(unfinished)
        return
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    from .published_settings import SETTINGS as published

    settings = published[model.name]
    DDIMScheduler(**settings["schedule"]).save_pretrained(unfinished / "scheduler")
    (unfinished / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", "utf-8")


def _checksums(parts: list[_Part], progress: Progress) -> dict[str, dict[str, Any]]:
    """Of the published files, so that a later conversion can say that it was given others."""
    checksums = {}
    for name, path in {name: path for part in parts for name, path in part.found.items()}.items():
        progress.raise_if_cancelled()
        checksums[name] = {"size": path.stat().st_size, "sha256": sha256(path)}
    return checksums


def _compare_with_published(model: Model, sources: dict[str, Any], progress: Progress) -> None:
    known = {file.name: file.sha256 for file in model.files if file.sha256}
    other = [name for name, entry in sources.items() if known.get(name, entry["sha256"]) != entry["sha256"]]
    if other:
        progress.log("warning", f"not the published files, by their checksums: {', '.join(other)}")


def _compare_with_before(folder: Path, sources: dict[str, Any], progress: Progress) -> None:
    try:
        before = manifests.read_manifest(folder)["sources"]
    except DioramaError:
        return
    changed = [name for name in sources if name in before and before[name] != sources[name]]
    if changed:
        progress.log("warning", f"other files than at the last installation: {', '.join(changed)}")


def _put_in_place(unfinished: Path, folder: Path) -> None:
    """Moves the finished folder to its name; what else the user keeps under that name stays."""
    with contextlib.suppress(DioramaError):  # no manifest, or a damaged one, which is replaced then
        model_store.remove_files(folder)
    if not folder.exists():
        unfinished.rename(folder)
        return
    names = [path.relative_to(unfinished) for path in unfinished.rglob("*") if path.is_file()]
    for name in sorted(names, key=lambda name: name == Path(MANIFEST)):  # the manifest last
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (unfinished / name).replace(folder / name)


def _report(model: Model, folder: Path, components: list[dict[str, Any]]) -> dict[str, Any]:
    files = manifests.read_manifest(folder)["files"]
    return {
        "model": model.name,
        "folder": str(folder),
        "components": components,
        "files": len(files),
        "bytes": sum(entry["size"] for entry in files.values()),
    }

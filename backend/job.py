"""Runs one generation, or one fit, from request to finished asset folder, for Blender and the terminal."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from . import allocator
from .shared import model_store, output_folder
from .shared.progress import Progress, peak_memory_mib
from .shared.protocol import explained
from .shared.reconstruction import ReconstructionRequest, Request


def run(request: Request, directory: Path, progress: Progress) -> dict[str, Any]:
    """Generates into `directory`, which is made; an older asset in it is replaced.

    Returns:
        `{asset, stages, warnings, peak_mib}`, as it crosses the process boundary.

    Raises:
        DioramaError: whatever went wrong, in words.
    """
    made = not directory.exists()
    try:
        from .shared import asset

        asset.claim(directory, request.to_dict())
        check_output(directory)
        if not isinstance(request, ReconstructionRequest):
            model_store.require(request.model)
        progress.stage("Loading libraries")
        import torch  # noqa: F401  the environment is checked before anything else is tried

        if isinstance(request, ReconstructionRequest):
            from .pipelines import capture_splats

            made_asset = capture_splats.reconstruct(request, directory, progress)
        else:
            from .pipelines import generate

            made_asset = generate.generate(request, directory, progress)
    except BaseException as error:
        if made:
            output_folder.clear(directory)
        if not isinstance(error, Exception):  # Ctrl-C
            raise
        raise explained(error) from error  # the border: everything leaves as a DioramaError
    finally:
        allocator.give_back()
    progress.finish()
    return {
        "asset": str(made_asset),
        "stages": progress.stages,
        "warnings": progress.warnings,
        "peak_mib": peak_memory_mib(),
    }


def check_output(directory: Path) -> None:
    """Refuses, before minutes of work, a folder that cannot be made or written.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise output_folder.unwritable(directory, error) from error

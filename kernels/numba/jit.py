"""How every CPU kernel is compiled: free of the interpreter lock, cached on disk, with safe fast maths."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.misc.appdirs import AppDirs

# Sums may be reordered and fused, but NaN and infinity keep their meaning: a NaN must stay one.
_MATHS = {"nsz", "arcp", "contract", "afn", "reassoc"}

_config: Any = numba.config

inline: Any = numba.njit(nogil=True, fastmath=_MATHS, error_model="numpy", forceinline=True)


def _cache_folder() -> str:
    """A folder of the user's for exactly these sources, never one inside the add-on.

    Numba alone would look only at the date of the one file a function is in, not at what it inlines.
    """
    folder = Path(__file__).parent
    sources = sorted([*folder.glob("*.py"), folder.parent / "stages.py"])
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    base = _config.CACHE_DIR or AppDirs("diorama", False).user_cache_dir
    return str(Path(base) / f"kernels-{digest}")


_CACHE_FOLDER = _cache_folder()


def jit(function: Callable[..., Any]) -> Any:
    """Compiles at the first call, or loads what an earlier run compiled.

    Not parallel=True: Numba's threading layers change torch's thread count or abort on concurrent calls.
    """
    before, _config.CACHE_DIR = _config.CACHE_DIR, _CACHE_FOLDER  # read when decorating
    try:
        return numba.njit(nogil=True, fastmath=_MATHS, error_model="numpy", cache=True)(function)
    finally:
        _config.CACHE_DIR = before

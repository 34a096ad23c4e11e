"""How every CPU kernel is compiled: free of the interpreter lock, cached on disk, with safe fast maths."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import _CacheLocator as CacheLocator
from numba.misc.appdirs import AppDirs

# Sums may be reordered and fused, but NaN and infinity keep their meaning: a NaN must stay one.
_MATHS = {"nsz", "arcp", "contract", "afn", "reassoc"}

_config: Any = numba.config

inline: Any = numba.njit(nogil=True, fastmath=_MATHS, error_model="numpy", forceinline=True)


def _digest() -> str:
    """The identity of these sources: Numba alone would not see a change in what a function inlines."""
    folder = Path(__file__).parent
    sources = sorted([*folder.glob("*.py"), folder.parent / "stages.py"])
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


_DIGEST = _digest()


class CacheOfTheseSources(CacheLocator):
    """Compiled kernels in the user's cache folder, shared by all copies of exactly these sources.

    Numba's own locators tell sources apart by their path and date, so each installation of the add-on would
    compile for a minute what the one before had compiled.
    """

    def __init__(self, first_line: int) -> None:
        self._first_line = first_line

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], _py_file: str) -> CacheOfTheseSources:
        """The locator of one function."""
        return cls(py_func.__code__.co_firstlineno)

    def get_cache_path(self) -> str:
        """A folder of the user's, never one inside the add-on."""
        base = _config.CACHE_DIR or AppDirs("diorama", False).user_cache_dir
        return str(Path(base) / f"kernels-{_DIGEST}")

    def get_source_stamp(self) -> str:
        """What must be equal for a compiled function to be used."""
        return _DIGEST

    def get_disambiguator(self) -> str:
        """Tells functions of one name apart."""
        return str(self._first_line)


def jit(function: Callable[..., Any]) -> Any:
    """Compiles at the first call, or loads what an earlier run compiled.

    Not parallel=True: Numba's threading layers change torch's thread count or abort on concurrent calls.
    """
    before = _config.CACHE_LOCATOR_CLASSES  # read when decorating
    _config.CACHE_LOCATOR_CLASSES = f"{__name__}.{CacheOfTheseSources.__name__}"
    try:
        return numba.njit(nogil=True, fastmath=_MATHS, error_model="numpy", cache=True)(function)
    finally:
        _config.CACHE_LOCATOR_CLASSES = before

"""How every CPU kernel is compiled: free of the interpreter lock, cached on disk, with safe fast maths."""

from __future__ import annotations

from typing import Any

import numba

# Sums may be reordered and fused, but NaN and infinity keep their meaning: a NaN must stay one.
_MATHS = {"nsz", "arcp", "contract", "afn", "reassoc"}

# Never parallel=True: its threading layers change torch's thread count or abort on concurrent calls.
jit: Any = numba.njit(nogil=True, fastmath=_MATHS, cache=True, error_model="numpy", boundscheck=False)
inline: Any = numba.njit(nogil=True, fastmath=_MATHS, error_model="numpy", forceinline=True)

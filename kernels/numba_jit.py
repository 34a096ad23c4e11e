"""How every CPU kernel is compiled: without the interpreter lock, from an on-disk cache, with safe fast maths."""

from __future__ import annotations

import numba

# Sums may be reordered and fused, but NaN and infinity keep their meaning: a NaN must stay one.
_MATHS = {"nsz", "arcp", "contract", "afn", "reassoc"}

# Never parallel=True: its threading layers change torch's thread count or abort on concurrent calls.
jit = numba.njit(nogil=True, fastmath=_MATHS, cache=True, error_model="numpy", boundscheck=False)
inline = numba.njit(nogil=True, fastmath=_MATHS, error_model="numpy", inline="never", forceinline=True)

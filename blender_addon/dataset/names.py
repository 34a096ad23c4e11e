"""Names of folders from what people call things, in the letters of every script."""

from __future__ import annotations

import unicodedata

MOST_BYTES = 120  # of UTF-8: file systems take 255, with a number or an identity behind


def slug(name: str, otherwise: str = "object") -> str:
    """A name as a folder of any system can have it: letters and digits, small, with hyphens between them.

    Example:
        slug("A red mushroom!") == "a-red-mushroom"; slug("赤い きのこ") == "赤い-きのこ"
    """
    plain = unicodedata.normalize("NFC", name).lower()
    # Marks too: without their vowels, the words of many scripts say nothing.
    kept = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in plain)
    words = "-".join(kept.split())
    return words.encode()[:MOST_BYTES].decode("utf-8", "ignore").strip("-") or otherwise

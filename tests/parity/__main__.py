"""Checks every fixture of a folder: `python -m tests.parity DIR`. Exits with 1 if anything differs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .compare import compare


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("directory", type=Path, help="folder with *.safetensors fixtures")
    paths = sorted(parser.parse_args().directory.glob("*.safetensors"))
    if not paths:
        print("no fixtures found", file=sys.stderr)
        return 1

    print(f"{'output':58} {'max abs':>9} {'allowed':>9} {'mean abs':>9} {'allowed':>9}")
    failures = 0
    for path in paths:
        try:
            rows = compare(path)
        except Exception as error:  # a fixture that cannot be computed is a miss, and the others still count
            failures += 1
            print(f"{path.stem:58} FAILED: {type(error).__name__}: {error}")
            continue
        for row in rows:
            failures += not row.passed
            print(f"{path.stem + '.' + row.name:58} {row}", flush=True)
    print(f"{len(paths)} fixtures, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

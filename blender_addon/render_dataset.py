"""Renders training data from your own files: run this with Blender, or with a Python that has bpy.

    blender -b scene.blend --python render_dataset.py -- --out DIR
    blender -b --python render_dataset.py -- folder/of/files another.glb --out DIR
    blender -b --python render_dataset.py -- files --out DIR --mode vividzoo --frames 16 --step 3
    python render_dataset.py files --out DIR

Needs neither the backend nor an installed add-on. Your files are opened and never saved. What is rendered:
each object and collection that has a custom property "caption"; of a file without any, everything, captioned
with the file's name. Started again with the same options, finished objects are skipped.
"""

import importlib.util
import sys
from pathlib import Path

try:
    import bpy  # noqa: F401 (only to say it here, in words)
except ImportError as error:
    sys.exit(f"Cannot load Blender: {error}\nUse: blender -b --python render_dataset.py -- …")


def run(argv: list[str]) -> int:
    """Loads the folder beside this file as a package of its own, so that nothing has to be installed."""
    folder = Path(__file__).resolve().parent / "dataset"
    spec = importlib.util.spec_from_file_location("diorama_dataset", folder / "__init__.py")
    assert spec and spec.loader
    package = importlib.util.module_from_spec(spec)
    sys.modules["diorama_dataset"] = package
    spec.loader.exec_module(package)
    code: int = importlib.import_module("diorama_dataset.command").main(argv, __doc__ or "")
    return code


if __name__ == "__main__":
    # After "--" in Blender's own command line; all of it where bpy is a Python module.
    begin = sys.argv.index("--") + 1 if "--" in sys.argv else 1
    sys.exit(run(sys.argv[begin:]))

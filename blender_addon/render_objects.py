"""Renders objects of your own file from all around, for `backend reconstruct`: run this with Blender.

    blender -b scene.blend --python render_objects.py -- --out DIR --objects Suzanne
    blender -b scene.blend --python render_objects.py -- --out DIR --first 1 --last 24 --step 3
    python render_objects.py scene.blend --out DIR
    python render_objects.py scene.blend --turntable FILE.mp4 --objects Suzanne

Needs neither the backend nor an installed add-on. Your file is never saved. Engine, lights and materials are
its own. The folder then holds images with transparency and transforms.json, which other tools read too.
"""

import importlib.util
import sys
from pathlib import Path

try:
    import bpy  # noqa: F401 (only to say it here, in words)
except ImportError as error:
    sys.exit(f"Cannot load Blender: {error}\nUse: blender -b scene.blend --python render_objects.py -- …")


def run(argv: list[str]) -> int:
    """Loads the folder beside this file as a package of its own, so that nothing has to be installed."""
    folder = Path(__file__).resolve().parent / "dataset"
    spec = importlib.util.spec_from_file_location("diorama_dataset", folder / "__init__.py")
    assert spec and spec.loader
    package = importlib.util.module_from_spec(spec)
    sys.modules["diorama_dataset"] = package
    spec.loader.exec_module(package)
    around = importlib.import_module("diorama_dataset.around")
    turntable = importlib.import_module("diorama_dataset.turntable")
    code: int = around.main(argv, __doc__ or "", turntable.record)
    return code


if __name__ == "__main__":
    # After "--" in Blender's own command line; all of it where bpy is a Python module.
    begin = sys.argv.index("--") + 1 if "--" in sys.argv else 1
    code = run(sys.argv[begin:])
    if code:  # Blender itself would end with 0
        sys.exit(code)

"""Starts Diorama without a window, from Blender's command line or a Python with bpy: see headless.py."""

import atexit
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

try:
    import bpy
except ImportError as error:
    sys.exit(
        f"Cannot load Blender: {error}\n"
        "Use Blender (blender -b --python batch.py -- …) or a Python that has bpy. If a shared library is\n"
        "missing, on Debian and Ubuntu: apt-get install libx11-6 libxrender1 libxfixes3 libxi6 \\\n"
        "  libxkbcommon0 libsm6 libgl1"
    )
import addon_utils


def addon() -> ModuleType:
    """The add-on this file belongs to: an installed extension, or the folder of an unpacked zip."""
    folder = Path(__file__).resolve().parent
    for repository in bpy.context.preferences.extensions.repos:
        if repository.directory and Path(repository.directory).resolve() == folder.parent:
            name = f"bl_ext.{repository.module}.{folder.name}"
            if not addon_utils.check(name)[1]:  # bpy as a Python module starts with nothing enabled
                addon_utils.enable(name, default_set=True)
            return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location("diorama", folder / "__init__.py")
    assert spec and spec.loader
    package = importlib.util.module_from_spec(spec)
    sys.modules["diorama"] = package
    spec.loader.exec_module(package)
    package.register()
    atexit.register(package.unregister)  # Blender 4.2 crashes at its end on classes that are still registered
    return package


if __name__ == "__main__":
    # After "--" in Blender's own command line; all of it where bpy is a Python module.
    begin = sys.argv.index("--") + 1 if "--" in sys.argv else 1
    sys.exit(addon().headless.main(sys.argv[begin:]))

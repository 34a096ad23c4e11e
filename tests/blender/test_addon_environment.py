"""Making the backend's environment: the plan, real runs of pip on a tiny package, failures and repair."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.blender.layout_helper import Layout

CHECKED = (
    "torch",
    "diffusers",
    "transformers",
    "numba",
)  # what an installation imports before it counts as whole


def tiny_wheel(folder: Path, *modules: str) -> Path:
    """A package that installs these (empty) modules without a network."""
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for module in modules:
            wheel.writestr(f"{module}.py", "")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr("tiny-1.0.dist-info/WHEEL", tag)
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture(scope="module")
def requirements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of packages that can be installed at once."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "requirements.txt").write_text(f"{tiny_wheel(folder, *CHECKED)}\n")
    return folder / "requirements.txt"


@pytest.fixture(scope="module")
def environment(extension: ModuleType) -> ModuleType:
    return extension.client.environment


@pytest.fixture(scope="module")
def install(extension: ModuleType) -> Callable[[Path, Path], None]:
    """Carries out an installation, with the Python that runs the tests."""

    def install(requirements: Path, folder: Path) -> None:
        plan = extension.client.environment.plan(requirements, folder, sys.executable)
        extension.client.installation.Installation(plan).wait()

    return install


@pytest.fixture(scope="module")
def repaired(environment: ModuleType, install, requirements: Path, tmp_path_factory) -> Path:
    """An environment whose first installation failed, for its packages were not all there."""
    folder = tmp_path_factory.mktemp("repaired")
    incomplete = folder / "requirements.txt"
    incomplete.write_text(f"{tiny_wheel(folder, 'torch')}\n")
    with pytest.raises(environment.DioramaError, match="diffusers") as error:
        install(incomplete, folder / "env")
    assert error.value.code == "E_ENVIRONMENT"
    assert environment.state(incomplete, folder / "env") == "broken"
    install(requirements, folder / "env")
    return folder / "env"


def test_plan_only_plans(environment: ModuleType, requirements: Path, tmp_path: Path) -> None:
    folder = tmp_path / "env"
    plan = environment.plan(requirements, folder, sys.executable)
    assert str(requirements) in [word for step in plan.steps for word in step.argv]
    assert not folder.exists()
    assert environment.state(requirements, folder) == "missing"


def test_failed_installation_is_explained_and_can_be_repaired(
    environment: ModuleType, requirements: Path, repaired: Path
) -> None:
    assert environment.state(requirements, repaired) == "ready"
    assert environment.backend_python("", repaired) == environment.python_in(repaired)


def test_new_packages_make_an_environment_outdated(
    environment: ModuleType, requirements: Path, repaired: Path, tmp_path: Path
) -> None:
    newer = tmp_path / "requirements.txt"
    newer.write_text(requirements.read_text() + "# newer\n")
    assert environment.state(newer, repaired) == "outdated"


def test_torch_is_installed_first(extension: ModuleType, environment: ModuleType) -> None:
    shipped = extension.host.ROOT / "backend" / "requirements.txt"
    plan = environment.plan(shipped, Path.home() / "nowhere", sys.executable)
    titles = [step.argv[-1] for step in plan.steps]
    assert titles[1].startswith("torch==")
    assert titles[2] == str(shipped)


def test_cancelled_installation_is_not_taken_for_whole(
    extension: ModuleType, requirements: Path, tmp_path: Path
) -> None:
    environment, folder = extension.client.environment, tmp_path / "env"
    plan = environment.plan(requirements, folder, sys.executable)
    installation = extension.client.installation.Installation(plan)
    installation.cancel()
    with pytest.raises(environment.DioramaError, match="cancelled"):
        installation.wait()
    assert environment.state(requirements, folder) != "ready"


def test_no_python_to_be_found(
    extension: ModuleType, requirements: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "gone"))
    for variable in ("PATH", "HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(extension.client.environment.DioramaError, match="no Python"):
        extension.client.environment.plan(requirements, tmp_path / "env")


def test_chosen_python_that_does_not_exist(extension: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(extension.client.environment.DioramaError, match="does not exist"):
        extension.client.environment.backend_python(str(tmp_path / "python"), tmp_path)


def test_default_folder_is_short_and_outside_of_the_extension(extension: ModuleType) -> None:
    folder = extension.client.environment.default_folder()
    assert not folder.is_relative_to(extension.host.ROOT)
    assert len(str(folder)) - len(os.path.expanduser("~")) < 50


def python_that_says(folder: Path, version: str, pip: str = "25.0") -> Path:
    """A program that answers as a Python of that version would."""
    path = folder / "python3"
    path.write_text(f"#!/bin/sh\necho '[{version}, \"{pip}\"]'\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script")
@pytest.mark.parametrize(
    ("version", "pip", "words"),
    [
        ("[3, 14, 1]", "25.0", r"Python 3.14.1 \(.*python3\) is too new: packages are published up to 3.13"),
        ("[3, 9, 2]", "21.0", "too old: at least 3.11 is needed"),
        ("[3, 12, 0]", "", "cannot make environments"),
    ],
)
def test_python_that_will_not_do_is_named_with_the_reason(
    extension: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, pip: str, words: str
) -> None:
    python_that_says(tmp_path, version, pip)
    monkeypatch.setattr("sys.executable", str(tmp_path / "gone"))
    for variable in ("PATH", "HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(extension.client.environment.DioramaError, match=words):
        extension.client.pythons.choose()
    (found,) = extension.client.pythons.find()
    assert found.obstacle
    host = extension.host.get()
    with pytest.raises(extension.client.environment.DioramaError):
        host.plan_installation()
    extension.ui.install_operators._found[:] = [found]
    layout = Layout()
    extension.ui.first_run.draw_environment(layout)
    assert "Choose a Python …" in layout.drawn
    assert found.obstacle.split(":")[0] in layout.text
    host.install_problem = None


def test_chosen_python_makes_the_environment(
    extension: ModuleType, requirements: Path, tmp_path: Path
) -> None:
    plan = extension.client.environment.plan(requirements, tmp_path / "env", sys.executable, "CPU")
    assert plan.steps[0].argv[0] == sys.executable
    with pytest.raises(extension.client.environment.DioramaError, match="is no Python"):
        extension.client.environment.plan(requirements, tmp_path / "env", str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("system", "driver", "index"),
    [
        ("linux", "has_nvidia", ""),
        ("linux", "has_amd", "whl/rocm"),
        ("linux", "has_intel", "whl/xpu"),
        ("linux", "", "whl/cpu"),
        ("win32", "has_nvidia", "whl/cu"),
        ("win32", "has_amd", "whl/cpu"),
        ("darwin", "", ""),
    ],
)
def test_torch_is_built_for_the_gpu_whose_driver_is_there(
    extension: ModuleType, monkeypatch: pytest.MonkeyPatch, system: str, driver: str, index: str
) -> None:
    """Nothing of it was tried on such machines: here the drivers are stand-ins."""
    environment, builds = extension.client.environment, extension.client.torch_builds
    for each in ("has_nvidia", "has_amd", "has_intel"):
        monkeypatch.setattr(builds, each, lambda found=each == driver: found)
    monkeypatch.setattr(builds.sys, "platform", system)
    monkeypatch.setattr(builds.platform, "machine", lambda: "arm64")
    build, why = builds.choose()
    assert index in build.index and bool(index) == bool(build.index)
    assert why
    assert builds.choose("CPU")[0].title == ("Apple (Metal)" if system == "darwin" else "CPU only")
    shipped = extension.host.ROOT / "backend" / "requirements.txt"
    plan = environment.plan(shipped, Path.home() / "nowhere", sys.executable)
    assert (build.index in plan.steps[1].argv) == bool(index)
    assert build.index not in plan.steps[2].argv
    assert plan.torch == f"{build.title}: {why}"


def test_mac_without_a_torch_is_refused_before_anything_is_done(
    extension: ModuleType, requirements: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, builds = extension.client.environment, extension.client.torch_builds
    monkeypatch.setattr(builds.sys, "platform", "darwin")
    monkeypatch.setattr(builds.platform, "machine", lambda: "x86_64")
    with pytest.raises(environment.DioramaError, match="Intel"):
        environment.plan(requirements, tmp_path / "env", sys.executable)
    monkeypatch.setattr(builds.platform, "machine", lambda: "arm64")
    assert environment.plan(requirements, tmp_path / "env", sys.executable).torch.startswith("Apple")


def test_progress_is_counted_in_megabytes_over_all_files(
    extension: ModuleType, requirements: Path, tmp_path: Path
) -> None:
    plan = extension.client.environment.plan(requirements, tmp_path / "env", sys.executable)
    installation = extension.client.installation.Installation(plan)
    installation.cancel()
    with pytest.raises(extension.client.environment.DioramaError):
        installation.wait()
    for line, expected_mb in (
        ("Downloading torch-2.13.0-cp311-none-any.whl (200.0 MB)", 0),
        ("Progress 50000000 of 200000000", 50),
        ("Downloading numpy-2.4.6-cp311-none-any.whl (16.9 MB)", 200),
        ("Progress 8000000 of 16900000", 208),
        ("Installing collected packages: torch, numpy", 216),
    ):
        installation._take(line)
        assert installation.done_mb == expected_mb
    assert 0 < installation.fraction < 1


def test_environment_can_be_removed_and_nothing_else(
    extension: ModuleType, environment: ModuleType, repaired: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(repaired, tmp_path / "env", symlinks=True))
    extension.client.installation.Removal(folder).wait()
    assert not list(tmp_path.iterdir())
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(environment.DioramaError, match="is no Python environment"):
        extension.client.installation.Removal(folder)
    assert (folder / "mine.txt").exists()

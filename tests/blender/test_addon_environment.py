"""Making the backend's environment: the plan, real runs of pip on a tiny package, failures and repair."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

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


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    """A list of packages that can be installed at once."""
    path = tmp_path / "requirements.txt"
    path.write_text(f"{tiny_wheel(tmp_path, *CHECKED)}\n")
    return path


def test_installs_from_nothing_and_says_what_it_does(
    extension: ModuleType, requirements: Path, tmp_path: Path
) -> None:
    environment, folder = extension.client.environment, tmp_path / "env"
    assert environment.state(requirements, folder) == "missing"
    plan = environment.plan(requirements, folder)
    assert not folder.exists()  # a plan only plans
    assert str(requirements) in [word for step in plan.steps for word in step.argv]
    environment.Installation(plan).wait()
    assert environment.state(requirements, folder) == "ready"
    assert environment.backend_python("", folder) == environment.python_in(folder)


def test_torch_is_installed_first(extension: ModuleType) -> None:
    shipped = extension.host.ROOT / "backend" / "requirements.txt"
    titles = [
        step.argv[-1] for step in extension.client.environment.plan(shipped, Path.home() / "nowhere").steps
    ]
    assert titles[1].startswith("torch==")
    assert titles[2] == str(shipped)


def test_failed_installation_is_explained_and_can_be_repaired(
    extension: ModuleType, requirements: Path, tmp_path: Path
) -> None:
    environment, folder = extension.client.environment, tmp_path / "env"
    (tmp_path / "broken").mkdir()
    incomplete = tmp_path / "broken" / "requirements.txt"
    incomplete.write_text(f"{tiny_wheel(tmp_path / 'broken', 'torch')}\n")
    with pytest.raises(extension.client.environment.DioramaError, match="diffusers") as error:
        environment.Installation(environment.plan(incomplete, folder)).wait()
    assert error.value.code == "E_ENVIRONMENT"
    assert environment.state(incomplete, folder) == "broken"
    environment.Installation(environment.plan(requirements, folder)).wait()
    assert environment.state(requirements, folder) == "ready"


def test_new_packages_make_an_environment_outdated(
    extension: ModuleType, requirements: Path, tmp_path: Path
) -> None:
    environment, folder = extension.client.environment, tmp_path / "env"
    environment.Installation(environment.plan(requirements, folder)).wait()
    requirements.write_text(requirements.read_text() + "# newer\n")
    assert environment.state(requirements, folder) == "outdated"


def test_cancelled_installation_is_not_taken_for_whole(
    extension: ModuleType, requirements: Path, tmp_path: Path
) -> None:
    environment, folder = extension.client.environment, tmp_path / "env"
    installation = environment.Installation(environment.plan(requirements, folder))
    installation.cancel()
    with pytest.raises(environment.DioramaError, match="cancelled"):
        installation.wait()
    assert environment.state(requirements, folder) != "ready"


def test_no_python_to_be_found(
    extension: ModuleType, requirements: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "gone"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(extension.client.environment.DioramaError, match="no Python"):
        extension.client.environment.plan(requirements, tmp_path / "env")


def test_chosen_python_that_does_not_exist(extension: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(extension.client.environment.DioramaError, match="does not exist"):
        extension.client.environment.backend_python(str(tmp_path / "python"), tmp_path)


def test_default_folder_is_short_and_outside_of_the_extension(extension: ModuleType) -> None:
    folder = extension.client.environment.default_folder()
    assert not folder.is_relative_to(extension.host.ROOT)
    assert len(str(folder)) - len(os.path.expanduser("~")) < 50

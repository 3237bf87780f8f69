"""The distribution: what the wheel holds, who may import whom, what the base install needs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"server", "xcache_core", "worldmodel", "clients"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in a wheel built from this tree."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_the_wheel_holds_exactly_the_four_packages(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel if ".dist-info/" not in name}
    assert tops == PACKAGES


def test_the_wheel_carries_presets_and_type_markers(wheel: list[str]) -> None:
    assert "worldmodel/presets/rigs/surround7.yaml" in wheel
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(wheel)


def test_the_dependency_order_holds() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    lint = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_the_client_imports_without_torch_or_a_web_framework() -> None:
    probe = "import sys, clients, clients.cli; print([m for m in ('torch', 'fastapi', 'cv2') if m in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[]"


def test_no_module_shadows_the_standard_library() -> None:
    modules = {path.stem for package in PACKAGES for path in (ROOT / package).glob("*.py")} - {"__init__"}
    assert modules.isdisjoint(sys.stdlib_module_names)

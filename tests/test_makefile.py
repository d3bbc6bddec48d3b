"""What `make` builds is what it was asked for."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parent.parent / "Makefile"
AUTO, NO = ".venv/.built-auto", ".venv/.built-no"


def make(checkout: Path, *arguments: str) -> str:
    environ = {name: value for name, value in os.environ.items() if name not in {"COMPILE", "MAKEFLAGS", "MFLAGS"}}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """With a Python that does nothing, where all is installed and nothing is built."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "authz_service").mkdir()
    for name in ("hatch_build.py", "pyproject.toml", "README.md", "requirements/dev.lock", ".venv/.installed"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to("/bin/true")
    return tmp_path


def test_what_was_built_stays_while_nothing_has_changed(checkout: Path) -> None:
    make(checkout, AUTO)
    assert "hatchling" not in make(checkout, "-n", "run")


def test_another_choice_of_compiling_builds_anew_and_so_does_the_way_back(checkout: Path) -> None:
    make(checkout, AUTO)
    assert "hatchling" in make(checkout, "-n", "run", "COMPILE=no")
    make(checkout, NO, "COMPILE=no")
    assert "hatchling" not in make(checkout, "-n", "run", "COMPILE=no")
    assert "hatchling" in make(checkout, "-n", "run")

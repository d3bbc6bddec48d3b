"""The wheel with native code, as ``make`` and the container image build it; without the network."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("LICENSE", "README.md", "hatch_build.py", "pyproject.toml")
COMPILED = "authz_service/alphabet.py"
"""One module of many, since the compiler takes its time."""
NO_COMPILER = {"CC": "/nonexistent/cc"}
WHEEL_FOR_ANY_MACHINE = "py3-none-any.whl"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "authz_service", source / "authz_service", ignore=shutil.ignore_patterns("__pycache__"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    before, _, rest = project.partition("modules = [\n")
    (source / "pyproject.toml").write_text(
        f'{before}modules = ["{COMPILED}"]\n{rest.partition("]")[2]}', encoding="utf-8"
    )
    return source


def build(source: Path, target: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)], cwd=source,
        env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


def compiler_is_missing() -> bool:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    return shutil.which(compiler) is None or not Path(sysconfig.get_path("include"), "Python.h").exists()


@pytest.mark.skipif(compiler_is_missing(), reason="there is no C compiler, or it has no Python.h")
def test_native_code_is_beside_its_source_and_runs(source: Path, tmp_path: Path) -> None:
    built = build(source, tmp_path, COMPILE="required")
    assert built.returncode == 0, built.stdout
    (wheel,) = tmp_path.glob("*.whl")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    native = {f"authz_service__mypyc{suffix}", COMPILED.replace(".py", suffix)}
    with ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if name.endswith(".so")} == native
        assert COMPILED in archive.namelist()
        archive.extractall(tmp_path / "unpacked")
    assert not wheel.name.endswith(WHEEL_FOR_ANY_MACHINE)
    program = "import authz_service.alphabet as a; print(a.__file__, a.Alphabet(b'ab').spells('ab'))"
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "unpacked"), "PYTHONSAFEPATH": "1"}
    run = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False)
    assert run.stdout == f"{tmp_path / 'unpacked' / COMPILED.replace('.py', suffix)} True\n", run.stderr


@pytest.mark.parametrize("environ", [NO_COMPILER, NO_COMPILER | {"COMPILE": "auto"}, {"COMPILE": "no"}])
def test_without_a_compiler_the_wheel_is_plain_python_and_says_so(
    environ: dict[str, str], source: Path, tmp_path: Path
) -> None:
    built = build(source, tmp_path, **environ)
    (wheel,) = tmp_path.glob("*.whl")
    assert (built.returncode, wheel.name.endswith(WHEEL_FOR_ANY_MACHINE)) == (0, True), built.stdout
    assert ("the service will run as plain Python" in built.stdout) == ("CC" in environ)
    assert ("/nonexistent/cc" in built.stdout) == ("CC" in environ)


def test_where_it_must_be_compiled_nothing_else_is_built(source: Path, tmp_path: Path) -> None:
    built = build(source, tmp_path, **NO_COMPILER, COMPILE="required")
    assert built.returncode != 0
    assert "/nonexistent/cc" in built.stdout
    assert list(tmp_path.glob("*.whl")) == []


def test_another_word_than_those_is_refused(source: Path, tmp_path: Path) -> None:
    built = build(source, tmp_path, COMPILE="yes")
    assert built.returncode != 0
    assert "COMPILE=yes: one of auto, required, no" in built.stdout
    assert list(tmp_path.glob("*.whl")) == []


@pytest.mark.skipif("PYTHONSAFEPATH" not in os.environ, reason="not run by make: the checkout is what is tested")
def test_services_of_these_tests_are_what_was_built() -> None:
    program = "import authz_service; print(authz_service.__file__)"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    installed = {Path(sysconfig.get_path(place)) for place in ("purelib", "platlib")}
    assert Path(run.stdout.strip()).parents[1] in installed

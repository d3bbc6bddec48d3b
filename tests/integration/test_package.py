"""What is released holds what it should, and installs and runs away from the checkout; without the network."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import grpc
import pytest

from authz_service import __version__
from authz_service.transport.check_service import METHOD
from demo.envoy_bootstrap import ENVOY_YAML
from tests.support.check_requests import check_request, read_answer
from tests.support.service import POLICY, Service

ROOT = ENVOY_YAML.parents[1]
LEFT_OUT = ".ci/"
BUILT = {"PKG-INFO"}


class Release(NamedTuple):
    """As ``make dist`` makes it."""

    wheel: Path
    sdist: Path


class Installed(NamedTuple):
    """The wheel in an environment of its own, which borrows what it depends on from this one."""

    directory: Path

    @property
    def script(self) -> Path:
        """The command that users type."""
        return self.directory / "bin" / "authz-service"

    def run(self, *command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """Far from the checkout."""
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.directory, env=environ)


def build(source: Path, target: Path, *kinds: str) -> None:
    flags = [flag for kind in kinds for flag in ("--target", kind)]
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(target), *flags]
    subprocess.run(command, cwd=source, check=True, capture_output=True, env={**os.environ, "COMPILE": "no"})


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    target = tmp_path_factory.mktemp("dist")
    build(ROOT, target, "wheel", "sdist")
    return Release(*target.glob("*.whl"), *target.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def installed(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    directory = tmp_path_factory.mktemp("away") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(directory)]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-index", "--no-deps", str(release.wheel)], check=True, capture_output=True
    )
    (site_packages,) = directory.glob("lib/python*/site-packages")
    # A path in such a file is searched, but .pth files there are not read: the checkout stays out.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages / "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")
    return Installed(directory)


def names_of_sdist(release: Release) -> set[str]:
    with tarfile.open(release.sdist) as archive:
        return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


def contents(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def tracked() -> set[str]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout: what belongs to the sources is not known")
    return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


def test_the_sdist_holds_the_sources_and_nothing_else(release: Release) -> None:
    sources = {name for name in tracked() if not name.startswith(LEFT_OUT)}
    assert names_of_sdist(release) - BUILT == sources


def test_the_wheel_holds_the_package_and_nothing_else(release: Release) -> None:
    package = {name for name in tracked() if name.startswith("authz_service/")}
    about = f"authz_service-{__version__}.dist-info/"
    names = contents(release.wheel).keys()
    assert {name for name in names if not name.startswith(about)} == package
    assert "authz_service/py.typed" in names


def test_the_sdist_builds_the_same_wheel(release: Release, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", release.sdist, "-C", tmp_path], check=True)
    (source,) = tmp_path.iterdir()
    build(source, tmp_path / "dist", "wheel")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert contents(wheel) == contents(release.wheel)


def test_it_is_not_the_checkout_that_runs(installed: Installed) -> None:
    program = "import authz_service; print(authz_service.__file__)"
    run = installed.run(installed.directory / "bin" / "python", "-c", program)
    assert Path(run.stdout.strip()).is_relative_to(installed.directory)


def test_the_version_is_the_one_of_the_package(release: Release, installed: Installed) -> None:
    run = installed.run(installed.script, "--version")
    assert (run.returncode, run.stdout) == (0, f"authz-service {__version__}\n")
    assert release.wheel.name.split("-")[1] == __version__
    assert release.sdist.name == f"authz_service-{__version__}.tar.gz"


def test_it_checks_a_configuration(installed: Installed, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY, encoding="utf-8")
    run = installed.run(installed.script, "check-config", "--json", AUTHZ_POLICY_FILE=str(policy))
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["valid"] is True


async def test_it_answers_a_check(installed: Installed, tmp_path: Path) -> None:
    running = Service(tmp_path, {}, command=[str(installed.script)])
    await running.start()
    try:
        async with grpc.aio.insecure_channel(f"unix:{running.address.path}") as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            assert read_answer(await call(check_request(path="/healthz"))).allowed
            assert not read_answer(await call(check_request(path="/api/chat/groups"))).allowed
    finally:
        assert await running.stop() == 0


def test_a_type_checker_sees_its_types(installed: Installed, tmp_path: Path) -> None:
    user = tmp_path / "user.py"
    program = "from authz_service.http_url import well_known\nreveal_type(well_known('a', 'b'))\n"
    user.write_text(program, encoding="utf-8")
    python = installed.directory / "bin" / "python"
    run = installed.run(
        sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "--cache-dir", tmp_path / "cache", user
    )
    assert 'Revealed type is "str"' in run.stdout.replace("builtins.", ""), run.stdout

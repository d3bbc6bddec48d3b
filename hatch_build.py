"""Builds the wheel. What a request goes through is compiled by mypyc (the same code, typed, as C) if that can be done.

``COMPILE=auto`` (the default) compiles where there is a C compiler with Python's headers, and says so where there is
none; ``COMPILE=required`` fails there; ``COMPILE=no`` builds the wheel that runs anywhere, and slower.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CHOICES = ("auto", "required", "no")
GROUP = "authz_service"
"""Names the library that all compiled modules share: ``authz_service__mypyc``."""
LAST_WORDS = 12
"""Lines of a failure that say why."""
COMPILER = ["-fvisibility=hidden", "-fno-asynchronous-unwind-tables"]
LINKER = ["-s", "-Wl,-z,noseparate-code"]
"""On Linux, both for memory: nothing is called from outside by its name; and each module is a library of its own, with
next to nothing in it, which takes two pages so."""


class CompilingHook(BuildHookInterface[Any]):
    """``[tool.hatch.build.targets.wheel.hooks.custom]`` in ``pyproject.toml`` says what is compiled, in ``modules``."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the compiled modules to the wheel, beside their sources, which tracebacks show."""
        choice = os.environ.get("COMPILE") or "auto"
        if choice not in CHOICES:
            raise SystemExit(f"COMPILE={choice}: one of {', '.join(CHOICES)}")
        if choice == "no" or version == "editable":
            return
        self._scratch = TemporaryDirectory()
        compiled = Path(self._scratch.name)
        if failure := compile_apart(Path(self.root), self.config["modules"], compiled):
            if choice == "required":
                raise SystemExit(f"Not compiled:\n{failure}")
            self.app.display_warning(
                f"{failure}\nNot compiled, for the reason above: the service will run as plain Python, which is "
                "slower. It takes a C compiler and Python's headers (Debian: gcc, libc6-dev, python3-dev)."
            )
            return
        build_data["force_include"] |= {str(path): str(path.relative_to(compiled)) for path in compiled.rglob("*.so")}
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """The wheel is written."""
        if hasattr(self, "_scratch"):
            self._scratch.cleanup()


def compile_apart(root: Path, modules: list[str], target: Path) -> str:
    """In a process of its own, because mypyc ends the one that it fails in; :returns: a failure's last words."""
    command = [sys.executable, __file__, str(target), *modules]
    run = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return "\n".join(run.stdout.splitlines()[-LAST_WORDS:]) if run.returncode else ""


def compile_here(modules: list[str], target: Path) -> None:
    """:param modules: paths from the working directory. :param target: gets a shared library for each."""
    from mypyc.build import mypycify  # noqa: PLC0415 - not there where nothing is compiled
    from setuptools import Distribution  # noqa: PLC0415
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    with TemporaryDirectory() as scratch:
        extensions = mypycify(
            ["--config-file=", "--follow-imports=silent", "--ignore-missing-imports", "--python-executable",
             sys.executable, *modules],
            group_name=GROUP, target_dir=scratch, opt_level="2", debug_level="0",
        )  # fmt: skip
        for extension in extensions if sys.platform == "linux" else ():
            extension.extra_compile_args += COMPILER
            extension.extra_link_args += LINKER
        command = build_ext(Distribution({"name": GROUP, "ext_modules": extensions}))
        command.build_lib, command.build_temp = str(target), scratch
        command.ensure_finalized()
        command.run()


if __name__ == "__main__":
    compile_here(sys.argv[2:], Path(sys.argv[1]))

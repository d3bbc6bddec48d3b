"""``protos/`` -> ``authz_service/_pb/``; with ``--check``, only says whether the one is still what the other gives."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import grpc_tools  # type: ignore[import-untyped]  # ships no types
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("authz_service/_pb")
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
"""``google/protobuf/*.proto``, as they come with the compiler."""


def generate(target: Path) -> dict[str, bytes]:
    """Compile into a directory; gives the files by name. No service stubs: transports handle bytes.

    :raises SystemExit: when the compiler refuses, after it has said why.
    """
    sources = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / PACKAGE).glob("*.proto"))
    options = (f"-I{PROTOS}", f"-I{WELL_KNOWN}", f"--python_out={target}", f"--pyi_out={target}")
    if protoc.main(("protoc", *options, *sources)) != 0:
        raise SystemExit("protos/ does not compile.")
    return generated(target)


def generated(root: Path) -> dict[str, bytes]:
    """The generated files below a root."""
    return {path.name: path.read_bytes() for path in sorted((root / PACKAGE).glob("*_pb2.py*"))}


def differences(fresh: dict[str, bytes], committed: dict[str, bytes]) -> list[str]:
    """One line per file that is missing, left over or not what the compiler gives."""
    return [
        f"{PACKAGE / name}: {'missing' if name not in committed else 'left over' if name not in fresh else 'differs'}"
        for name in sorted(fresh.keys() | committed.keys())
        if fresh.get(name) != committed.get(name)
    ]


def replace(fresh: Path) -> None:
    """Put the fresh files where the committed ones are; those without a source go."""
    for name in generated(ROOT):
        (ROOT / PACKAGE / name).unlink()
    for name in generated(fresh):
        shutil.copyfile(fresh / PACKAGE / name, ROOT / PACKAGE / name)


def main(arguments: list[str]) -> int:
    """0 when the committed files are, or now are, what ``protos/`` gives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something would change")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        found = differences(generate(Path(directory)), generated(ROOT))
        if not options.check:
            replace(Path(directory))
            return 0
    if found:
        print(*found, "The stubs are not what protos/ gives: run `make protos` and commit.", sep="\n", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

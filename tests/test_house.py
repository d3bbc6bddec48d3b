"""The law of the house: a room imports only from floors below it, and the core does no I/O."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import authz_service

ROOT = Path(authz_service.__file__).parent
REPOSITORY = Path(__file__).resolve().parents[1]

FLOORS = (
    ("address", "alphabet", "errors", "finding", "http_url", "__init__"),
    ("kept",),
    ("model",),
    ("token", "policy", "response"),
    ("build", "config", "http_library"),
    ("caller", "http_get", "issuers", "policy_file"),
    ("authorizer",),
    ("limits", "keys"),
    ("observability", "ways"),
    ("migration",),
    ("transport",),
    ("decision_server",),
    ("server",),
    ("workers",),
    ("explain", "lint", "policy_cases"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
"""From the ground up. Rooms of one floor do not know each other."""

CORE = (
    "address", "alphabet", "errors", "finding", "http_url", "kept", "model", "token", "policy", "response", "caller",
    "authorizer",
)  # fmt: skip
IO = frozenset({
    "aiohttp", "asyncio", "grpc", "os", "pathlib", "prometheus_client", "random", "signal", "socket", "ssl",
    "subprocess", "threading", "time", "urllib.request", "uvloop",
})  # fmt: skip

SOLE_IMPORTERS = {
    "aiohttp": {"http_library"},
    "jose": {"token.jose_library"},
    "authz_service._pb": {"transport.check_message"},
    "google": {"transport.check_message"},
    "grpc": {"transport.grpcio_server"},
    "opentelemetry": {"observability.tracing"},
}


def room(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if room(path) != "_pb")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(of: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if of in rooms)


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", modules(), ids=name)
def test_a_room_imports_only_from_floors_below(path: Path) -> None:
    for imported in imports(path):
        if not imported.startswith("authz_service.") or imported.startswith("authz_service._pb"):
            continue
        other = imported.split(".")[1]
        other = "__init__" if other == "__version__" else other
        assert other == room(path) or floor(other) < floor(room(path)), f"{name(path)} imports {imported}"


@pytest.mark.parametrize("path", [path for path in modules() if room(path) in CORE], ids=name)
def test_the_core_does_no_io_and_has_no_clock(path: Path) -> None:
    for imported in imports(path):
        parts = imported.split(".")
        assert not {parts[0], ".".join(parts[:2])} & IO, f"{name(path)} imports {imported}"


@pytest.mark.parametrize("library", SOLE_IMPORTERS)
def test_a_library_has_one_door(library: str) -> None:
    importers = {
        name(path) for path in modules()
        for imported in imports(path) if imported == library or imported.startswith(f"{library}.")
    }  # fmt: skip
    assert importers == SOLE_IMPORTERS[library]


def compiled() -> set[str]:
    """What ``hatch_build.py`` compiles, by module."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
    return {path.removesuffix(".py").replace("/", ".") for path in listed}


def test_what_is_compiled_is_there() -> None:
    assert compiled() <= {f"authz_service.{name(path)}" for path in modules()}


@pytest.mark.parametrize(
    "path", [path for path in modules() if f"authz_service.{name(path)}" not in compiled()], ids=name
)
def test_no_class_inherits_from_a_compiled_one_unless_it_is_compiled_too(path: Path) -> None:
    origin = {imported.rpartition(".")[2]: imported.rpartition(".")[0] for imported in imports(path)}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            bases = {origin.get(base.id) for base in node.bases if isinstance(base, ast.Name)}
            assert not bases & compiled(), f"mypyc refuses {node.name} when it is imported"


@pytest.mark.parametrize("module", sorted(compiled()))
def test_nothing_that_is_compiled_waits(module: str) -> None:
    """What mypyc makes of ``await`` throws exceptions in three parts, of which Python 3.12 and later warn."""
    tree = ast.parse((REPOSITORY / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8"))
    assert [node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)] == []

"""``config.py`` -> the tables of settings in the documents; with ``--check``, only says whether they are current."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from authz_service.config import Config

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- settings: written by `make docs` from authz_service/config.py -->\n"
END = "<!-- end of settings -->\n"
ISSUER = "{issuer}"

FIRST_SETTINGS = (
    "AUTH_API_ISSUER", "AUTH_API_JWKS_URL", "JWT_AUDIENCE", "JWKS_SNAPSHOT_PATH", "AUTHZ_POLICY_FILE", "AUTHZ_LISTEN",
    "AUTHZ_ADMIN_LISTEN", "USE_OAUTH2_AUTH",
)  # fmt: skip
"""What a first deployment decides about; the README shows no others."""


def documents() -> dict[Path, str]:
    """The documents as they should be."""
    fields = {str(field.alias): field for field in Config.model_fields.values()}
    tables = {
        ROOT / "README.md": first_table({name: fields[name] for name in FIRST_SETTINGS}),
        ROOT / "docs" / "configuration.md": full_table(fields),
    }
    return {path: with_table(path.read_text(encoding="utf-8"), table) for path, table in tables.items()}


def with_table(text: str, table: str) -> str:
    """The text with this table between its marks. :raises ValueError: it has no marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"there is no place for the table; it stands between {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def first_table(fields: dict[str, FieldInfo]) -> str:
    """What README has room for."""
    rows = ((f"`{name}`", default(field), str(field.description)) for name, field in fields.items())
    return markdown(("variable", "default", "meaning"), rows)


def full_table(fields: dict[str, FieldInfo]) -> str:
    """All that is known."""
    rows = (
        (f"`{name}`", default(field), allowed(field), str(field.description)) for name, field in fields.items()
    )
    return markdown(("variable", "default", "allowed", "meaning"), rows)


def markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table."""
    rule = "---" + "|---" * (len(head) - 1)
    lines = [" | ".join(head), rule, *(" | ".join(row) for row in rows)]
    return "".join(f"| {line} |\n" if line is not rule else f"|{line}|\n" for line in lines)


def default(field: FieldInfo) -> str:
    """As one would type it."""
    if field.default_factory is not None:
        value: Any = field.default_factory({"issuer": ISSUER})  # type: ignore[call-arg]
    else:
        value = field.default
    return "unset" if value is None else f"`{typed(value)}`"


def typed(value: object) -> str:
    """A value as the environment spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    if type(value) is tuple:
        return ",".join(map(typed, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def allowed(field: FieldInfo) -> str:
    """Bounds or words; nothing where the meaning says it."""
    words = literals(field.annotation)
    if field.annotation is bool:
        words = ("true", "false")
    if words:
        return ", ".join(f"`{word}`" for word in words)
    low = next((f"above {limit.gt}" if isinstance(limit, Gt) else f"{limit.ge}" for limit in field.metadata
                if isinstance(limit, Gt | Ge)), "")  # fmt: skip
    high = next((f"{limit.le}" for limit in field.metadata if isinstance(limit, Le)), "")
    return f"{low} to {high}" if low and high else f"{low} or more" if low else ""


def literals(annotation: object) -> tuple[str, ...]:
    """The words of a Literal, also of a list of them."""
    if get_origin(annotation) is Literal:
        return tuple(map(str, get_args(annotation)))
    inner = (part for part in get_args(annotation) if part not in {Ellipsis, NoneType})
    return tuple(word for part in inner for word in literals(part))


def main(arguments: list[str]) -> int:
    """0 when the documents are, or now are, what the code says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something would change")
    options = parser.parse_args(arguments)
    stale = {path: text for path, text in documents().items() if path.read_text(encoding="utf-8") != text}
    if options.check:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what the code says: run `make docs` and commit.", file=sys.stderr)
        return 1 if stale else 0
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

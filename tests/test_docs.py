"""What the documents say about settings is what the code says."""

import re

import pytest

from authz_service.config import NAMES, Config
from tests.test_house import FLOORS
from tools.docs import BEGIN, END, FIRST_SETTINGS, ROOT, documents, full_table, main, with_table


def table() -> str:
    return full_table({str(field.alias): field for field in Config.model_fields.values()})


def test_the_documents_are_current() -> None:
    assert main(["--check"]) == 0


def test_every_setting_has_a_row() -> None:
    rows = table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(NAMES)


def test_the_first_settings_exist() -> None:
    assert set(FIRST_SETTINGS) <= set(NAMES)


@pytest.mark.parametrize(("name", "row"), [
    ("AUTH_API_JWKS_URL", "| `{issuer}/.well-known/jwks.json` |  |"),
    ("JWT_LEEWAY_SECONDS", "| `30` | 0 to 300 |"),
    ("JWKS_FETCH_TIMEOUT_SECONDS", "| `5` | above 0 to 60 |"),
    ("JWKS_SNAPSHOT_PATH", "| unset |  |"),
    ("AUTHZ_LISTEN", "| `127.0.0.1:9191` |  |"),
    ("AUTHZ_LOG_FORMAT", "| `json` | `json`, `text` |"),
    ("USE_OAUTH2_AUTH", "| `true` | `true`, `false` |"),
])  # fmt: skip
def test_a_row_says_how_to_type_the_default_and_what_else_may_stand_there(name: str, row: str) -> None:
    assert f"| `{name}` {row}" in table()


def test_only_what_is_between_the_marks_is_replaced() -> None:
    assert with_table(f"before\n{BEGIN}old\n{END}after\n", "new\n") == f"before\n{BEGIN}\nnew\n\n{END}after\n"


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}{BEGIN}"])
def test_a_document_without_a_place_for_the_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        with_table(text, "table")


def test_no_document_is_forgotten() -> None:
    assert {path.name for path in documents()} == {"README.md", "configuration.md"}


def test_the_architecture_names_each_room() -> None:
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {name for line in document.splitlines() if line.startswith("| ") for name in re.findall(r"`(\w+)`", line)}
    rooms = {room for floor in FLOORS for room in floor if not room.startswith("__")}
    assert rooms - named == set()

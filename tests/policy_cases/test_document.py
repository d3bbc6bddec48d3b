"""A file of cases is read whole, or every mistake in it is told with its line and its case."""

import pytest

from authz_service.errors import ConfigurationError
from authz_service.policy_cases.document import Cases, parse_cases


def parsed(*cases: str) -> Cases:
    return parse_cases("version: 1\ncases:\n" + "".join(f"  - {{{case}}}\n" for case in cases))


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as refused:
        parse_cases(text)
    return refused.value.problems


def problem(case: str) -> str:
    (only,) = problems(f"version: 1\ncases:\n  - {{{case}}}\n")
    return only


GOOD = "name: one, request: {path: /a}, expect: allow"


def test_each_case_knows_its_line() -> None:
    text = "# why\nversion: 1\ncases:\n  - name: one\n    request: {path: /a}\n    expect: allow\n\n  - {" + GOOD
    assert parse_cases(text.replace("{name: one", "{name: two") + "}\n").lines == (4, 8)


def test_what_is_left_out_is_a_get_without_a_token() -> None:
    (case,) = parsed(GOOD).cases
    assert (case.request.method, case.request.headers, case.claims, case.rule) == ("GET", {}, None, None)


def test_claims_may_be_any_json_and_numbers_of_any_size() -> None:
    (case,) = parsed(GOOD + ", claims: {exp: 1750000000, deep: [{a: true}], level: 7}").cases
    assert case.claims == {"exp": 1750000000, "deep": [{"a": True}], "level": 7}


@pytest.mark.parametrize(("case", "said"), [
    ("name: one, request: {path: /a}, expect: permision_denied", "expect: must be allow or a reason such as "
     "permission_denied, not 'permision_denied'; did you mean permission_denied?"),
    ("name: one, request: {path: /a}", "expect: is missing"),
    ("name: one, request: {}, expect: allow", "request.path: is missing"),
    ("name: one, request: {path: 7}, expect: allow", "request.path: must be text, not 7"),
    ("name: one, request: {path: /a, methd: GET}, expect: allow", "methd: there is no such key; did you mean method?"),
    (GOOD + ", clams: {}", "clams: there is no such key; did you mean claims?"),
    (GOOD + ", claims: [a]", "claims: must be a mapping, not a list"),
    (GOOD + ", claims: {ok: yes}", "claims.ok: could be read in two ways; write 'yes' in quotes"),
    (GOOD + ", claims: {scores: [1.5]}", "claims.scores: could be read in two ways; write '1.5' in quotes"),
    (GOOD + ", claims: {ok: }", "claims.ok: has no value; give it one, or leave it out"),
    (GOOD + ", headers: {X-Auth-Sub: a}", "headers: must be header names in lower case, not 'X-Auth-Sub'"),
    (GOOD + ", mode: dry", "mode: must be 'enforce' or 'shadow', not 'dry'"),
    ("name: one, request: {path: /a, method: 'G T'}, expect: allow", "request.method: must be a method such as GET"),
    ("name: one, request: {path: /a}, expect: ", "expect: has no value; give it one, or leave the key out"),
])  # fmt: skip
def test_a_mistake_is_told_with_line_case_and_key(case: str, said: str) -> None:
    told = problem(case)
    assert told.startswith("line 3, cases[0] (one)"), told
    assert said in told


def test_all_mistakes_are_told_at_once() -> None:
    told = problems("version: 2\ncases:\n  - {name: one}\n  - {" + GOOD + ", rule: No Rule}\n")
    assert len(told) == 4, told


def test_what_the_yaml_reader_told_is_not_told_again() -> None:
    told = problems("version: 1\ncases:\n  - {name: one, request: {path: &p /a}, expect: *p}\n")
    assert told == tuple(f"line 3, column {at}: anchors and aliases are not allowed; write the value out"
                         for at in (33, 49))  # fmt: skip


def test_a_name_belongs_to_one_case() -> None:
    (told,) = problems(f"version: 1\ncases:\n  - {{{GOOD}}}\n  - {{{GOOD}}}\n")
    assert told == "line 4: the name 'one' is that of line 3 already"


@pytest.mark.parametrize("text", ["", "[]", "version: 1\n", "version: 1\ncases: []\n", "version: 1\ncases: {}\n", "{",
                                  "version: 1\ncases: [a]\n", "a: &a [*a]", "version: 1\ncases: [[]]\n", "\x00",
                                  "version: 1\ncases:\n  - {name: [], request: x, claims: 1, expect: {}}\n",
                                  "version: 1\ncases: &c\n  - *c\n", "cases:\n  ? [a]\n  : b\n"])  # fmt: skip
def test_whatever_is_no_file_of_cases_is_refused_in_words(text: str) -> None:
    assert all(problems(text))

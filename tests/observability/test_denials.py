"""Whoever asks why something was denied finds it, and nothing that a client wanted to be kept or seen."""

import json
from itertools import count

from authz_service.errors import PERMITTED, Reason, Refused, TokenRefused
from authz_service.model import Allow, Deny, HttpRequest, Mode
from authz_service.observability.denials import MAX_KINDS, MAX_OF_A_KIND, MAX_TOLD, LastDenials, latest
from authz_service.policy.loader import parse_policy
from authz_service.response.challenge import deny

POLICY = parse_policy("""
version: 1
rules:
  - {name: get-group, match: {path: "/api/groups/{group_id}/members", methods: [GET]}, require: {authenticated: true}}
""")


def request(path: str = "/api/groups/7/members", method: str = "GET", request_id: str = "id-1") -> HttpRequest:
    return HttpRequest(method, path, "example.com", (("authorization", "Bearer secret-token"),), request_id)


def denial(reason: Reason = Reason.TOKEN_EXPIRED, rule: str = "get-group") -> Deny:
    return Deny(reason, rule, Mode.ENFORCE, 401, (), json.dumps({"message": "A sentence."}))


def last_denials() -> LastDenials:
    """At each denial, a second has passed."""
    seconds = count(1)
    denials = LastDenials(lambda: float(next(seconds)))
    denials.use(POLICY)
    return denials


def path_of(path: str) -> str:
    denials = last_denials()
    denials.saw(request(path), denial())
    return str(denials.told()[0]["path"])


def test_a_denial_is_told_with_its_reason_and_in_the_words_that_the_client_was_given() -> None:
    denials = last_denials()
    denials.saw(request(), deny(TokenRefused(Reason.TOKEN_EXPIRED, "It expired 12 s ago."), rule="get-group"))
    assert denials.told() == [{
        "at": 1.0, "reason": "token_expired", "rule": "get-group", "status": 401, "message": "It expired 12 s ago.",
        "method": "GET", "path": "/api/groups/*/members", "request_id": "id-1",
    }]  # fmt: skip


def test_what_shadow_mode_would_deny_is_told_without_a_status() -> None:
    denials = last_denials()
    denials.saw(request(), Allow(Reason.ROLE_DENIED, "get-group", Mode.SHADOW))
    (told,) = denials.told()
    assert (told["reason"], told["status"], told["message"]) == ("role_denied", None, "")


def test_of_a_path_only_the_words_of_the_policy_are_shown() -> None:
    assert path_of("/api/groups/7f3a/members?token=secret") == "/api/groups/*/members"
    assert path_of("/reset/secret") == "/*/*"
    assert path_of("/api//groups/<script>") == "/api//groups/*"
    assert path_of("") == ""
    assert path_of("*") == "*"


def test_what_a_new_policy_names_is_shown_from_then_on() -> None:
    denials = last_denials()
    denials.saw(request("/reset/7"), denial())
    denials.use(parse_policy("version: 1\nrules: [{name: reset, match: {prefix: /reset/}, public: true}]"))
    assert denials.told()[0]["path"] == "/reset/*"


def test_a_word_of_the_client_is_cut_short_and_visible_ascii() -> None:
    denials = last_denials()
    denials.saw(request("/" + "/groups" * 5000, "G\u202eT\n" * 5000, "i d" * 5000), denial())
    (told,) = denials.told()
    assert told["method"] == "G?T?" * 3 + "G?T…"
    assert len(told["request_id"]) == 128
    assert told["request_id"].startswith("i?di?d")
    assert len(told["path"]) == 256


def test_nothing_else_of_a_request_is_kept() -> None:
    denials = last_denials()
    denials.saw(request("/api/groups/7?" + "x" * 50_000), denial())
    kept = repr(vars(denials))
    assert "secret-token" not in kept
    assert len(kept) < 5000


def test_a_flood_of_one_kind_leaves_the_others_to_be_seen() -> None:
    denials = last_denials()
    denials.saw(request(), denial(Reason.PERMISSION_DENIED))
    for _ in range(1000):
        denials.saw(request(), denial(Reason.TOKEN_MISSING, rule=""))
    reasons = [told["reason"] for told in denials.told()]
    assert reasons == ["token_missing"] * MAX_OF_A_KIND + ["permission_denied"]


def test_memory_is_bounded_by_kinds_and_the_latest_come_first() -> None:
    denials = last_denials()
    for number in range(2 * MAX_KINDS):
        denials.saw(request(), denial(rule=f"rule-{number}"))
    told = denials.told()
    assert (len(denials._kinds), len(told)) == (MAX_KINDS, MAX_TOLD)
    assert told[0]["rule"] == f"rule-{2 * MAX_KINDS - 1}"
    assert [each["at"] for each in told] == sorted((each["at"] for each in told), reverse=True)


def test_what_several_workers_tell_is_one_list() -> None:
    one, other = [{"at": 3.0}, {"at": 1.0}], [{"at": 2.0}] * MAX_TOLD
    merged = latest([one, other, []])
    assert [each["at"] for each in merged] == [3.0] + [2.0] * (MAX_TOLD - 1)


def test_every_reason_that_lets_a_request_pass_is_known_as_such() -> None:
    refusals = {reason for kind in Refused.__subclasses__() for reason in kind.reasons}
    assert set(Reason) - refusals == PERMITTED

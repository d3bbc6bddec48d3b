from collections.abc import Mapping
from typing import Any

import pytest

from authz_service.errors import AlgorithmNotAllowed, Reason, TokenRefused, Unavailable, UnknownKeyId
from authz_service.keys.jwk import parse_key_set
from authz_service.token.claims import ClaimRules
from authz_service.token.jws import VerificationKey
from authz_service.token.verifier import TokenVerifier, VerifiedToken
from tests.support import tokens
from tests.support.tokens import ABSENT, AUDIENCE, ISSUER, KID, NOW, claims, jwks, signing_key

ALL = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"})
OTHER_ISSUER = "https://other.example"


class Keys:
    """What the key ring gives: keys by issuer and kid."""

    def __init__(self, sets: Mapping[str, bytes], algorithms: frozenset[str]) -> None:
        self._sets = {issuer: parse_key_set(document, algorithms).keys for issuer, document in sets.items()}
        self.used: list[tuple[str, str]] = []
        self.vouched_at: list[float] = []

    def key(self, issuer: str, kid: str) -> VerificationKey:
        if kid not in self._sets[issuer]:
            raise UnknownKeyId(issuer, kid)
        return self._sets[issuer][kid]

    def mark_used(self, issuer: str, kid: str) -> None:
        self.used.append((issuer, kid))

    def vouches(self, issuer: str, key: VerificationKey, now: float) -> bool:
        known = self._sets[issuer].get(key.kid) is key
        self.vouched_at.append(now)
        if known:
            self.mark_used(issuer, key.kid)
        return known


def verifier(
    algorithms: frozenset[str] = frozenset({"RS256"}), sets: Mapping[str, bytes] | None = None
) -> TokenVerifier:
    documents = sets or {ISSUER: jwks(signing_key())}
    rules = {issuer: ClaimRules(issuer, frozenset({AUDIENCE}), leeway_seconds=30) for issuer in documents}
    return TokenVerifier(Keys(documents, algorithms), rules, algorithms)


def test_a_good_token_is_accepted_with_its_claims_and_its_key() -> None:
    verified = verifier().verify(tokens.token(), NOW)
    assert isinstance(verified, VerifiedToken)
    assert verified.kid == KID
    assert verified.claims.payload == claims()


@pytest.mark.parametrize("algorithm", sorted(ALL))
def test_each_configurable_algorithm_works_end_to_end(algorithm: str) -> None:
    key = signing_key(KID, algorithm)
    assert verifier(ALL, {ISSUER: jwks(key)}).verify(key.sign(claims()), NOW).kid == KID


def test_the_key_of_one_issuer_does_not_vouch_for_another() -> None:
    ours, theirs = signing_key("shared"), signing_key("theirs")._replace(kid="shared")
    both = verifier(sets={ISSUER: jwks(ours), OTHER_ISSUER: jwks(theirs)})
    assert both.verify(theirs.sign(claims(iss=OTHER_ISSUER)), NOW).claims.issuer == OTHER_ISSUER
    with pytest.raises(TokenRefused) as caught:
        both.verify(theirs.sign(claims()), NOW)
    assert caught.value.reason is Reason.SIGNATURE_INVALID


def test_an_unknown_key_id_is_no_verdict_yet() -> None:
    with pytest.raises(UnknownKeyId) as caught:
        verifier().verify(signing_key("key-2").sign(claims()), NOW)
    assert (caught.value.issuer, caught.value.kid) == (ISSUER, "key-2")


def test_an_unknown_issuer_is_refused_before_any_key_is_looked_for() -> None:
    with pytest.raises(TokenRefused) as caught:
        verifier().verify(signing_key("key-2").sign(claims(iss="https://evil.example")), NOW)
    assert caught.value.reason is Reason.ISSUER_MISMATCH


def rules_for(*issuers: str) -> dict[str, ClaimRules]:
    return {issuer: ClaimRules(issuer, frozenset({AUDIENCE}), leeway_seconds=30) for issuer in issuers}


def test_an_issuer_that_is_trusted_no_more_is_so_at_once_for_new_and_for_verified_tokens() -> None:
    both = verifier(sets={ISSUER: jwks(signing_key()), OTHER_ISSUER: jwks(signing_key("theirs"))})
    verified = both.verify(tokens.token(), NOW)
    assert both.vouches(verified.claims, verified.key, NOW)
    both.use(rules_for(OTHER_ISSUER))
    assert not both.vouches(verified.claims, verified.key, NOW)
    with pytest.raises(TokenRefused) as caught:
        both.verify(tokens.token(), NOW)
    assert caught.value.reason is Reason.ISSUER_MISMATCH


def test_each_issuer_has_its_own_audiences() -> None:
    both = verifier(sets={ISSUER: jwks(signing_key()), OTHER_ISSUER: jwks(signing_key("theirs"))})
    both.use({**rules_for(ISSUER), OTHER_ISSUER: ClaimRules(OTHER_ISSUER, frozenset({"other-api"}), 30)})
    with pytest.raises(TokenRefused) as caught:
        both.verify(signing_key("theirs").sign(claims(iss=OTHER_ISSUER)), NOW)
    assert caught.value.reason is Reason.AUDIENCE_MISMATCH
    assert both.verify(tokens.token(), NOW)


def test_a_key_verifies_only_its_own_algorithm() -> None:
    key = signing_key()
    with pytest.raises(AlgorithmNotAllowed) as caught:
        verifier(ALL).verify(key._replace(algorithm="RS512").sign(claims()), NOW)
    assert (caught.value.reason, caught.value.algorithm) == (Reason.ALGORITHM_NOT_ALLOWED, "RS512")


def test_claims_are_judged_only_after_the_signature() -> None:
    expired = signing_key("theirs")._replace(kid=KID).sign(claims(exp=0))
    with pytest.raises(TokenRefused) as caught:
        verifier().verify(expired, NOW)
    assert caught.value.reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize(("claim", "reason"), [
    ({"exp": NOW - 31}, Reason.TOKEN_EXPIRED),
    ({"nbf": NOW + 31}, Reason.TOKEN_NOT_YET_VALID),
    ({"aud": "other-api"}, Reason.AUDIENCE_MISMATCH),
    ({"sub": ABSENT}, Reason.CLAIMS_INVALID),
])  # fmt: skip
def test_a_well_signed_token_with_a_wrong_claim_is_refused(claim: dict[str, object], reason: Reason) -> None:
    with pytest.raises(TokenRefused) as caught:
        verifier().verify(tokens.token(**claim), NOW)
    assert caught.value.reason is reason


def test_a_key_is_marked_as_used_whenever_a_token_of_it_is_accepted_and_only_then() -> None:
    keys = Keys({ISSUER: jwks(signing_key())}, frozenset({"RS256"}))
    gate = TokenVerifier(keys, rules_for(ISSUER), frozenset({"RS256"}))
    with pytest.raises(TokenRefused):
        gate.verify(tokens.token(exp=0), NOW)
    assert keys.used == []
    accepted = gate.verify(tokens.token(), NOW)
    assert keys.used == [(ISSUER, KID)]
    assert gate.vouches(accepted.claims, accepted.key, NOW)
    assert not gate.vouches(accepted.claims, accepted.key, accepted.claims.expires_at + 30)
    assert keys.used == [(ISSUER, KID)] * 2


def test_a_key_vouches_as_of_the_time_that_it_is_asked_about() -> None:
    keys = Keys({ISSUER: jwks(signing_key())}, frozenset({"RS256"}))
    gate = TokenVerifier(keys, rules_for(ISSUER), frozenset({"RS256"}))
    accepted = gate.verify(tokens.token(), NOW)
    assert gate.vouches(accepted.claims, accepted.key, NOW + 1)
    assert keys.vouched_at == [NOW + 1]


RS512 = signing_key()._replace(algorithm="RS512").sign(claims())


@pytest.mark.parametrize(("token", "message"), [
    (tokens.token(iss=OTHER_ISSUER), "The access token was not issued by a trusted issuer."),
    (RS512, "The access token's key is not for its algorithm."),
    (signing_key("theirs")._replace(kid=KID).sign(claims()), "The access token's signature is not valid."),
], ids=["issuer", "algorithm", "signature"])  # fmt: skip
def test_the_client_reads_what_is_wrong(token: str, message: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        verifier(ALL).verify(token, NOW)
    assert caught.value.message == message


class Counting:
    """A key of python-jose that counts how often it is asked."""

    asked = 0

    def __init__(self, key: Any) -> None:
        self._key = key

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        Counting.asked += 1
        return bool(self._key.verify(signing_input, signature))


def counting_verifier() -> TokenVerifier:
    keys = Keys({ISSUER: jwks(signing_key())}, frozenset({"RS256"}))
    known = keys.key(ISSUER, KID)
    counting = {algorithm: Counting(key) for algorithm, key in known._verifiers.items()}
    keys._sets[ISSUER] = {KID: VerificationKey(known.kid, known.algorithms, known.thumbprint, counting)}
    Counting.asked = 0
    rules = {ISSUER: ClaimRules(ISSUER, frozenset({AUDIENCE}), leeway_seconds=30)}
    return TokenVerifier(keys, rules, frozenset({"RS256"}))


def forged(number: int = 0) -> str:
    return signing_key("somebody else's")._replace(kid=KID).sign(claims(jti=f"token-{number}"))


def test_a_bad_signature_that_is_sent_again_costs_no_verification() -> None:
    gate = counting_verifier()
    for _ in range(3):
        with pytest.raises(TokenRefused) as caught:
            gate.verify(forged(), NOW)
        assert caught.value.reason is Reason.SIGNATURE_INVALID
    assert Counting.asked == 1


def test_a_bad_signature_is_held_against_no_other_token() -> None:
    gate = verifier()
    with pytest.raises(TokenRefused):
        gate.verify(forged(), NOW)
    assert gate.verify(tokens.token(), NOW).kid == KID


def test_the_memory_of_bad_signatures_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authz_service.token.verifier.MAX_FORGERIES", 2)
    gate = counting_verifier()
    for number in range(5):
        with pytest.raises(TokenRefused):
            gate.verify(forged(number), NOW)
        assert len(gate._forgeries) <= 2


def test_a_bad_signature_may_be_a_good_one_by_the_next_key() -> None:
    gate = counting_verifier()
    with pytest.raises(TokenRefused):
        gate.verify(forged(), NOW)
    theirs = signing_key("somebody else's")._replace(kid=KID)
    gate._keys = Keys({ISSUER: jwks(theirs)}, frozenset({"RS256"}))
    assert gate.verify(forged(), NOW).claims.subject == "user-1"


class TestVouching:
    """What was accepted once is held against what may change: the key set and the clock."""

    def test_it_vouches_while_the_key_is_there_and_the_token_has_not_expired(self) -> None:
        gate = verifier()
        accepted = gate.verify(tokens.token(), NOW)
        assert gate.vouches(accepted.claims, accepted.key, accepted.claims.expires_at + 29)

    def test_it_does_not_from_the_moment_of_expiry_on(self) -> None:
        gate = verifier()
        accepted = gate.verify(tokens.token(), NOW)
        assert not gate.vouches(accepted.claims, accepted.key, accepted.claims.expires_at + 30)

    def test_it_does_not_for_a_key_that_was_replaced(self) -> None:
        gate = verifier()
        accepted = gate.verify(tokens.token(), NOW)
        gate._keys = Keys({ISSUER: jwks(signing_key("new")._replace(kid=KID))}, frozenset({"RS256"}))
        assert not gate.vouches(accepted.claims, accepted.key, NOW)

    def test_it_does_not_for_a_key_that_is_gone(self) -> None:
        gate = verifier()
        accepted = gate.verify(tokens.token(), NOW)
        gate._keys = Keys({ISSUER: jwks(signing_key("new"))}, frozenset({"RS256"}))
        assert not gate.vouches(accepted.claims, accepted.key, NOW)

    def test_keys_that_are_not_to_be_had_are_an_outage(self) -> None:
        class Nothing(Keys):
            def vouches(self, issuer: str, key: VerificationKey, now: float) -> bool:
                raise Unavailable(Reason.KEYS_UNAVAILABLE, "A sentence.")

        gate = verifier()
        accepted = gate.verify(tokens.token(), NOW)
        gate._keys = Nothing({}, frozenset())
        with pytest.raises(Unavailable):
            gate.vouches(accepted.claims, accepted.key, NOW)

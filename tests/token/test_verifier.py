from collections.abc import Mapping

import pytest

from authz_service.errors import Reason, TokenRefused, UnknownKeyId
from authz_service.keys.jwk import parse_key_set
from authz_service.model import VerifiedToken
from authz_service.token.claims import ClaimRules
from authz_service.token.jws import VerificationKey
from authz_service.token.verifier import TokenVerifier
from tests.support import tokens
from tests.support.tokens import ABSENT, AUDIENCE, ISSUER, KID, NOW, claims, jwks, signing_key

ALL = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"})
OTHER_ISSUER = "https://other.example"


class Keys:
    """What the key ring gives: keys by issuer and kid."""

    def __init__(self, sets: Mapping[str, bytes], algorithms: frozenset[str]) -> None:
        self._sets = {issuer: parse_key_set(document, algorithms).keys for issuer, document in sets.items()}

    def key(self, issuer: str, kid: str) -> VerificationKey:
        if kid not in self._sets[issuer]:
            raise UnknownKeyId(issuer, kid)
        return self._sets[issuer][kid]


def verifier(
    algorithms: frozenset[str] = frozenset({"RS256"}), sets: Mapping[str, bytes] | None = None
) -> TokenVerifier:
    documents = sets or {ISSUER: jwks(signing_key())}
    rules = {issuer: ClaimRules(issuer, frozenset({AUDIENCE}), leeway_seconds=30) for issuer in documents}
    return TokenVerifier(Keys(documents, algorithms), rules, algorithms)


def test_a_good_token_is_accepted_with_its_claims_and_its_key() -> None:
    verified = verifier().verify(tokens.token(), NOW)
    assert isinstance(verified, VerifiedToken)
    assert (verified.kid, verified.algorithm) == (KID, "RS256")
    assert verified.claims.payload == claims()


@pytest.mark.parametrize("algorithm", sorted(ALL))
def test_each_configurable_algorithm_works_end_to_end(algorithm: str) -> None:
    key = signing_key(KID, algorithm)
    assert verifier(ALL, {ISSUER: jwks(key)}).verify(key.sign(claims()), NOW).algorithm == algorithm


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


def test_a_key_verifies_only_its_own_algorithm() -> None:
    key = signing_key()
    with pytest.raises(TokenRefused) as caught:
        verifier(ALL).verify(key._replace(algorithm="RS512").sign(claims()), NOW)
    assert caught.value.reason is Reason.ALGORITHM_NOT_ALLOWED


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

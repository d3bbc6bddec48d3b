"""A URL that is accepted can be asked, and can be shown."""

import pytest

from authz_service.http_url import check_http_url, is_exposed, is_https, well_known

GOOD = [
    "http://auth-api:8000", "https://auth.example.com/realms/a", "http://127.0.0.1:1/x?y=z", "https://[::1]/keys",
    "http://h/a@b",
]  # fmt: skip
REALISTIC = ["", "auth-api:8000", "//auth-api", "ftp://a", "file:///etc/passwd", "HTTPS://a", "http://", "http:///a"]
SYNTHETIC = ["http://a:b@c/", "http://a@c/", "http://a/#b", "http://a:65536", "http://a:x", "http://a:0", "http://:80"]
PATHOLOGICAL = ["http://[::1", "http://\u00e9", "http://a b", "http://a\n", "http://a\x7f", "http://a\x00", " http://a"]


@pytest.mark.parametrize("text", GOOD)
def test_a_good_one_stays_as_it_is(text: str) -> None:
    assert check_http_url(text) is text


@pytest.mark.parametrize("text", [*REALISTIC, *SYNTHETIC, *PATHOLOGICAL])
def test_anything_else_is_refused_in_our_own_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must (be an http:// or https:// URL|not carry credentials)"):
        check_http_url(text)


def test_the_last_slash_of_an_issuer_counts_once() -> None:
    assert well_known("http://a/b/", "c") == well_known("http://a/b", "c") == "http://a/b/.well-known/c"


@pytest.mark.parametrize(("url", "tls"), [("https://a", True), ("http://https://", False)])
def test_tls_is_what_the_scheme_promises(url: str, tls: bool) -> None:
    assert is_https(url) is tls


@pytest.mark.parametrize("url", [
    "https://auth.example.com/", "http://auth-api:8000/", "http://localhost/", "http://127.0.0.1:1/",
    "http://127.9.9.9/", "http://[::1]/", "http://auth-api.prod.svc/", "http://auth-api.prod.svc.cluster.local./",
    "http://auth.internal/", "http://a.localhost/",
])  # fmt: skip
def test_tls_loopback_and_cluster_names_are_not_exposed(url: str) -> None:
    assert not is_exposed(url)


@pytest.mark.parametrize("url", [
    "http://auth.example.com/", "http://10.0.0.1/", "http://[fd00::1]/", "http://svc.example.com/",
    "http://127.0.0.1.example.com/",
])  # fmt: skip
def test_plain_http_elsewhere_is(url: str) -> None:
    assert is_exposed(url)

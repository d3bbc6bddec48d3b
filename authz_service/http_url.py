"""``http`` and ``https`` URLs as people configure them: issuers, and where their keys are."""

from ipaddress import ip_address
from urllib.parse import urlsplit

HTTP_URL_PATTERN = r"^https?://[^\s/?#@]+([/?][^\s#]*)?$"
"""What editors are told; :func:`check_http_url` is a little stricter."""


def check_http_url(text: str) -> str:
    """The same text; :raises ValueError: saying what would be right."""
    plain = text.isascii() and text.isprintable() and " " not in text
    if not plain or not text.startswith(("http://", "https://")) or "#" in text or not _has_host(text):
        raise ValueError("must be an http:// or https:// URL with a host and without a fragment")
    parts = urlsplit(text)
    if parts.username or parts.password:
        raise ValueError("must not carry credentials; they would end up in logs")
    return text


def is_https(url: str) -> bool:
    """Whether a checked URL promises TLS."""
    return url.startswith("https://")


def is_exposed(url: str) -> bool:
    """Whether ``url`` is plain http to a host outside loopback and the names of a cluster."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme != "http":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return "." in host and not host.endswith((".localhost", ".svc", ".cluster.local", ".internal"))


def shown(url: str) -> str:
    """A URL for people: without its query, which may hold a key."""
    return urlsplit(url)._replace(query="").geturl()


def well_known(issuer: str, name: str) -> str:
    """RFC 8615, the way of OpenID Connect Discovery 1.0 section 4: below the issuer, whose last slash counts once."""
    return f"{issuer.removesuffix('/')}/.well-known/{name}"


def _has_host(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != 0  # reading the port checks it
    except ValueError:
        return False

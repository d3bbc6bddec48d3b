"""The page at ``/``: one file, and the headers that keep a browser from running or fetching what is not in it."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType


def _hash_of(page: str, element: str) -> str:
    """CSP level 3 section 2.3.1: of what stands between the tags, to the letter."""
    content = page.partition(f"<{element}>")[2].partition(f"</{element}>")[0]
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"


def _policy(page: str) -> str:
    directives = {
        "default-src": "'none'",
        "script-src": _hash_of(page, "script"),
        "style-src": _hash_of(page, "style"),
        "connect-src": "'self'",
        "img-src": "data:",  # the icon of the tab
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",  # and there is no policy that makes any: text cannot become markup
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
HEADERS: Mapping[str, str] = MappingProxyType({
    "Content-Security-Policy": _policy(PAGE),
    "Cross-Origin-Opener-Policy": "same-origin",
})  # fmt: skip

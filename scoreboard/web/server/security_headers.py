"""Headers that keep browsers safe, the same on every answer, whoever gives it."""

from __future__ import annotations

from config import Settings

# Our own scripts, styles, pictures and calls, and nothing else: nothing inline, no frames. Scripts send the forms: the
# browser's own way would put a password into the address while the scripts are still on their way. Trusted Types, where
# a browser has them, refuse every text that would become markup or script.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
# Views set none of these: admission adds them without looking for them.
STEADY_HEADERS = [
    ("Content-Security-Policy", _CONTENT_SECURITY_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    # Named sites import the module by CORS, which this leaves alone; it is for tags that ask nobody.
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
]
_HTTPS_HEADER = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains")


def steady_headers(settings: Settings) -> list[tuple[str, str]]:
    """The headers of every answer."""
    return [*STEADY_HEADERS, *([_HTTPS_HEADER] if settings.is_production else [])]

"""Who may speak: tokens, certificates, and which addresses are this machine's own."""

from __future__ import annotations

import hmac
import ipaddress
import ssl
from collections.abc import Mapping
from pathlib import Path

from vla_ros.errors import PolicyError

SHORTEST = 16
"""Characters a token must have at least."""


def loopback(host: str) -> bool:
    """Whether an address or name reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_token(path: str) -> str:
    """The token in a file, "" for no file.  Raises `PolicyError` when it is unreadable or too short."""
    if not path:
        return ""
    try:
        token = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"The token file {path} cannot be read: {_reason(error)}.") from error
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise PolicyError(f"The token in {path} must be at least {SHORTEST} printable characters, no spaces.")
    return token


def allowed(headers: Mapping[str, str], token: str) -> bool:
    """Whether a request carries the token, as openpi's clients send it or as a bearer's."""
    given = headers.get("Authorization", "")
    kind, _, value = given.partition(" ")
    if kind.lower() not in ("api-key", "bearer"):
        value = ""
    return hmac.compare_digest(value.strip().encode(), token.encode())


def server_tls(certificate: str, key: str) -> ssl.SSLContext | None:
    """TLS for a server; None for none.  Raises `PolicyError`."""
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise PolicyError("TLS needs both a certificate and its key.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise PolicyError(
            f"The certificate {certificate} or its key {key} is unusable: {_reason(error)}."
        ) from error
    return context


def client_tls(url: str, authority: str) -> ssl.SSLContext | None:
    """TLS for a client of wss://, checked against `authority` (a file) or the system's; else None.

    Raises `PolicyError`.
    """
    if not url.startswith("wss://"):
        return None
    try:
        return ssl.create_default_context(cafile=authority or None)
    except (OSError, ssl.SSLError) as error:
        raise PolicyError(f"The certificate authority {authority} is unusable: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """What the system says, without its number and the name of the file."""
    return str(getattr(error, "strerror", None) or error)

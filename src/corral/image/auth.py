"""Answers to a registry's challenges: basic authentication, and bearer tokens fetched from where it points.

Source: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication"; RFC 9110, 11.6.1.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from corral.errors import InvalidArgument, PermissionDenied
from corral.image.http import Client, Request, read_all, shown, status_error
from corral.image.manifest import as_object
from corral.image.registry_errors import explain
from corral.oci.json import loads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.image.credentials import Credentials

_MAX_TOKEN_BYTES = 1 << 20
# Registries need not say how long a token lives; then it is a minute.
_DEFAULT_LIFE_S = 60
_MARGIN_S = 10
_TOKEN_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a WWW-Authenticate header; ``scheme`` in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of one or several WWW-Authenticate headers, joined by commas. What cannot be read is left out."""
    challenges: list[Challenge] = []
    rest = header[:16384]
    while rest := rest.lstrip(" \t,"):
        word, rest = _token(rest)
        if not word:
            break
        after = rest.lstrip(" \t")
        if after.startswith("=") and challenges:
            value, rest = _value(after[1:].lstrip(" \t"))
            challenges[-1].parameters[word.lower()] = value
        else:
            challenges.append(Challenge(word.lower(), {}))
    return challenges


def _token(text: str) -> tuple[str, str]:
    end = next((i for i, character in enumerate(text) if character not in _TOKEN_CHARACTERS), len(text))
    return text[:end], text[end:]


def _value(text: str) -> tuple[str, str]:
    if not text.startswith('"'):
        return _token(text)
    value = ""
    position = 1
    while position < len(text) and text[position] != '"':
        if text[position] == "\\":
            position += 1
        value += text[position : position + 1]
        position += 1
    return value, text[position + 1 :]


@dataclass(slots=True)
class _Token:
    value: str
    until_s: float


class Authenticator:
    """The authorization for one registry host, for all threads that talk to it.

    ``credentials`` go to the host itself (basic), or to the token server that it names. Tokens are kept per scope.
    """

    def __init__(self, client: Client, credentials: Credentials | None) -> None:
        self._client = client
        self._credentials = credentials
        self._lock = threading.Lock()
        self._tokens: dict[str, _Token] = {}
        self._is_basic = False

    def header(self, scopes: Iterable[str]) -> str:
        """The Authorization header to send at once; '' if none is known to be needed."""
        with self._lock:
            if self._is_basic and self._credentials is not None:
                return self._credentials.basic()
            token = self._tokens.get(_key(scopes))
            return f"Bearer {token.value}" if token is not None and token.until_s > time.monotonic() else ""

    def answer(self, header: str, scopes: Iterable[str], *, url: str, refused: str) -> bool:
        """Learn what the challenge asks for, so that ``header`` gives it. False: there is no (other) answer.

        ``refused`` is the Authorization header that was just refused ('' if none was sent).
        Raises: PermissionDenied, and what the connection to the token server comes to.
        """
        wanted = list(scopes)
        with self._lock:
            challenges = parse_challenges(header)
            bearer = next((item for item in challenges if item.scheme == "bearer"), None)
            if bearer is not None:
                known = self._tokens.get(_key(wanted))
                if known is not None and refused != f"Bearer {known.value}" and known.until_s > time.monotonic():
                    return True  # another thread has fetched one meanwhile
                self._tokens[_key(wanted)] = self._fetch(bearer, wanted, url)
                return True
            if any(item.scheme == "basic" for item in challenges) and self._credentials is not None:
                self._is_basic = True
                return not refused.startswith("Basic ")
        return False

    def _fetch(self, challenge: Challenge, scopes: list[str], url: str) -> _Token:
        realm = challenge.parameters.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidArgument(f"log in at {shown(url)}: its token server {realm[:200]!r} is not a URL")
        if parts.scheme == "http" and urlsplit(url).scheme == "https" and not self._client.is_insecure:
            raise InvalidArgument(
                f"log in at {shown(url)}: its token server {shown(realm)} is plain http",
                hint="credentials are sent in the clear only where the registry is configured as insecure",
            )
        scopes = scopes or challenge.parameters.get("scope", "").split()
        act = f"get token from {shown(realm)}"
        response = self._client.send(self._token_request(realm, challenge.parameters.get("service", ""), scopes))
        if response.status != 200:
            raise status_error(response, act, explain)
        value = as_object(loads(read_all(response, _MAX_TOKEN_BYTES, act), "token"), "token", "")
        token = value.get("token") or value.get("access_token")
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise PermissionDenied(f"{act}: the answer holds no token")
        life = value.get("expires_in")
        life_s = life if isinstance(life, int) and not isinstance(life, bool) and life > 0 else _DEFAULT_LIFE_S
        return _Token(token, time.monotonic() + max(life_s - _MARGIN_S, 5))

    def _token_request(self, realm: str, service: str, scopes: list[str]) -> Request:
        fields = [("service", service)] if service else []
        scope = [("scope", item) for item in scopes]
        credentials = self._credentials
        if credentials is not None and credentials.is_identity_token:
            form = [*fields, ("scope", " ".join(scopes)), ("client_id", "corral"), ("grant_type", "refresh_token")]
            body = urlencode([*form, ("refresh_token", credentials.secret)]).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return Request("POST", realm, headers, lambda: body, len(body))
        headers = {}
        if credentials is not None:
            headers["Authorization"] = credentials.basic()
            fields.append(("account", credentials.username))
        query = urlencode([*fields, ("client_id", "corral"), *scope])
        return Request("GET", f"{realm}{'&' if urlsplit(realm).query else '?'}{query}", headers)


def _key(scopes: Iterable[str]) -> str:
    return " ".join(scopes)

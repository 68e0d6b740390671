"""Tokens (JWT) of an OpenID issuer, beside the ledger's own keys. Needs the extra `jwt`.

A token's signature is checked once; then its hash is remembered for as long as it counts. One thread reads the issuer's
keys; a request waits for nothing.
"""

import hashlib
import logging
import re
import threading
import time
import urllib.request
from collections import OrderedDict
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import msgspec
from msgspec import Struct

from api.access.rate_limits import RateLimits
from api.access.scopes import SCOPES, Caller, IssuerAwayError

logger = logging.getLogger(__name__)

# One kind of signature for each kind of key, none of which anybody but the issuer can make.
ALGORITHMS = ("RS256", "ES256", "EdDSA")
LEEWAY_SECONDS = 10
MAX_TOKEN_CHARACTERS, MAX_TOKENS_KNOWN = 8_192, 10_000
READ_EVERY_SECONDS, READ_AGAIN_SECONDS, ANSWER_SECONDS = 300.0, 10.0, 5.0
# Without the issuer, its keys count for so long as they were last read.
TRUSTED_SECONDS = 86_400.0
MAX_KEYS_BYTES, MAX_KEYS = 1 << 18, 100

_SUBJECT = re.compile(r"[\x21-\x7e]{1,200}", re.ASCII)


class Issuer(Struct, frozen=True):
    """Whose tokens count, for whom they must be made, where the issuer's keys are (URL or file), what holds scopes."""

    name: str
    audience: str
    keys: str
    scope_claim: str


class KeysError(Exception):
    """The issuer's keys cannot be read, or are no set of keys."""


def read_keys(source: str) -> dict[str | None, jwt.PyJWK]:
    """The keys to verify with, by id; raises KeysError."""
    try:
        data = _fetch(source) if "://" in source else Path(source).read_bytes()[: MAX_KEYS_BYTES + 1]
        if len(data) > MAX_KEYS_BYTES:
            raise KeysError(f"{source} has more than {MAX_KEYS_BYTES} bytes")
        found = jwt.PyJWKSet.from_dict(msgspec.json.decode(data, type=dict[str, Any])).keys[:MAX_KEYS]
    except (OSError, HTTPException, ValueError, jwt.PyJWTError) as error:
        raise KeysError(f"{source}: {str(error)[:200] or type(error).__name__}") from error
    usable = {key.key_id: key for key in found if key.algorithm_name in ALGORITHMS and key.public_key_use != "enc"}
    if not usable:
        raise KeysError(f"{source} has no key for {', '.join(ALGORITHMS)}")
    return usable


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Keys come from where the operator says, and from nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(url: str) -> bytes:
    with urllib.request.build_opener(_NoRedirects).open(url, timeout=ANSWER_SECONDS) as answer:
        data: bytes = answer.read(MAX_KEYS_BYTES + 1)
        return data


def is_source(text: str) -> bool:
    """Whether keys can come from there without anybody on the way being able to change them."""
    parts = urlsplit(text)
    on_this_host = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    return "://" not in text or parts.scheme == "https" or on_this_host


class Tokens:
    """Starts a thread: make it after the fork."""

    def __init__(self, issuer: Issuer, rates: RateLimits | None = None) -> None:
        self._issuer = issuer
        self._rate_limits = rates
        self._keys: Mapping[str | None, jwt.PyJWK] = {}
        self._read_at = float("-inf")
        self._failing = False
        self._known: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._wanted, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="tokens", daemon=True)
        self._thread.start()

    def find(self, token: str) -> Caller | None:
        """Whose token it is; None if it does not count. Raises IssuerAwayError where that cannot be said."""
        now = time.monotonic()
        if now - self._read_at > TRUSTED_SECONDS:
            raise IssuerAwayError
        digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        caller, until = self._known.get(digest, (None, 0.0))
        if caller is not None and now < until:
            return caller
        claims = self._verified(token)
        caller = None if claims is None else self._caller(claims)
        if claims is None or caller is None:
            return None
        with self._lock:
            self._known[digest] = caller, now + int(claims["exp"]) + LEEWAY_SECONDS - time.time()
            if len(self._known) > MAX_TOKENS_KNOWN:
                self._known.popitem(last=False)
        return caller

    def close(self) -> None:
        self._stopped.set()
        self._wanted.set()
        self._thread.join(timeout=1.0)

    def _verified(self, token: str) -> dict[str, Any] | None:
        if len(token) > MAX_TOKEN_CHARACTERS:
            return None
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = self._keys.get(key_id)
            if key is None and key_id is None and len(self._keys) == 1:
                key = next(iter(self._keys.values()))
            if key is None:
                self._wanted.set()  # the issuer may have a new one
                return None
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._issuer.audience,
                issuer=self._issuer.name,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
            )
        except (jwt.PyJWTError, ArithmeticError, RecursionError, TypeError, ValueError):
            return None
        return claims

    def _caller(self, claims: dict[str, Any]) -> Caller | None:
        """The subject with a prefix that no key's name can have, and those of its scopes that mean something here."""
        if not isinstance(claims["sub"], str) or not _SUBJECT.fullmatch(claims["sub"]):
            return None
        given = claims.get(self._issuer.scope_claim, "")
        scopes = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
        actor = f"jwt:{claims['sub']}"
        allowed = frozenset(scope for scope in SCOPES if scope in scopes)
        return Caller(actor, allowed, None if self._rate_limits is None else self._rate_limits.of_subject(actor))

    def _work(self) -> None:
        while not self._stopped.is_set():
            wait = self._read()
            if not self._stopped.wait(READ_AGAIN_SECONDS):  # however many tokens ask for a new key
                self._wanted.wait(wait)
                self._wanted.clear()

    def _read(self) -> float:
        """Read the issuer's keys; returns the seconds until the next time unless they are wanted before."""
        try:
            keys = read_keys(self._issuer.keys)
        except KeysError as error:
            if not self._failing:
                logger.warning("the keys of the issuer cannot be read: %s", error)
            self._failing = True
            return 0.0
        if self._failing:
            logger.info("the keys of the issuer can be read again")
        self._failing = False
        changed = {id: key._jwk_data for id, key in keys.items()} != {i: k._jwk_data for i, k in self._keys.items()}
        self._keys, self._read_at = keys, time.monotonic()
        if changed:  # what was signed with a key that is gone counts no longer
            with self._lock:
                self._known.clear()
        return READ_EVERY_SECONDS

"""Tokens of an issuer: which count, for whom, and what their scopes mean here."""

import base64
import hashlib
import hmac
import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from falcon.testing import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from api.access.access_policy import Known
from api.access.keys import HeldKeys
from api.access.rate_limits import RateLimits
from api.access.scopes import IssuerAwayError
from api.access.tokens import MAX_KEYS_BYTES, Issuer, KeysError, Tokens, is_source, read_keys
from api.app import create_app
from api.cli import main
from api.http.service import Service
from ledger.engine.ledger import Ledger
from ledger.store.connection import Connection
from projections.reader import Reader
from tests.api.conftest import MakeKey

ISSUER, AUDIENCE = "https://id.example/", "stockledger"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SECRET = base64.urlsafe_b64encode(b"s" * 64).decode()


def jwk(private: Any, kid: str, **more: str) -> dict[str, Any]:
    algorithm = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256"}
    name = next((n for kind, n in algorithm.items() if isinstance(private, kind)), "EdDSA")
    known = jwt.get_algorithm_by_name(name)
    return {**known.to_jwk(private.public_key(), as_dict=True), "kid": kid, **more}


PUBLISHED = [
    jwk(RSA, "rsa"),
    jwk(P256, "p256"),
    jwk(ED, "ed"),
    jwk(SMALL, "small"),
    jwk(OTHER, "enc", use="enc"),
    {"kty": "oct", "k": SECRET, "kid": "oct"},
    {"kty": "odd", "kid": "odd"},
]


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **changes: Any) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 300, "scope": "read stock:write"}
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    with warnings.catch_warnings(action="ignore"):  # of keys that are too small
        return jwt.encode(claims, key, algorithm, headers={"kid": kid} if kid else None)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": PUBLISHED}))
    return file


def opened(source: object, claim: str = "scope", rates: RateLimits | None = None) -> Tokens:
    """Tokens whose issuer's keys have been read."""
    tokens = Tokens(Issuer(ISSUER, AUDIENCE, str(source), claim), rates)
    wait_until(lambda: tokens._read_at > 0)
    return tokens


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.005)


@pytest.fixture
def tokens(source: Path) -> Iterator[Tokens]:
    made = opened(source)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (P256, "ES256", "p256"), (ED, "EdDSA", "ed")]
)
def test_a_good_token_names_its_actor_and_scopes(tokens: Tokens, key: Any, algorithm: str, kid: str):
    first, again = (tokens.find(token(key, algorithm, kid)) for _ in range(2))

    assert (first.actor, first.scopes) == ("jwt:ann", {"read", "stock:write"})
    assert (again.actor, again.scopes) == (first.actor, first.scopes)


def unsigned() -> str:
    return jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": 4e9}, None, "none", headers={"kid": "rsa"})


def signed_with_the_public_key() -> str:
    """The classic confusion: HMAC with what everybody knows."""
    head, claims, _ = token().split(".")
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"rsa"}').decode().rstrip("=")
    public = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hmac.new(public, f"{head}.{claims}".encode(), hashlib.sha256).digest()
    return f"{head}.{claims}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


NOW = int(time.time())
BAD = {
    "another issuer": token(iss="https://evil.example/"),
    "no issuer": token(iss=None),
    "another audience": token(aud="shop"),
    "no audience": token(aud=None),
    "over": token(exp=NOW - 3600),
    "without an end": token(exp=None),
    "an end that is no number": token(exp="soon"),
    "an end without end": token(exp=float("inf")),
    "not yet": token(nbf=NOW + 3600),
    "no subject": token(sub=None),
    "an empty subject": token(sub=""),
    "a subject with a line feed": token(sub="a\nb"),
    "a subject that is too long": token(sub="x" * 201),
    "another's key": token(OTHER),
    "a key that is not published": token(OTHER, kid="other"),
    "a key for other use": token(OTHER, kid="enc"),
    "a small key": token(SMALL, kid="small"),
    "no key id among several keys": token(kid=None),
    "another algorithm of the key": token(algorithm="RS512"),
    "another kind of key": token(P256, "ES256", "rsa"),
    "a secret that is published": token("s" * 64, "HS256", "oct"),
    "unsigned": unsigned(),
    "signed with the public key": signed_with_the_public_key(),
    "half": token().rpartition(".")[0],
    "cut": token()[:-3],
    "too long": token(padding="x" * 8_192),
    "no token": "x",
    "nothing": "",
    "dots": "..",
    "deep": base64.urlsafe_b64encode(b"[" * 5_000).decode().rstrip("=") + ".e30.x",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_token_that_is_not_in_order_is_nobodys(tokens: Tokens, bad: str):
    assert tokens.find(bad) is None


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    head=st.binary(max_size=60) | st.sampled_from([b'{"alg":"RS256","kid":1}', b"null", b'{"alg":[]}']),
    rest=st.binary(),
)
def test_nonsense_is_nobodys_and_never_a_defect(head: bytes, rest: bytes):
    made = Tokens.__new__(Tokens)
    made._keys, made._issuer, made._wanted = {}, Issuer(ISSUER, AUDIENCE, "", "scope"), threading.Event()

    parts = [base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (head, rest, rest)]
    assert made._verified(".".join(parts)) is None
    assert made._verified(rest.decode("latin-1")) is None


@pytest.mark.parametrize(
    ("claim", "given_scopes", "scopes"),
    [
        ("scope", "read  admin openid", {"read", "admin"}),
        ("scp", ["read", "audit:read", 7, None], {"read", "audit:read"}),
        ("scope", None, set()),
        ("scope", {"read": True}, set()),
        ("scope", "READ", set()),
    ],
)
def test_scopes_come_from_the_claim_and_others_mean_nothing(
    source: Path, claim: str, given_scopes: Any, scopes: set[str]
):
    tokens = opened(source, claim)

    assert tokens.find(token(**{"scope": None, claim: given_scopes})).scopes == scopes
    tokens.close()


def test_a_token_that_was_good_ends_when_it_says(tokens: Tokens, monkeypatch: pytest.MonkeyPatch):
    good = token()
    assert tokens.find(good) is not None

    monkeypatch.setattr(tokens, "_verified", lambda _: None)  # so that it is only remembered
    assert tokens.find(good) is not None
    later = time.monotonic() + 400
    monkeypatch.setattr(time, "monotonic", lambda: later)

    assert tokens.find(good) is None


def test_what_was_signed_with_a_key_that_is_gone_counts_no_longer(tokens: Tokens, source: Path):
    good, other = token(), token(OTHER, kid="new")
    assert (tokens.find(good) is not None, tokens.find(other)) == (True, None)

    source.write_text(json.dumps({"keys": [jwk(OTHER, "new")]}))
    tokens._read()

    assert (tokens.find(good), tokens.find(other) is not None) == (None, True)
    assert tokens.find(token(OTHER, kid=None)) is not None  # there is just one


def test_without_the_issuers_keys_nobody_knows(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    never = Tokens(Issuer(ISSUER, AUDIENCE, str(tmp_path / "nothing"), "scope"))
    once = opened(source)
    with pytest.raises(IssuerAwayError):
        never.find(token())
    assert once.find(token()) is not None

    source.unlink()
    assert once._read() == 0.0  # try again soon
    assert once.find(token()) is not None
    later = time.monotonic() + 86_400
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with pytest.raises(IssuerAwayError):
        once.find(token())
    never.close()
    once.close()


# Where keys come from


class Published(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"x" * (MAX_KEYS_BYTES + 1) if self.path == "/large" else json.dumps({"keys": PUBLISHED}).encode()
        self.send_response(302 if self.path == "/elsewhere" else 200)
        self.send_header("Location", "/keys")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def published() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Published) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_keys_are_read_from_a_url_but_not_from_where_it_points_nor_without_end(published: str):
    assert set(read_keys(f"{published}/keys")) == {"rsa", "p256", "ed", "small"}
    for path in ("/elsewhere", "/large"):
        with pytest.raises(KeysError):
            read_keys(published + path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"keys": []}', '{"keys": 1}', '{"keys": [{"kty": "oct", "k": "eA"}]}', "\xff"]
)
def test_what_is_no_set_of_keys_is_refused(tmp_path: Path, text: str):
    (tmp_path / "keys").write_text(text)
    with pytest.raises(KeysError):
        read_keys(str(tmp_path / "keys"))


def test_keys_come_over_tls_or_from_this_host():
    good = ["https://id.example/keys", "http://localhost:1/keys", "http://[::1]/keys", "/etc/keys.json"]
    bad = ["http://id.example/keys", "ftp://localhost/keys", "file:///etc/keys", "http://localhost.evil.example/"]

    assert [is_source(text) for text in good + bad] == [True] * 4 + [False] * 4


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--jwt-issuer", ISSUER], "belong together"),
        (["--jwt-issuer", ISSUER, "--jwt-audience", "x", "--jwt-keys", "http://id.example/"], "must be an https URL"),
        (["--jwt-issuer", ISSUER, "--jwt-audience", "x", "--jwt-keys", "/not/there"], "cannot be used"),
    ],
)
def test_half_a_setting_or_bad_keys_keep_the_service_from_starting(
    capsys: pytest.CaptureFixture[str], flags: list[str], complaint: str
):
    assert main(["serve", "--port", "0", "--database-url", "postgresql://127.0.0.1:1/d", *flags]) == 2

    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert complaint in printed.err


# At the door


def test_tokens_and_keys_open_the_same_door(
    service_url: str, schema: str, ledger: Ledger, held: HeldKeys, source: Path, conn: Connection, make_key: MakeKey
):
    reader, known = (
        Reader(service_url, schema, max_connections=2),
        Known(held, opened(source, rates=RateLimits(0.01, 3))),
    )
    client = TestClient(create_app(Service(ledger, reader, 3600), known))
    key = make_key("shop", "catalog:write")
    held._turn()

    def put(credential: str) -> int:
        return client.simulate_put("/api/fungible/A", headers={"Authorization": f"Bearer {credential}"}).status_code

    assert [put(token(scope="catalog:write")), put(key), put(token()), put(BAD["over"])] == [200, 200, 403, 401]
    assert [put(token(scope="catalog:write")), put(token(scope="catalog:write"))] == [200, 429]
    actors = [json.loads(state)["actor"] for (state,) in conn.execute("SELECT state FROM stored_events").fetchall()]
    assert actors == ["jwt:ann"]
    known._tokens.close()
    reader.close()

"""How the service is entered, by its settings: whether keys are asked for, whose tokens count, what pages may do."""

from ipaddress import IPv6Address, ip_address
from socket import socket
from typing import TYPE_CHECKING, Any

from api.access.browsers import Cors, OwnPagesOnly
from api.access.keys import PREFIX, HeldKeys
from api.access.rate_limits import RateLimits
from api.access.scopes import Caller
from api.settings import SettingError, Settings

if TYPE_CHECKING:
    from api.access.tokens import Issuer, Tokens


class Known:
    """Keys, and tokens of an issuer."""

    def __init__(self, keys: HeldKeys, tokens: "Tokens") -> None:
        self._keys = keys
        self._tokens = tokens

    def find(self, credential: str) -> Caller | None:
        return (self._keys if credential.startswith(PREFIX) else self._tokens).find(credential)

    def close(self) -> None:
        self._keys.close()
        self._tokens.close()


class AccessPolicy:
    """Make it before the fork, so that all processes count a key's requests together. Raises SettingError."""

    def __init__(self, settings: Settings, sock: socket) -> None:
        self._schema = settings.schema
        self._origins = frozenset(settings.cors_origins)
        self._issuer = _issuer(settings)
        self.takes_keys = _takes_keys(settings, sock)
        limited = settings.rate_limit > 0 and self.takes_keys
        self._rate_limits = RateLimits(settings.rate_limit, settings.rate_burst) if limited else None

    def browsers(self) -> list[Any]:
        """What looks at requests before anything else does."""
        cors = [Cors(self._origins)] if self._origins else []
        return cors if self.takes_keys else [*cors, OwnPagesOnly(self._origins)]

    def known(self, url: str) -> Known | HeldKeys | None:
        """Who may come in, None: anybody. After the fork; close it at the end."""
        if not self.takes_keys:
            return None
        keys = HeldKeys(url, self._schema, self._rate_limits)
        if self._issuer is None:
            return keys
        from api.access.tokens import Tokens

        return Known(keys, Tokens(self._issuer, self._rate_limits))

    def __str__(self) -> str:
        if not self.takes_keys:
            return "off: anybody who reaches this address may do everything"
        return "on: stockledger keys" + (f", tokens of {self._issuer.name}" if self._issuer else "")


def _takes_keys(settings: Settings, sock: socket) -> bool:
    """Whether requests need a key; raises SettingError where anybody could reach a service that asks for none."""
    on_loopback = _is_loopback(sock.getsockname()[0])
    if settings.auth is None:
        return settings.database_url is not None or settings.jwt_issuer is not None or not on_loopback
    if not settings.auth and not on_loopback:
        raise SettingError(
            f"STOCKLEDGER_AUTH cannot be off on {settings.host}: only on the loopback, such as 127.0.0.1"
        )
    return settings.auth


def _is_loopback(host: str) -> bool:
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _issuer(settings: Settings) -> "Issuer | None":
    """Raises SettingError unless all of it is given or none, if PyJWT is missing, or if a file has no keys."""
    name, audience, keys = settings.jwt_issuer, settings.jwt_audience, settings.jwt_keys
    if name is None and audience is None and keys is None:
        return None
    if name is None or audience is None or keys is None:
        raise SettingError("STOCKLEDGER_JWT_ISSUER, STOCKLEDGER_JWT_AUDIENCE and STOCKLEDGER_JWT_KEYS belong together")
    try:
        from api.access import tokens
    except ImportError:
        raise SettingError("STOCKLEDGER_JWT_ISSUER needs an extra: pip install 'stockledger[jwt]'") from None
    if not tokens.is_source(keys):
        raise SettingError("STOCKLEDGER_JWT_KEYS must be an https URL or a file")
    if "://" not in keys:
        try:
            tokens.read_keys(keys)
        except tokens.KeysError as error:
            raise SettingError(f"STOCKLEDGER_JWT_KEYS cannot be used: {error}") from None
    return tokens.Issuer(name, audience, keys, settings.jwt_scope_claim)

"""API keys: how they are made, and the live ones as each HTTP process holds them.

A request is checked in memory and waits for nothing; one thread reads the keys anew every second.
"""

import hashlib
import hmac
import logging
import secrets
import threading
import time
from collections.abc import Callable

import psycopg

from api.access.rate_limits import Bucket, RateLimits
from api.access.scopes import Caller
from ledger.errors import DatabaseAwayError
from ledger.store import keys
from ledger.store.connection import READ_SECONDS, BoundedConnection, connect

logger = logging.getLogger(__name__)

# Says what it is to whoever finds one, and to scanners of repositories.
PREFIX = "slk_"
KEY_BYTES = 32
READ_EVERY_SECONDS = 1.0
WRITE_USED_EVERY_SECONDS = 10.0
# Without the database, keys count for so long as they were last read: little can be done without it anyway.
TRUSTED_SECONDS = 30.0
# A key that is not known may be a new one if they have not been read for so long.
UNKNOWN_SECONDS = 5.0


def new_key() -> str:
    """A key of 256 random bits, told once and not kept."""
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def hash_of(key: str) -> bytes:
    """What is kept of a key. One round of SHA-256 is enough: nobody can try the values of 256 random bits."""
    return hashlib.sha256(key.encode("latin-1", "replace")).digest()


class HeldKey(Caller):
    """Ends at `until` of the monotonic clock; `used_at` is of the same."""

    __slots__ = ("hash", "id", "until", "used_at")

    def __init__(self, key: keys.LiveKey, bucket: Bucket | None) -> None:
        super().__init__(key.name, key.scopes, bucket)
        self.id = key.id
        self.hash = key.hash
        self.until = float("inf")
        self.used_at = float("-inf")


class HeldKeys:
    """Opens a connection of its own and starts a thread: make it after the fork."""

    def __init__(self, url: str, schema: str, rates: RateLimits | None = None) -> None:
        self._connect: Callable[[], BoundedConnection] = lambda: connect(
            url, schema, "stockledger keys", answer_seconds=READ_SECONDS
        )
        self._conn: BoundedConnection | None = None
        self._rate_limits = rates
        self._keys: dict[bytes, HeldKey] = {}
        self._gone: list[HeldKey] = []  # revoked or over, with a last use still to be written down
        self._read_at = self._wrote_at = float("-inf")
        self._failing = False
        self._stopped = threading.Event()
        self._turn()
        self._thread = threading.Thread(target=self._work, name="keys", daemon=True)
        self._thread.start()

    def find(self, key: str) -> Caller | None:
        """Whose key it is; None if nobody's. Raises DatabaseAwayError when that has not been known for too long."""
        now = time.monotonic()
        digest = hash_of(key)
        # How long the look-up takes depends on hashes, of which nobody can choose the key; comparing takes as long.
        held = self._keys.get(digest)
        if held is None:
            if now - self._read_at > UNKNOWN_SECONDS:
                raise DatabaseAwayError
            return None
        if now - self._read_at > TRUSTED_SECONDS:
            raise DatabaseAwayError
        if not hmac.compare_digest(held.hash, digest) or held.until <= now:
            return None
        held.used_at = now
        return held

    def close(self) -> None:
        """Write down the last uses and end."""
        self._stopped.set()
        self._thread.join()
        self._wrote_at = float("-inf")
        self._turn()
        if self._conn is not None:
            self._conn.close()

    def _work(self) -> None:
        while not self._stopped.wait(READ_EVERY_SECONDS):
            self._turn()

    def _turn(self) -> None:
        try:
            if self._conn is None or self._conn.closed:
                self._conn = self._connect()
            self._read(self._conn)
            if time.monotonic() - self._wrote_at >= WRITE_USED_EVERY_SECONDS:
                self._write_used(self._conn)
        except psycopg.Error as error:
            if self._conn is not None:
                self._conn.close()
            if not self._failing:
                logger.warning("the keys cannot be read: %s", str(error).strip().partition("\n")[0])
            self._failing = True
        else:
            if self._failing:
                logger.info("the keys can be read again")
            self._failing = False

    def _read(self, conn: BoundedConnection) -> None:
        """Time that passes while the answer comes counts against a key, not for it."""
        asked = time.monotonic()
        found = {}
        for key in keys.live(conn):
            held = self._keys.get(key.hash)
            if held is None or held.id != key.id or held.scopes != key.scopes:
                held = HeldKey(key, None if self._rate_limits is None else self._rate_limits.of_key(key.id))
            held.until = float("inf") if key.seconds_left is None else asked + key.seconds_left
            found[key.hash] = held
        self._gone += [held for digest, held in self._keys.items() if found.get(digest) is not held]
        self._keys = found
        self._read_at = asked

    def _write_used(self, conn: BoundedConnection) -> None:
        now = time.monotonic()
        every = [*self._gone, *self._keys.values()]
        used = {held.id: now - held.used_at for held in every if held.used_at > self._wrote_at}
        if used:
            keys.write_used(conn, used)
        self._gone.clear()
        self._wrote_at = now

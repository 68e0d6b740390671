"""How often a caller may ask: token buckets, shared by all HTTP processes, and those of addresses that keep failing.

A bucket is kept as the time at which it will be full again (the generic cell rate algorithm): one number, which the
clock refills. The clock is the monotonic one, which all processes of a machine share.
"""

import mmap
import time
from collections import OrderedDict
from ctypes import Array, c_double, sizeof
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address
from threading import Lock

# Keys have their number in the database, subjects of tokens their hash: two that share a bucket are rare, and no harm.
KEY_BUCKETS, SUBJECT_BUCKETS = 1 << 16, 1 << 20
# What an address may fail to show a valid key, in each process.
FAILURES_PER_SECOND, FAILURES_AT_ONCE, MAX_ADDRESSES = 1.0, 30, 10_000


class Bucket:
    """One caller's. Processes do not lock it: of requests in the same microsecond one may go uncounted."""

    __slots__ = ("_burst_seconds", "_full_at", "_index", "_interval")

    def __init__(self, full_at: "Array[c_double]", index: int, per_second: float, at_once: int) -> None:
        self._full_at = full_at
        self._index = index
        self._interval = 1 / per_second
        self._burst_seconds = at_once / per_second

    def take(self, now: float) -> float:
        """Take one and return 0, or the seconds until there will be one."""
        full_at = max(self._full_at[self._index], now) + self._interval
        wait = full_at - now - self._burst_seconds
        if wait > 1e-9:
            return wait
        self._full_at[self._index] = full_at
        return 0.0

    def charge(self, count: int) -> None:
        """Take so many, whether they are there or not: what comes next waits the longer."""
        self._full_at[self._index] = max(self._full_at[self._index], time.monotonic()) + count * self._interval


class RateLimits:
    """The buckets of all callers; make it before the fork, so that the processes share them."""

    def __init__(self, per_second: float, at_once: int) -> None:
        self._per_second = per_second
        self._at_once = at_once
        # Pages that nobody has touched take no memory.
        memory = mmap.mmap(-1, sizeof(c_double) * (KEY_BUCKETS + SUBJECT_BUCKETS))
        self._full_at = (c_double * (KEY_BUCKETS + SUBJECT_BUCKETS)).from_buffer(memory)

    def of_key(self, number: int) -> Bucket:
        return Bucket(self._full_at, number % KEY_BUCKETS, self._per_second, self._at_once)

    def of_subject(self, actor: str) -> Bucket:
        number = int.from_bytes(blake2b(actor.encode(), digest_size=8).digest(), "big")
        return Bucket(self._full_at, KEY_BUCKETS + number % SUBJECT_BUCKETS, self._per_second, self._at_once)


class Failures:
    """Addresses that failed lately, the latest MAX_ADDRESSES of them; of an IPv6 address, its network of 64 bits."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until this address may fail again, 0 if it may."""
        full_at = self._full_at.get(_network(address), 0.0)
        return max(0.0, full_at - time.monotonic() - (FAILURES_AT_ONCE - 1) / FAILURES_PER_SECOND)

    def add(self, address: str) -> None:
        network = _network(address)
        with self._lock:
            full_at = max(self._full_at.pop(network, 0.0), time.monotonic())
            self._full_at[network] = full_at + 1 / FAILURES_PER_SECOND
            if len(self._full_at) > MAX_ADDRESSES:
                self._full_at.popitem(last=False)


def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))

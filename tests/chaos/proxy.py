"""A bad network in front of PostgreSQL: cuts at a COMMIT, stalls, goes away, on demand.

Clients connect over TCP to `Proxy.url`; the server may sit behind a unix socket. Two threads for each connection, one
for each direction. What the proxy does it does to all connections, except for a trap: that one waits for one statement
of one kind of client.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from psycopg.conninfo import conninfo_to_dict

from tests.chaos.frames import Frame, Session, Stream, ends_request

COMMITTER = "stockledger committer"

Direction = Literal["to the server", "to the client"]
BOTH: tuple[Direction, ...] = ("to the server", "to the client")
Deed = Literal["cut before", "cut after", "hold after"]


class Trap:
    """Waits for a client named `application` to execute a statement that begins with `text`, then does its deed once.

    cut before: the server never gets it. cut after: the server gets it with all it needs to carry it out (the Sync that
    follows), and the client gets no answer. hold after: the server gets the statement, and then nothing more, not even
    the end of the connection, until `release`. Just before the client notices anything, `then` is called.
    """

    def __init__(self, deed: Deed, text: str, application: str, then: Callable[[], None]) -> None:
        self.deed = deed
        self._text = text.upper()
        self._application = application
        self._then = then
        self.sprung = threading.Event()
        self._released = threading.Event()

    def fits(self, session: Session, text: str) -> bool:
        return session.application == self._application and text.lstrip().upper().startswith(self._text)

    def spring(self) -> None:
        self._then()
        self.sprung.set()

    def release(self) -> None:
        self._released.set()

    def hold(self) -> None:
        self._released.wait()


class Proxy:
    """Listens from the start until `close`; also a context manager."""

    def __init__(self, upstream_url: str) -> None:
        given = conninfo_to_dict(upstream_url)
        self._upstream = f"{given['host']}/.s.PGSQL.{given['port']}"
        self._who = f"{given['user']}@127.0.0.1"
        self._database = given["dbname"]
        self._guard = threading.Lock()
        self._links: set[_Link] = set()
        self._traps: list[Trap] = []
        self._flowing: dict[Direction, threading.Event] = {direction: threading.Event() for direction in BOTH}
        self._away = False
        self.go_on()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        port = self._listener.getsockname()[1]
        return f"postgresql://{self._who}:{port}/{self._database}?sslmode=disable&gssencmode=disable"

    def trap(
        self,
        deed: Deed,
        text: str = "COMMIT",
        application: str = COMMITTER,
        then: Callable[[], None] = lambda: None,
    ) -> Trap:
        """Set a trap; it is used up by the first statement that fits."""
        trap = Trap(deed, text, application, then)
        with self._guard:
            self._traps.append(trap)
        return trap

    def stall(self, *directions: Direction) -> None:
        """Let nothing through any more, in both directions if none is named; connections stay open."""
        for direction in directions or BOTH:
            self._flowing[direction].clear()

    def go_on(self) -> None:
        """End a stall: what was on its way arrives now."""
        for flowing in self._flowing.values():
            flowing.set()

    def refuse(self) -> None:
        """Take no new connection."""
        self._away = True

    def go_away(self) -> None:
        """Take no new connection, and drop every one there is."""
        self.refuse()
        self.cut_all()

    def come_back(self) -> None:
        self._away = False

    def cut_all(self) -> None:
        with self._guard:
            links = list(self._links)
        for link in links:
            link.cut()

    def heal(self) -> None:
        """A good network again: no trap, no stall, not away."""
        with self._guard:
            traps, self._traps = self._traps, []
            held = [link.trap for link in self._links if link.trap is not None]
        for trap in [*traps, *held]:
            trap.release()
        self.come_back()
        self.go_on()

    def close(self) -> None:
        self._away = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.heal()
        self.cut_all()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sprung(self, session: Session, text: str) -> Trap | None:
        """The trap that this statement has walked into, which is then used up."""
        with self._guard:
            for trap in self._traps:
                if trap.fits(session, text):
                    self._traps.remove(trap)
                    return trap
        return None

    def wait_while_stalled(self, direction: Direction) -> None:
        self._flowing[direction].wait()

    def forget(self, link: "_Link") -> None:
        with self._guard:
            self._links.discard(link)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._away:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                server.connect(self._upstream)
            except OSError:
                client.close()
                server.close()
                continue
            link = _Link(self, client, server)
            with self._guard:
                self._links.add(link)
            link.start()


class _Link:
    """One client's connection and the one to the server that it stands for."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.trap: Trap | None = None
        self._proxy = proxy
        self._client = client
        self._server = server
        self._session = Session()
        self._silent = False
        self._open_ends = 2
        self._guard = threading.Lock()

    def start(self) -> None:
        ends = ((self._to_server, self._server, socket.SHUT_WR), (self._to_client, self._client, socket.SHUT_RDWR))
        for end in ends:
            threading.Thread(target=self._run, args=end, daemon=True).start()

    def cut(self) -> None:
        """End both connections; what was sent to the server still arrives there."""
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _run(self, relay: Callable[[], None], towards: socket.socket, how: int) -> None:
        """Relay one direction to its end, then pass that end on."""
        with suppress(OSError):
            relay()
        with suppress(OSError):
            towards.shutdown(how)
        with self._guard:
            self._open_ends -= 1
            last = not self._open_ends
        if last:
            self._client.close()
            self._server.close()
            self._proxy.forget(self)

    def _to_server(self) -> None:
        stream = Stream()
        while data := self._client.recv(1 << 16):
            for frame in stream.feed(data):
                self._pass_on(frame)

    def _pass_on(self, frame: Frame) -> None:
        text = self._session.executes(frame)
        if text is not None and self.trap is None:
            self.trap = self._proxy.sprung(self._session, text)
        deed = self.trap.deed if self.trap else None
        self._silent = deed == "cut after"
        if deed == "cut before":
            self._cut_client()
        self._proxy.wait_while_stalled("to the server")
        self._server.sendall(frame.raw)
        if deed == "hold after":
            self._hold()
        elif deed == "cut after" and ends_request(frame):
            self._cut_client()

    def _cut_client(self) -> None:
        """Leave by an error; the server gets the end of the connection after what it has got already."""
        assert self.trap is not None, "it has just been walked into"
        self.trap.spring()
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError

    def _hold(self) -> None:
        assert self.trap is not None, "it has just been walked into"
        self.trap.spring()
        self.trap.hold()
        self.trap = None

    def _to_client(self) -> None:
        while data := self._server.recv(1 << 16):
            self._proxy.wait_while_stalled("to the client")
            if not self._silent:
                self._client.sendall(data)

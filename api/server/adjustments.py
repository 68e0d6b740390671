"""waitress' settings, and how many connections a process takes."""

import resource
import socket

from waitress.adjustments import Adjustments

from api.server.parser import MAX_BODY_BYTES, MAX_HEADER_BYTES

BACKLOG = 1024
# Per worker; beyond it new connections wait in the backlog. Each takes one file descriptor.
CONNECTION_LIMIT = 1100
# Descriptors kept for logs, pools and spilled answers.
SPARE_FILES = 100


def adjustments(sock: socket.socket) -> Adjustments:
    """waitress' settings. Those of its own loop and dispatcher, which are not used here, keep their defaults."""
    return Adjustments(
        sockets=[sock],
        ident=None,
        backlog=BACKLOG,
        connection_limit=_connection_limit(),
        cleanup_interval=1,
        recv_bytes=1 << 16,
        max_request_header_size=MAX_HEADER_BYTES,
        # waitress refuses from this size on; in a chunked body it counts the chunks' heads too.
        max_request_body_size=MAX_BODY_BYTES + 1,
        # Above the largest body: requests never touch the disk. Answers do from 1 MiB unsent (outbuf_overflow), and
        # their writer waits from 16 MiB unsent (outbuf_high_watermark).
        inbuf_overflow=2 * MAX_BODY_BYTES,
        expose_tracebacks=False,
        # ApplicationAnswer leaves them out, at less cost.
        clear_untrusted_proxy_headers=False,
        # Off, it would also swallow an OSError of the application and end the connection without an answer.
        log_socket_errors=True,
    )


def _connection_limit() -> int:
    """CONNECTION_LIMIT, or what the limit of open files leaves after raising it as far as allowed."""
    wanted = CONNECTION_LIMIT + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(1, allowed - SPARE_FILES)

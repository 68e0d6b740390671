"""`stockledger verify`: is every fact in the log allowed, and does every read model say just what the log says?"""

import argparse
import gc
import re
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from api.commands.progress import Bars
from api.database import database_as_it_is
from api.settings import Settings
from ledger.audit.findings import MAX_KEPT_OF_A_KIND, Findings
from ledger.export.reading import ExportedLog
from ledger.store.connection import BoundedConnection, connect
from projections.verifying.verification import Verified, verify_export, verify_ledger

# Entries become millions of objects that live for a moment and hold no cycles.
OBJECTS_BETWEEN_COLLECTIONS = 100_000
_DIGEST = re.compile("[0-9a-fA-F]{64}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Replay the whole log through the rules and compare every read model with it, row by row. Writes nothing to the"
        " database and keeps nobody waiting. Exit status: 0 if all is well, 1 if anything is off or cannot be read."
    )
    parser.epilog = "docs/auditing.md explains each finding."
    from_export = "verify an export (its folder, or its manifest) instead of the ledger; uses no database"
    parser.add_argument("--from-export", type=Path, metavar="PATH", help=from_export)
    expect = "the digest that was noted down of a position: nothing up to there was changed since; may be repeated"
    parser.add_argument("--expect", type=_noted, action="append", default=[], metavar="POSITION:DIGEST", help=expect)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    show = "findings of each kind to show (default: %(default)s); all are counted"
    parser.add_argument("--show", type=_positive, default=MAX_KEPT_OF_A_KIND, metavar="N", help=show)


def run(settings: Settings, chosen: argparse.Namespace) -> int:
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    findings = Findings(chosen.show)
    noted = dict(chosen.expect)
    began = time.monotonic()
    try:
        with Bars() as bars:
            if chosen.from_export is not None:
                verified = verify_export(ExportedLog(chosen.from_export), findings, bars, noted)
            else:
                with database_as_it_is(settings) as url:
                    verified = verify_ledger(partial(_connect, url, settings.schema), findings, bars, noted)
    except OSError as error:
        print(f"stockledger: verifying stopped: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stockledger: interrupted; nothing can be said", file=sys.stderr)
        return 1
    seconds = time.monotonic() - began
    told = _json(verified, findings, seconds) if chosen.json else _text(verified, findings, seconds)
    print(told, flush=True)
    return 1 if findings.total else 0


def _connect(url: str, schema: str) -> BoundedConnection:
    conn = connect(url, schema, "stockledger verify")
    conn.read_only = True
    return conn


def _json(verified: Verified, findings: Findings, seconds: float) -> str:
    told: dict[str, Any] = {
        "ok": not findings.total,
        **msgspec.to_builtins(verified),
        "seconds": round(seconds, 3),
        "counts": dict(findings.counts),
        "findings": findings.kept,
    }
    return msgspec.json.encode(told).decode()


def _text(verified: Verified, findings: Findings, seconds: float) -> str:
    lines = [str(finding) for finding in findings.kept]
    hidden = findings.total - len(findings.kept)
    if hidden:
        lines.append(f"... and {hidden} more findings (--show N)")
    if verified.replayed:
        lines.append(f"{verified.entries:,} events up to position {verified.last:,} replayed in {seconds:.1f} s")
    else:
        said = f"its files were checked; it begins with position {verified.first:,}, so it cannot be replayed alone"
        lines.append(f"{verified.entries:,} events: {said}")
    if verified.digest is not None:
        lines.append(f"sealed: position {verified.last} has digest {verified.digest}")
    if verified.rows:
        lines.append("compared: " + ", ".join(f"{name} {rows:,}" for name, rows in verified.rows.items()) + " rows")
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(findings.counts.items()))
    lines.append(f"NOT as it should be: {kinds}" if findings.total else "all is as it should be")
    return "\n".join(lines)


def _noted(text: str) -> tuple[int, bytes]:
    position, _, digest = text.partition(":")
    if not (position.isascii() and position.isdigit() and 0 < int(position) < 2**63 and _DIGEST.fullmatch(digest)):
        raise argparse.ArgumentTypeError("must be a position, a colon and a digest of 64 hexadecimal digits")
    return int(position), bytes.fromhex(digest)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1")
    return int(text)

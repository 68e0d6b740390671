"""Makes a sample of a ledger with the version at hand: a dump, an export, questions about the past with their answers.

    python tests/samples/make.py URL FOLDER

It knows nothing of the program but its command line and its HTTP API, so that it runs at any commit: check one out, and
run this file beside it. URL names an empty database, best of PostgreSQL 15, whose dumps every later version reads; the
service is started on it as `python -m api`. FOLDER is made.
"""

import gzip
import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

QUESTIONS = 300
SKUS = ("A", "B €𝕬", "C 1")
EXTENDED = "00000000-0000-4000-8000-000000000001"
ITEMS = ("N", "sn 1"), ("N", "sn é"), ("M", "7")


class Service:
    def __init__(self, url: str) -> None:
        self.environment = os.environ | {"DATABASE_URL": url, "STOCKLEDGER_AUTH": "off", "STOCKLEDGER_PORT": "0"}
        command = [sys.executable, "-m", "api", "serve", "--workers", "1"]
        self.process = subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.base = re.search(r"http://\S+", self.process.stdout.readline())[0]  # type: ignore[index]
        until = time.monotonic() + 60
        while self.call("GET", "/health/ready")[0] != 200:
            assert time.monotonic() < until, "the service does not get ready"
            time.sleep(0.1)

    def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> tuple[int, str]:
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def run(self, *words: str) -> None:
        subprocess.run([sys.executable, "-m", "api", *words], env=self.environment, check=True, capture_output=True)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def quoted(name: str) -> str:
    return urllib.request.quote(name, safe="")


def histories(service: Service, chance: random.Random) -> list[str]:
    """Facts of every kind; returns the reservations."""
    made: list[str] = []
    for sku in SKUS:
        service.call("PUT", f"/api/fungible/{quoted(sku)}", {"amount_in_stock": 50, "name": f"{sku} é", "color": "red"})
    for sku, sn in ITEMS:
        item = {"price_cents": 500, "notes": "new", "name": "thing"}
        service.call("PUT", f"/api/non-fungible/{quoted(sku)}/{quoted(sn)}", item)
    for number in range(600):
        sku, (of, sn) = chance.choice(SKUS), chance.choice(ITEMS)
        stock, item = f"/api/fungible/{quoted(sku)}", f"/api/non-fungible/{quoted(of)}/{quoted(sn)}"
        reservation = f"/api/reservations/{chance.choice(made) if made else uuid.uuid4()}"
        reason = {"reason": f"reason {number}", "reference": "ref"} if chance.random() < 0.3 else {}
        calls: tuple[tuple[str, str, Any], ...] = (
            ("POST", f"{stock}/add/{chance.randrange(1, 9)}", reason),
            ("POST", f"{stock}/remove/{chance.randrange(1, 5)}", reason),
            ("POST", f"{stock}/reserve/{chance.randrange(1, 4)}", {"owner": "ann", "ttl_seconds": 86400}),
            ("PUT", stock, {"color": chance.choice(["red", None]), "unit_price_cents": number}),
            ("PUT", item, {"notes": f"note {number}", "sold": chance.random() < 0.3}),
            ("PUT", f"{item}/reservation", {"ttl_seconds": 86400}),
            ("DELETE", f"{item}/reservation", None),
            ("POST", "/api/reservations", cart(chance, sku, of, sn)),
            ("POST", f"{reservation}/release", {"lines": [{"sku": sku, "quantity": 1}]}),
            ("POST", f"{reservation}/extend", {"ttl_seconds": 90_000}),
            ("POST", f"{reservation}/purchase", reason),
            ("POST", f"{reservation}/return", {"lines": [{"sku": sku, "quantity": 1}]}),
            ("DELETE", reservation, None),
        )
        status, answer = service.call(*chance.choice(calls))
        if status in (200, 201):
            body = json.loads(answer)
            found = body.get("reservation", body).get("id") if isinstance(body, dict) else None
            if found and found not in made:
                made.append(found)
    return made


def cart(chance: random.Random, sku: str, of: str, sn: str) -> dict[str, Any]:
    lines: list[dict[str, Any]] = [{"sku": sku, "quantity": chance.randrange(1, 4)}, {"sku": of, "sn": sn}]
    return {"owner": "bob é", "reference": "cart", "ttl_seconds": 86_400, "lines": lines[: chance.randrange(1, 3)]}


def run_out(service: Service) -> None:
    """Holds that end by themselves, written down by the expiry process; and the rarest facts, to be sure."""
    service.call("POST", f"/api/fungible/{quoted(SKUS[0])}/reserve/1", {"ttl_seconds": 1})
    service.call("PUT", "/api/non-fungible/X/1", {})
    service.call("PUT", "/api/non-fungible/X/1/reservation", {"ttl_seconds": 1})
    time.sleep(3)
    for path, body in (
        ("/api/fungible/R", {"amount_in_stock": 9}),
        ("/api/non-fungible/S/1", {}),
        ("/api/non-fungible/S/1/reservation", {"reservation_id": EXTENDED}),
        ("/api/non-fungible/S/1/reservation", {"reservation_id": EXTENDED}),
    ):
        assert service.call("PUT", path, body)[0] == 200
    lines = {"lines": [{"sku": "R", "quantity": 2}]}
    bought = json.loads(service.call("POST", "/api/reservations", lines)[1])["id"]
    service.call("POST", f"/api/reservations/{bought}/extend", {"ttl_seconds": 9})
    service.call("POST", f"/api/reservations/{bought}/purchase")
    assert service.call("POST", f"/api/reservations/{bought}/return", lines)[0] == 200


def kept_keys(service: Service) -> list[dict[str, Any]]:
    """Requests that came with a key, and their first answers; then the product moves on."""
    asked: list[tuple[str, str, Any]] = [
        ("PUT", "/api/fungible/K", {"amount_in_stock": 9, "name": "kept"}),
        ("POST", "/api/fungible/K/add/2", {"reason": "r"}),
        ("POST", "/api/fungible/K/reserve/1", {"owner": "ann"}),
        ("PUT", "/api/non-fungible/L/1", {"price_cents": 5}),
        ("PUT", "/api/non-fungible/L/1/reservation", {}),
        ("POST", "/api/reservations", {"lines": [{"sku": "K", "quantity": 1}]}),
        ("POST", "/api/reservations", {"partial": True, "lines": [{"sku": "K", "quantity": 900}]}),
        ("POST", "/api/batch", {"commands": [{"command": "add", "sku": "K", "quantity": 1}]}),
    ]
    kept = []
    for number, (method, path, body) in enumerate(asked):
        status, answer = service.call(method, path, body, f"sample-{number}")
        assert status in (200, 201), answer
        kept.append({"method": method, "path": path, "body": body, "key": f"sample-{number}", "status": status})
        kept[-1]["answer"] = answer
    service.call("POST", "/api/fungible/K/add/30")
    service.call("PUT", "/api/fungible/K", {"name": "moved on"})
    service.call("DELETE", "/api/non-fungible/L/1/reservation")
    return kept


def questions(service: Service, chance: random.Random, made: list[str], head: int) -> list[dict[str, Any]]:
    entries = json.loads(service.call("GET", "/api/events?limit=500")[1])["items"]
    times = [entry["recorded_at"] for entry in entries]
    asked = []
    while len(asked) < QUESTIONS:
        sku, (of, sn) = chance.choice(SKUS), chance.choice(ITEMS)
        path = chance.choice(
            [
                f"/api/fungible/{quoted(sku)}",
                f"/api/non-fungible/{quoted(of)}/{quoted(sn)}",
                f"/api/reservations/{chance.choice(made)}",
                f"/api/fungible/{quoted(sku)}/history",
                f"/api/non-fungible/{quoted(of)}/{quoted(sn)}/history",
            ]
        )
        if path.endswith("/history"):
            path += f"?limit=5&to={quoted(chance.choice(times))}&order={chance.choice(['asc', 'desc'])}"
        elif chance.random() < 0.5:
            path += f"?at_position={chance.randrange(1, head + 1)}"
        else:
            path += f"?as_of={quoted(chance.choice(times))}"
        status, answer = service.call("GET", path)
        asked.append({"path": path, "status": status, "answer": json.loads(answer)})
    return asked


def dump(url: str) -> bytes:
    schemas = ["--schema=stockledger", "--schema=reporting"]
    options = ["--no-owner", "--no-privileges", "--inserts", "--rows-per-insert=200", *schemas]
    made = subprocess.run(["pg_dump", *options, url], check=True, capture_output=True, text=True).stdout
    # Lines for psql alone, and those that differ from run to run.
    return "\n".join(line for line in made.split("\n") if not line.startswith(("\\", "--"))).encode()


def main(url: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    chance = random.Random(20261127)
    service = Service(url)
    try:
        made = histories(service, chance)
        run_out(service)
        kept = kept_keys(service)
        (folder / "stock.csv").write_text("sku,name,amount_in_stock\nI1,imported,5\nI2,é,7\nA,,-1\n")
        subprocess.run(
            [sys.executable, "-m", "api", "import", folder / "stock.csv"], env=service.environment, capture_output=True
        )
        for left_over in folder.glob("stock.csv*"):
            left_over.unlink()
        service.run("keys", "create", "sample", "--scope", "read")
        time.sleep(2)  # the read models that follow have followed
        head = json.loads(service.call("GET", "/api/events?limit=1&after=0")[1]) and int(position(service))
        asked = questions(service, chance, made, head)
        service.run("export", str(folder / "export"))
    finally:
        service.stop()
    (folder / "dump.sql.gz").write_bytes(gzip.compress(dump(url), mtime=0))
    (folder / "questions.json.gz").write_bytes(gzip.compress(json.dumps(asked).encode(), mtime=0))
    (folder / "keys.json").write_text(json.dumps(kept, indent=1))
    print(f"{head} facts, {len(asked)} questions in {folder}")


def position(service: Service) -> str:
    with urllib.request.urlopen(service.base + "/api/fungible") as answer:
        return str(answer.headers["Ledger-Position"])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

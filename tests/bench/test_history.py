"""A long history made by SQL is one that the ledger could have written, and goes on to write."""

import psycopg

from bench.history import count, grow
from ledger.engine.ledger import Ledger
from ledger.stock.commands import AddStock, PutFungible
from projections.rebuilding.rebuild import Rebuild
from tests.ledger.store.test_chain import check


def test_a_grown_log_agrees_with_every_read_model_and_takes_more(postgres_url: str, schema: str, ledger: Ledger):
    for sku in ("a", "b"):
        ledger.handle(PutFungible(sku=sku, amount_in_stock=10))
    ledger.handle(AddStock(sku="a", quantity=5))

    with psycopg.connect(postgres_url, autocommit=True, options=f"-c search_path={schema}") as conn:
        assert grow(conn, schema, 100, ("a", "b")) == 101
        ledger.handle(AddStock(sku="a", quantity=1))

        assert count(conn) == 102
        assert conn.execute("SELECT count(*) FROM stored_events").fetchone() == (102,)
        levels = conn.execute("SELECT sku, on_hand FROM stock_levels ORDER BY sku").fetchall()
        assert levels == [("a", 10 + 5 + 48 + 1), ("b", 10 + 48)]
        check(conn)
    with Rebuild(postgres_url, schema) as rebuild:
        assert rebuild.differences() == {}

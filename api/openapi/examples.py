"""Bodies as callers send them and get them, shown in the document. A test sends and reads each of them."""

from typing import Any

from api.openapi.parameters import RESERVATION_ID

AT = "2026-11-22T10:00:00.123456Z"
UNTIL = "2026-11-22T11:00:00.123456Z"

PENCIL: dict[str, Any] = {
    "sku": "PENCIL",
    "name": "Pencil",
    "description": None,
    "color": "Yellow",
    "unit_price_cents": 120,
    "shipping_weight_grams": 8,
    "amount_in_stock": 973,
    "reserved_quantity": 3,
    "available_quantity": 970,
    "version": 3,
    "updated_at": AT,
}
PUT_PENCIL = {name: PENCIL[name] for name in ("name", "color", "unit_price_cents", "amount_in_stock")}
BIKE: dict[str, Any] = {
    "sku": "BIKE",
    "sn": "VIN1",
    "name": "Bike",
    "description": None,
    "color": "Red",
    "notes": None,
    "price_cents": 129_900,
    "shipping_weight_grams": 14_000,
    "reserved": None,
    "reserved_until": None,
    "reservation_id": None,
    "sold": False,
    "version": 2,
    "updated_at": AT,
}
PUT_BIKE = {name: BIKE[name] for name in ("name", "color", "price_cents")}
REASON = {"reason": "delivery", "reference": "order 4711"}
CART = {"owner": "ann", "ttl_seconds": 900, "lines": [{"sku": "PENCIL", "quantity": 2}, {"sku": "BIKE", "sn": "VIN1"}]}
LINES = {"lines": [{"sku": "PENCIL", "quantity": 1}]}
RESERVATION: dict[str, Any] = {
    "id": RESERVATION_ID,
    "state": "open",
    "owner": "ann",
    "reference": None,
    "created_at": AT,
    "expires_at": UNTIL,
    "ended_at": None,
    "lines": [
        {"sku": "BIKE", "sn": "VIN1", "released": 0, "purchased": 0},
        {"sku": "PENCIL", "quantity": 2, "released": 0, "purchased": 0},
    ],
}
RESERVED_PENCIL = PENCIL | {"reservation": RESERVATION | {"lines": RESERVATION["lines"][1:]}}
BATCH = {
    "mode": "each",
    "commands": [
        {"command": "add", "sku": "PENCIL", "quantity": 5, "reason": "delivery", "idempotency_key": "delivery-17"},
        {"command": "reserve", "sku": "BIKE", "sn": "VIN1", "owner": "ann"},
    ],
}

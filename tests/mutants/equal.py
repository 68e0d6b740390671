"""Changes of the rules that no test can notice, each with the reason: (function, change)."""

EQUAL: dict[tuple[str, str], str] = {
    ("release_item", "2 for 1"): "an item is one unit, and release_line looks at no quantity of it",
}

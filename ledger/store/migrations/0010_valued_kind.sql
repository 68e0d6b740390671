-- A price per unit counts for fungible SKUs only, so the valuation has to remember which they are.
ALTER TABLE valued_products ADD COLUMN kind text NOT NULL CHECK (kind IN ('fungible', 'non-fungible'));

"""`stockledger import`: products and movements from CSV and NDJSON files, each row recorded once."""

"""Comparing read models with what a replay of the log makes of them, row by row, in bounded memory.

Rows of both sides go to temporary files, in buckets by their key; then bucket by bucket is compared.
"""

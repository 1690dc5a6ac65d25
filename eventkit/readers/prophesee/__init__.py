"""Prophesee RAW and DAT."""

"""Recordings out of the toolkit again, in formats that others read."""

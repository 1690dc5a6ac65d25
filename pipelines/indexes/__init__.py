"""Indexes and cards by which other libraries read the shards; made from recorded sizes alone."""

"""What other projects' tests can use: Hypothesis strategies for event streams.

Import `eventkit.testing.strategies`; it needs ``pip install hypothesis``.
"""

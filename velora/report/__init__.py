"""What is kept of an evaluation: CSV tables, lines for a terminal, one page on a run.

The page needs no network and no other file, and has no time of day and no path in it: it comes out
the same for the same run folder on the same machine.
"""

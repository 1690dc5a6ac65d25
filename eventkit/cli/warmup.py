"""``eventkit warmup``: compile every kernel now, not with the first clip."""

from __future__ import annotations

import time

import click


@click.command(name="warmup")
@click.option("-v", "--verbose", is_flag=True, help="Name each kernel and its time.")
def command(verbose: bool) -> None:
    """Compile every kernel once, into the cache that all later runs load from.

    Safe with many processes at once: one compiles, the others wait and load.
    """
    from eventkit.warmup import warm_up

    began = time.perf_counter()
    folder = warm_up(say=click.echo if verbose else lambda line: None)
    seconds = time.perf_counter() - began
    if folder is None:
        click.echo(
            f"compiled in {seconds:.1f} s, but no cache folder can be written: every process "
            "compiles for itself; set NUMBA_CACHE_DIR to a folder that can be"
        )
    else:
        click.echo(f"kernels ready in {seconds:.1f} s: {folder}")

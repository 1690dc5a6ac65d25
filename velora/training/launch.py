"""Start the processes of ``--devices N`` by torchrun, and end as the one that failed first.

What the others write to standard error is kept in files, so that a person reads the message of the
process that failed and not those of the processes that it left alone. What the first writes there
is passed on as it comes and kept as well: torchrun may end it after it has spoken and before it has
failed, and what another one says alike would then be said twice.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from velora.parallel import PEER_LOST, QUIET_PEERS

# How long the others may take to end after one has failed.
_GRACE_S = 5
_ERROR_STREAM = 2
# How a process ends that did not fail by itself.
_ENDED = (PEER_LOST, -signal.SIGTERM, -signal.SIGKILL, 128 + signal.SIGTERM)


def launch(command: Sequence[str], *, processes: int) -> int:
    """Run a command in several processes on this machine and return its exit code.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; each process finds its rank in the environment of torchrun.
    processes : int

    Returns
    -------
    int
        0, the code of the process that failed first, 1 for one that a signal ended, or 128 + n
        where signal n ended this one.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.environ[QUIET_PEERS] = "1"
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    program, *arguments = command
    with tempfile.TemporaryDirectory(prefix="velora-") as folder:
        others = dict.fromkeys(range(1, processes), Std.ALL)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            monitor_interval=0.1,
            logs_specs=DefaultLogsSpecs(log_dir=folder, redirects=others),
            shutdown_timeout=_GRACE_S,
        )
        try:
            with _overheard() as heard:
                elastic_launch(config, program)(*arguments)
        except ChildFailedError as error:
            return _report(error, Path(folder), said=heard.decode(errors="replace"))
        except SignalException as error:
            return 128 + int(error.sigval)
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
    return 0


@contextmanager
def _overheard() -> Iterator[bytearray]:
    """Give what goes to standard error meanwhile, of whatever process, and pass it on."""
    heard = bytearray()
    own = os.dup(_ERROR_STREAM)
    read, write = os.pipe()

    def pass_on() -> None:
        # Closed where nobody reads on, so that the processes are told so too.
        with os.fdopen(read, "rb", buffering=0) as pipe:
            while data := pipe.read(2**16):
                heard.extend(data)
                os.write(own, data)

    os.dup2(write, _ERROR_STREAM)
    os.close(write)
    listener = Thread(target=pass_on, daemon=True)
    listener.start()
    try:
        yield heard
    finally:
        sys.stderr.flush()
        os.dup2(own, _ERROR_STREAM)
        # The end comes when the last process that writes there has ended.
        listener.join(_GRACE_S)
        if not listener.is_alive():
            os.close(own)


def _report(error: ChildFailedError, folder: Path, *, said: str) -> int:
    """Show the messages of the processes that failed on their own; return the code of the first.

    Parameters
    ----------
    error : ChildFailedError
    folder : Path
        Of what the others wrote.
    said : str
        What the first process wrote, which stands there already.
    """
    failed = sorted(error.failures.values(), key=lambda failure: failure.timestamp)
    own = [failure for failure in failed if failure.exitcode not in _ENDED]
    # All fail alike over a bad setting.
    seen = {failure.exitcode for failure in own if failure.local_rank == 0}
    for failure in own:
        if failure.exitcode not in seen:
            text = _errors_of(folder, failure.local_rank)
            last = text.strip().rpartition("\n")[2]
            sys.stderr.write("" if last in said.splitlines() else text)
            seen.add(failure.exitcode)
    if own:
        return own[0].exitcode if own[0].exitcode > 0 else 1
    killed = next((f for f in failed if f.exitcode < 0), failed[0])
    sys.stderr.write(
        f"error: process {killed.local_rank} was ended by signal {abs(killed.exitcode) % 128}; the "
        "machine may have run out of memory; the same command goes on\n"
    )
    return 1


def _errors_of(folder: Path, rank: int) -> str:
    return "".join(path.read_text(errors="replace") for path in folder.rglob(f"{rank}/stderr.log"))

"""The last things of a run that ends early, for no longer than somebody waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from eventkit.errors import EventKitError

logger = logging.getLogger(__name__)


def briefly(work: Callable[[], None], *, seconds: float) -> None:
    """Do what a run can do without: a store that does not answer is asked for a minute otherwise.

    What is not done after ``seconds`` is left to go on by itself until the process ends.
    """

    def quietly() -> None:
        try:
            work()
        except (EventKitError, OSError) as err:
            logger.info("left undone: %s", err)

    thread = threading.Thread(target=quietly, name="eventkit-briefly", daemon=True)
    thread.start()
    thread.join(seconds)

"""``torch.compile`` for the blocks of a trunk, and its failures in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from eventkit.errors import SettingsError
from velora.model.classifier import Classifier


@contextmanager
def compiled(model: Classifier, *, wanted: bool) -> Iterator[None]:
    """Compile the blocks of a model; what fails does so in the first steps, within this context.

    Raises
    ------
    SettingsError
        Where the compiler cannot be used.
    """
    if not wanted:
        yield
        return
    # It takes a second to import.
    from torch._dynamo.exc import TorchDynamoException

    model.compile_blocks()
    try:
        yield
    except TorchDynamoException as error:
        cause = getattr(error, "inner_exception", error)
        text = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")
        msg = f"torch.compile failed ({type(cause).__name__}: {text}); leave --compile out"
        raise SettingsError(msg) from error

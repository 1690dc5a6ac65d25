"""Which options a format can use: one that it cannot is refused, not passed over in silence.

A reader says it by two attributes, which are those of `eventkit.readers.base.Reader` that may be
missing: a reader of another package that has neither is told everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eventkit.errors import SettingsError
from eventkit.readers.base import Reader
from eventkit.sources import Source

OPTIONS = ("time_unit", "columns", "topic")
"""What only some formats leave open; policy and sensor size are for all."""


def unfit(
    reader: Reader, given: Mapping[str, str | None], known: Iterable[Reader]
) -> dict[str, str]:
    """Return the options that a reader cannot use, each with the reason in words.

    Parameters
    ----------
    reader : Reader
    given : mapping
        Names of `OPTIONS` to what the caller says; None is nothing.
    known : iterable of Reader
        Those that the reason may point to.

    Examples
    --------
    >>> from eventkit.readers.prophesee.evt import Evt3Reader
    >>> unfit(Evt3Reader(), {"time_unit": "s"}, []), unfit(Evt3Reader(), {"time_unit": "us"}, [])
    ({'time_unit': 'its times are in us'}, {})
    """
    takes = getattr(reader, "takes", OPTIONS)
    unit = getattr(reader, "unit", None)
    reasons: dict[str, str] = {}
    for name, value in given.items():
        if name == "time_unit" and unit is not None:
            if value not in (None, unit):
                reasons[name] = f"its times are in {unit}"
        elif value is not None and name not in takes:
            reasons[name] = f"it is for {', '.join(_takers(name, reader, known))}"
    return reasons


def _takers(name: str, reader: Reader, known: Iterable[Reader]) -> list[str]:
    """Return the readers that can use an option; for the times of pictures those of pictures."""
    holds = reader.holds if name == "time_unit" else ("events", "frames")
    return sorted(
        other.name
        for other in known
        if name in getattr(other, "takes", ()) and not set(holds).isdisjoint(other.holds)
    )


def check_fit(
    source: Source,
    reader: Reader,
    given: Mapping[str, str | None],
    known: Iterable[Reader],
    *,
    prefix: str = "--",
) -> None:
    """Refuse the first option that a reader cannot use.

    Parameters
    ----------
    source : Source
        For the message.
    reader, given, known
        See `unfit`.
    prefix : str
        Of the names of the options: ``--rgb-`` for an RGB side of its own.

    Raises
    ------
    SettingsError
    """
    for name, why in unfit(reader, given, known).items():
        option = f"{prefix}{name.replace('_', '-')}"
        msg = (
            f"{source}: expected no {option} for {reader.name} ({why}), got {given[name]}; "
            "leave it out"
        )
        raise SettingsError(msg)

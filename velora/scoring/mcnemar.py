"""McNemar's test: whether two models differ on the same clips."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from eventkit.errors import SettingsError
from velora.scoring.predictions import Predictions


class McNemar(Struct, frozen=True, kw_only=True):
    """The exact two-sided McNemar test between two models on the same clips."""

    samples: int
    #: Clips that the first gets right and the second wrong, and the other way round.
    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: Predictions, second: Predictions) -> McNemar:
    """Test whether two models differ in how many of the same clips they get right.

    Only clips that one gets right and the other wrong tell them apart; were the models equally
    good, each such clip would fall to either with probability 1/2. The p value is the exact
    two-sided binomial one.

    Raises
    ------
    SettingsError
        If the two are not of the same clips with the same labels; `restricted` makes them so.
    """
    a, b = _verdicts(first), _verdicts(second)
    if a.keys() != b.keys():
        strange = sorted(a.keys() ^ b.keys())
        msg = (
            f"expected predictions of the same {len(a)} clips, got {len(strange)} that only one of "
            f"the two has, as {strange[0]}; evaluate both on one split"
        )
        raise SettingsError(msg)
    other = next((key for key in a if a[key][0] != b[key][0]), None)
    if other is not None:
        msg = (
            f"expected the same labels in both predictions, got {a[other][0]} and {b[other][0]} "
            f"for {other}; evaluate both on shards of one class list"
        )
        raise SettingsError(msg)
    return compared(*({key: right for key, (_, right) in one.items()} for one in (a, b)))


def compared(first: Mapping[str, bool], second: Mapping[str, bool]) -> McNemar:
    """Do McNemar's test on which clips two models get right, over the clips that both have."""
    shared = first.keys() & second.keys()
    only_first = sum(first[key] and not second[key] for key in shared)
    only_second = sum(second[key] and not first[key] for key in shared)
    return McNemar(
        samples=len(shared),
        only_first=only_first,
        only_second=only_second,
        p_value=both_tails(only_first, only_second),
    )


def both_tails(a: int, b: int) -> float:
    """P of a split at least as uneven as ``a`` to ``b`` among a + b fair coins; exact."""
    n = a + b
    ways = term = 1
    for k in range(min(a, b)):
        term = term * (n - k) // (k + 1)
        ways += term
    # Python divides whole numbers of any length correctly rounded.
    p: float = 2 * ways / 2**n
    return min(1.0, p)


def _verdicts(predictions: Predictions) -> dict[str, tuple[int, bool]]:
    labels, right = predictions.labels.tolist(), predictions.right.tolist()
    return dict(zip(predictions.keys, zip(labels, right, strict=True), strict=True))

"""Frame differences of RGB and of event frames: one definition for the whole project."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError

Kind = Literal["absolute", "signed", "thresholded", "velora"]
Order = Literal["consecutive", "first"]
KINDS = ("absolute", "signed", "thresholded", "velora")
ORDERS = ("consecutive", "first")

_WIDER: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.int16),
    2: np.dtype(np.int32),
    4: np.dtype(np.int64),
}


def frame_difference(
    frames: NDArray[Any],
    *,
    kind: Kind = "absolute",
    order: Order = "consecutive",
    threshold: float | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return differences of frames along the first axis, by default absolute ones of neighbours.

    Parameters
    ----------
    frames : (T, ...) unsigned integers, float32 or float64
        Count frames, voxel grids, RGB or gray pictures. Signed integers are refused: their
        difference may not fit.
    kind : {"absolute", "signed", "thresholded", "velora"}
        With ``d = frames[i + 1] - other``, never wrapping:

        - ``absolute``: ``|d|`` in the input's dtype;
        - ``signed``: ``d``, of unsigned integers in the next wider signed type (uint8 in int16,
          uint16 in int32, uint32 in int64; uint64 is refused), of floats in their own;
        - ``thresholded``: 1 where ``|d| > threshold``, else 0 (also for NaN), in uint8;
        - ``velora``: ``|d| / 127.5`` of uint8 pictures in float32, see `velora_difference`.
    order : {"consecutive", "first"}
        ``other`` is ``frames[i]``, or always ``frames[0]``.
    threshold : float, in the unit of the frames
        At least 0; 0 unless given. For ``thresholded`` only.
    out : (T - 1, ...), optional
        Receives the result and is returned; must not share memory with the frames.

    Returns
    -------
    (T - 1, ...)
        Empty along the first axis for one frame.

    Raises
    ------
    SettingsError
        For another dtype, no frame at all or an ``out`` that does not fit.

    Examples
    --------
    >>> frames = np.array([[250], [3], [5]], np.uint8)
    >>> frame_difference(frames).tolist()
    [[247], [2]]
    >>> frame_difference(frames, kind="signed", order="first").tolist()
    [[-247], [-245]]
    >>> frame_difference(frames, kind="thresholded", threshold=2).tolist()
    [[1], [0]]
    """
    _check_choice("kind", kind, KINDS)
    _check_choice("order", order, ORDERS)
    _check_frames(frames)
    limit = _limit(kind, threshold)
    shape = (frames.shape[0] - 1, *frames.shape[1:])
    result = _result(out, shape, _dtype(kind, frames.dtype), frames)
    step = 0 if order == "first" else 1
    if frames.dtype.kind == "f":
        _float_difference(frames, kind, step, limit, result)
    else:
        _integer_difference(frames, kind, step, limit, result)
    return result


def velora_difference(
    *pictures: NDArray[np.uint8], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return the difference that the released VELoRA code feeds its third encoder.

    With u the pixels of a picture, the release normalises ``X = (u / 255 - 0.5) / 0.5`` and takes,
    for the RGB frames r and the event pictures e of one clip,
    ``D[i] = |X_r[i] - X_r[i + 1]| + |X_e[i] - X_e[i + 1]|``. The mean of 0.5 falls out and
    ``|X[i] - X[i + 1]| = |u[i] - u[i + 1]| / 127.5``, which is computed here: each quotient is
    rounded to float32 once, then the modalities are added in the order given. D is not normalised
    again. The release computes X in float32 first, so its values differ from these by some 1e-7.

    Parameters
    ----------
    *pictures : (T, ...) uint8, all of one shape
        A stream of pictures for each modality: RGB frames (T, H, W, 3) and event pictures of the
        same size, or one of them alone.
    out : (T - 1, ...) float32, optional

    Returns
    -------
    (T - 1, ...) float32
        0 to 2 for each modality: 0 to 4 for two.

    Examples
    --------
    >>> rgb = np.array([[0, 10], [255, 10]], np.uint8)
    >>> events = np.array([[255, 255], [0, 0]], np.uint8)
    >>> velora_difference(rgb, events).tolist()
    [[4.0, 2.0]]
    """
    if not pictures or len({stream.shape for stream in pictures}) > 1:
        shapes = ", ".join(str(stream.shape) for stream in pictures) or "none"
        msg = f"expected streams of pictures of one shape, got {shapes}"
        raise SettingsError(msg)
    for stream in pictures:
        _check_frames(stream)
        _dtype("velora", stream.dtype)
    shape = (pictures[0].shape[0] - 1, *pictures[0].shape[1:])
    result = _result(out, shape, np.dtype(np.float32), *pictures)
    from eventkit.kernels.differences import normalised_difference

    width = pictures[0].size // pictures[0].shape[0]
    for i, stream in enumerate(pictures):
        normalised_difference(_rows(stream, width), 1, int(i > 0), _rows(result, width))
    return result


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        msg = f"expected {name} among {', '.join(known)}, got {value!r}"
        raise SettingsError(msg)


def _check_frames(frames: NDArray[Any]) -> None:
    if frames.ndim < 1 or frames.shape[0] < 1:
        msg = f"expected at least one frame along the first axis, got shape {frames.shape}"
        raise SettingsError(msg)
    if frames.dtype.kind not in "uf" or (
        frames.dtype.kind == "f" and frames.itemsize not in (4, 8)
    ):
        msg = f"expected unsigned integers, float32 or float64, got {frames.dtype}"
        raise SettingsError(msg)


def _limit(kind: str, threshold: float | None) -> float:
    if threshold is None:
        return 0.0
    if kind != "thresholded":
        msg = f"threshold goes with kind='thresholded', got kind={kind!r}"
        raise SettingsError(msg)
    if not threshold >= 0:
        msg = f"expected threshold of at least 0, got {threshold}"
        raise SettingsError(msg)
    return threshold


def _dtype(kind: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of the result, always of this machine's byte order."""
    if kind == "absolute" and dtype.isnative:
        return dtype
    if kind == "thresholded":
        return np.dtype(np.uint8)
    if kind == "velora":
        if dtype != np.uint8:
            msg = f"expected uint8 pictures for kind 'velora', got {dtype}"
            raise SettingsError(msg)
        return np.dtype(np.float32)
    if kind == "signed" and dtype.kind == "u":
        if dtype.itemsize not in _WIDER:
            msg = f"expected uint8, uint16 or uint32 for a signed difference, got {dtype}"
            raise SettingsError(msg)
        return _WIDER[dtype.itemsize]
    native: np.dtype[Any] = np.dtype(f"={dtype.str[1:]}")
    return native


def _result(
    out: NDArray[Any] | None, shape: tuple[int, ...], dtype: np.dtype[Any], *frames: NDArray[Any]
) -> NDArray[Any]:
    if out is None:
        return np.empty(shape, dtype)
    good = isinstance(out, np.ndarray) and out.shape == shape and out.dtype == dtype
    if not good or not out.flags.c_contiguous or not out.flags.writeable:
        got = f"{out.dtype}{out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        msg = f"expected out as a writeable C-contiguous {dtype}{shape}, got {got}"
        raise SettingsError(msg)
    if any(np.may_share_memory(out, stream) for stream in frames):
        msg = "expected out apart from the frames, got one that shares their memory"
        raise SettingsError(msg)
    return out


def _rows(frames: NDArray[Any], width: int) -> NDArray[Any]:
    """Return (T, N) of this machine's byte order; a view where the frames allow it."""
    if not (frames.flags.c_contiguous and frames.dtype.isnative):
        frames = np.ascontiguousarray(frames, frames.dtype.newbyteorder("="))
    return frames.reshape(frames.shape[0], width)


def _integer_difference(
    frames: NDArray[Any], kind: str, step: int, limit: float, out: NDArray[Any]
) -> None:
    width = frames.size // frames.shape[0]
    rows, result = _rows(frames, width), _rows(out, width)
    if kind == "absolute":
        from eventkit.kernels.differences import absolute_difference

        absolute_difference(rows, step, result)
        return
    from eventkit.kernels import differences

    if kind == "signed":
        differences.signed_difference(rows, step, result)
    elif kind == "velora":
        differences.normalised_difference(rows, step, 0, result)
    else:
        # A whole number is above a limit exactly where it is above the whole number below it.
        top = int(np.iinfo(rows.dtype).max)
        whole = top if limit >= top else int(limit)
        differences.exceeds(rows, step, rows.dtype.type(whole), result)


def _float_difference(
    frames: NDArray[Any], kind: str, step: int, limit: float, out: NDArray[Any]
) -> None:
    """In float the subtraction itself is right, NaN included; one frame at a time."""
    for k in range(out.shape[0]):
        old, new = frames[step * k], frames[k + 1]
        if kind == "thresholded":
            np.greater(np.abs(new - old), limit, out=out[k, ...], casting="unsafe")
            continue
        np.subtract(new, old, out=out[k, ...])
        if kind == "absolute":
            np.abs(out[k, ...], out=out[k, ...])

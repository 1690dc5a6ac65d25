"""What stands beside the events of a bag: images, inertial samples, external signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.frames import Frames, Picture
from eventkit.readers.base import ReadOptions
from eventkit.readers.images.reader import decode_pixels
from eventkit.readers.ros.bags import Bag, Message
from eventkit.readers.ros.messages import IMU_DTYPE, Fields, MessageError, imu_row
from eventkit.readers.ros.packets import Decoder, parse_packet
from eventkit.triggers import CHANNEL_DTYPE

Item = TypeVar("Item")

# Encoding of sensor_msgs/image_encodings.hpp -> bytes of a value, values of a pixel, and which of
# them in RGB order. The alpha channel carries no picture.
_ENCODINGS: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "mono8": (1, 1, (0,)),
    "8UC1": (1, 1, (0,)),
    "mono16": (2, 1, (0,)),
    "16UC1": (2, 1, (0,)),
    "rgb8": (1, 3, (0, 1, 2)),
    "bgr8": (1, 3, (2, 1, 0)),
    "8UC3": (1, 3, (2, 1, 0)),  # OpenCV's order
    "rgba8": (1, 4, (0, 1, 2)),
    "bgra8": (1, 4, (2, 1, 0)),
    "rgb16": (2, 3, (0, 1, 2)),
    "bgr16": (2, 3, (2, 1, 0)),
}
_MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg"}


class _Image(NamedTuple):
    """An image message without its pixels: ``shape`` is None where they must be decoded first."""

    t_us: int
    encoding: str
    shape: tuple[int, int, int] | None
    step: int
    big: bool
    data: memoryview


def read_frames(bag: Bag, topic: str, options: ReadOptions) -> tuple[Frames | None, list[str]]:
    """Collect the times of an image topic; pixels are decoded when they are asked for.

    Returns
    -------
    frames : Frames or None
    notes : list of str
        Why there are none although the topic has images.
    """
    recorded: list[int] = []
    found: list[tuple[int, _Image]] = []
    for number, message in enumerate(options.whole(bag.messages([topic]))):
        recorded.append(message.time_ns)
        with options.booking():
            image = _one(bag, message, number, _image_of(bag))
            if image.encoding and image.encoding not in _ENCODINGS:
                return None, [f"images of {topic} are {image.encoding}, which is not read"]
            # The pixels of the first are looked at below, those of the others are let go.
            found.append((number, image._replace(data=memoryview(b"")) if found else image))
    if not found:
        return None, []
    first = found[0][1]
    shape = first.shape or decode_pixels(bytes(first.data), path=bag.path).shape
    alike = [(number, image) for number, image in found if image.shape == first.shape]
    if len(alike) < len(found):
        shapes = sorted({str(image.shape) for _, image in found})
        msg = f"expected images of one shape on {topic}, got {', '.join(shapes)}"
        options.book(FormatError(msg, path=bag.path, reason="bad_value"))
    alike.sort(key=lambda one: one[1].t_us)
    numbers = [number for number, _ in alike]
    t = np.array([image.t_us for _, image in alike], np.int64)
    clock = np.array(recorded, np.int64)

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        wanted = [numbers[i] for i in indices]
        return _pictures(bag, topic, wanted, clock, (shape[0], shape[1], shape[2]))

    size = (int(shape[1]), int(shape[0]))
    kind = _suffix(first) if first.shape is None else ""
    return Frames(t, t.copy(), t.copy(), size, int(shape[2]), "recorded", reader, kind), []


def read_side(
    bag: Bag, imu: str | None, signals: Sequence[str], offset_us: int, options: ReadOptions
) -> dict[str, NDArray[Any]]:
    """Collect inertial samples and external signals, on the clock of the events.

    Parameters
    ----------
    bag : Bag
    imu : str, optional
        Topic of inertial samples.
    signals : sequence of str
        Topics of ``EventPacket`` that may hold external signals.
    offset_us : int, microseconds
        The events' clock is this much behind the clock of ROS.
    options : ReadOptions
    """
    found: dict[str, NDArray[Any]] = {}
    if imu is not None:
        rows = _checked(bag, imu, lambda message: imu_row(message.data, bag.ros), options)
        found["imu"] = np.array(list(rows), IMU_DTYPE)
        found["imu"]["t"] -= offset_us
    parts: list[NDArray[Any]] = []
    for topic in signals:
        decoder = Decoder()
        packets = _checked(bag, topic, lambda message: parse_packet(message.data, bag.ros), options)
        parts.extend(decoder.triggers(packet) for packet in packets)
    joined = np.concatenate([np.empty(0, CHANNEL_DTYPE), *parts])
    if joined.size:
        found["triggers"] = joined
    return found


def _checked(
    bag: Bag, topic: str, parse: Callable[[Message], Item], options: ReadOptions
) -> Iterator[Item]:
    """Yield what the messages of a topic hold; a damaged one costs itself only."""
    for number, message in enumerate(options.whole(bag.messages([topic]))):
        with options.booking():
            yield _one(bag, message, number, parse)


def _one(bag: Bag, message: Message, number: int, parse: Callable[[Message], Item]) -> Item:
    try:
        return parse(message)
    except MessageError as err:
        msg = f"message {number} of {message.topic}: {err}"
        raise FormatError(msg, path=bag.path, reason="corrupt") from err


def _image_of(bag: Bag) -> Callable[[Message], _Image]:
    """Return what parses an image message of a bag."""

    def parse(message: Message) -> _Image:
        compressed = bag.topics[message.topic].type.endswith("CompressedImage")
        return (_compressed if compressed else _raw)(message.data, bag.ros)

    return parse


def _raw(data: bytes, ros: int) -> _Image:
    fields = Fields(data, ros)
    stamp = fields.header()
    height, width = fields.numbers("I", 2)
    encoding = fields.text()
    big, step = bool(fields.number("B")), fields.number("I")
    pixels = fields.blob()
    width_bytes, values, picked = _ENCODINGS.get(encoding, (1, 1, (0,)))
    if encoding in _ENCODINGS:
        row = width * values * width_bytes
        if not (height and width and row <= step and step * height <= len(pixels) + step - row):
            msg = (
                f"expected {height} rows of {row} bytes, got {len(pixels)} bytes in rows of {step}"
            )
            raise MessageError(msg)
    shape = (height, width, len(picked))
    return _Image(stamp // 1000, encoding, shape, step, big, pixels)


def _compressed(data: bytes, ros: int) -> _Image:
    fields = Fields(data, ros)
    stamp = fields.header()
    name = fields.text()
    picture = fields.blob()
    known = any(bytes(picture[: len(magic)]) == magic for magic in _MAGIC)
    encoding = "" if known else f"compressed as {name!r}"
    return _Image(stamp // 1000, encoding, None, 0, big=False, data=picture)


def _suffix(image: _Image) -> str:
    return next(kind for magic, kind in _MAGIC.items() if bytes(image.data[: len(magic)]) == magic)


def _pixels(image: _Image) -> NDArray[Any]:
    width_bytes, values, picked = _ENCODINGS[image.encoding]
    assert image.shape is not None
    height, width, _ = image.shape
    dtype = np.dtype(f"{'>' if image.big else '<'}u{width_bytes}")
    strides = (image.step, values * width_bytes, width_bytes)
    view = np.ndarray((height, width, values), dtype, image.data, 0, strides)
    native = dtype.newbyteorder("=")
    return np.ascontiguousarray(view[:, :, list(picked)].astype(native, copy=False))


def _pictures(
    bag: Bag,
    topic: str,
    wanted: list[int],
    recorded: NDArray[np.int64],
    shape: tuple[int, int, int],
) -> Iterator[Picture]:
    """Yield messages ``wanted``, by their place on the topic, in that order."""
    if not wanted:
        return
    number, start = 0, None
    if bag.ordered:
        start = int(recorded[min(wanted)])
        number = int(np.searchsorted(recorded, start))
    waiting: dict[int, Picture] = {}
    needed, position = set(wanted), 0
    for message in bag.messages([topic], start=start):
        if number in needed:
            waiting[number] = _picture(bag, message, number, shape)
        number += 1
        while position < len(wanted) and wanted[position] in waiting:
            yield waiting.pop(wanted[position])
            position += 1
        if position == len(wanted):
            return


def _picture(bag: Bag, message: Message, number: int, shape: tuple[int, int, int]) -> Picture:
    image = _one(bag, message, number, _image_of(bag))
    if image.shape is None:
        encoded = bytes(image.data)
        picture = Picture(decode_pixels(encoded, path=bag.path), encoded)
    else:
        picture = Picture(_pixels(image))
    if picture.pixels.shape != shape:
        msg = f"expected an image of {shape}, got {picture.pixels.shape} in message {number}"
        raise FormatError(msg, path=bag.path, reason="bad_value")
    return picture

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
from eventkit.readers.ros.bags import Bag, Lost, Message, pass_over
from eventkit.readers.ros.messages import IMU_DTYPE, Fields, MessageError, imu_row
from eventkit.readers.ros.packets import Decoder, parse_packet
from eventkit.readers.ros.pixels import ENCODINGS, fits, to_pixels
from eventkit.triggers import CHANNEL_DTYPE

Item = TypeVar("Item")

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
    for number, message in enumerate(options.whole(bag.messages([topic], lost=options.book))):
        recorded.append(message.time_ns)
        with options.booking():
            image = _one(bag, message, number, _image_of(bag))
            if image.encoding and image.encoding not in ENCODINGS:
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
        lost = None if options.strict else pass_over
        return _pictures(bag, topic, wanted, clock, (shape[0], shape[1], shape[2]), lost)

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
    for number, message in enumerate(options.whole(bag.messages([topic], lost=options.book))):
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
    encoding = fields.text() or "of no named encoding"  # empty is what compressed ones are here
    big, step = bool(fields.number("B")), fields.number("I")
    pixels = fields.blob()
    known = ENCODINGS.get(encoding)
    if known is None:
        return _Image(stamp // 1000, encoding, (height, width, 1), step, big, pixels)
    row = width * known.values * known.width_bytes
    if not fits(known, width, height):
        msg = f"expected a size that {encoding} can have, got {width}x{height}"
        raise MessageError(msg)
    if not (row <= step and step * height <= len(pixels) + step - row):
        msg = f"expected {height} rows of {row} bytes, got {len(pixels)} bytes in rows of {step}"
        raise MessageError(msg)
    shape = (height, width, known.channels)
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


def _pictures(
    bag: Bag,
    topic: str,
    wanted: list[int],
    recorded: NDArray[np.int64],
    shape: tuple[int, int, int],
    lost: Lost | None,
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
    for message in bag.messages([topic], start=start, lost=lost):
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
        size = (image.shape[1], image.shape[0])
        known = ENCODINGS[image.encoding]
        picture = Picture(to_pixels(image.data, known, size, image.step, big=image.big))
    if picture.pixels.shape != shape:
        msg = f"expected an image of {shape}, got {picture.pixels.shape} in message {number}"
        raise FormatError(msg, path=bag.path, reason="bad_value")
    return picture

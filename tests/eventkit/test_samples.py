"""The sample schema: what is written comes back, equal samples are equal bytes, damage is named."""

from __future__ import annotations

import gzip
import io
import json
import re
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eventkit.errors import DamageError, SettingsError
from eventkit.samples import (
    CODECS,
    MAX_NAME_BYTES,
    Sample,
    decode_array,
    decode_images,
    decode_sample,
    encode_array,
    encode_json,
    encode_png,
    encode_sample,
    sample_key,
)
from eventkit.testing.strategies import frame_stacks

RGB = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3)).astype(np.uint8)
PNGS = tuple(encode_png(pixels) for pixels in RGB)
EVENTS = np.arange(3 * 2 * 5 * 7, dtype=np.uint8).reshape(3, 2, 5, 7)


def sample(**changed: Any) -> Sample:
    fields: dict[str, Any] = {
        "key": "train_7_60001_000000",
        "events": EVENTS,
        "rgb": PNGS,
        "rgb_suffix": "png",
        "label": 7,
        "meta": {"label": 7, "binned": 12, "name": "Öl"},
    }
    return Sample(**(fields | changed))


def assert_equal(a: Sample, b: Sample) -> None:
    for name in ("key", "rgb", "rgb_suffix", "label", "meta"):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("events", "diff_events", "diff_rgb"):
        mine, theirs = getattr(a, name), getattr(b, name)
        assert (mine is None) == (theirs is None), name
        if mine is not None:
            assert mine.dtype == theirs.dtype
            assert np.array_equal(mine, theirs)


# Keys

KEY = re.compile(r"[A-Za-z0-9_-]+")


@given(st.text(max_size=150), st.integers(0, 999_999))
def test_keys_have_harmless_characters_and_fit_into_a_tar(recording: str, clip: int) -> None:
    key = sample_key(recording, clip)

    assert KEY.fullmatch(key)
    assert not key.startswith("_")
    assert key.endswith(f"_{clip:06d}")
    assert len(f"{key}.diff_events.npy.zst".encode()) <= MAX_NAME_BYTES


@given(st.sets(st.text(alphabet="ab/_. -ö", max_size=90), min_size=2, max_size=20))
def test_different_recordings_have_different_keys(recordings: set[str]) -> None:
    keys = {sample_key(recording, 0) for recording in recordings}

    assert len(keys) == len(recordings)


def test_a_file_name_that_is_no_utf8_has_a_key() -> None:
    key = sample_key(b"caf\xe9/1".decode("utf-8", "surrogateescape"), 0)

    assert KEY.fullmatch(key)


def test_keys_of_ordinary_paths_can_be_read() -> None:
    assert sample_key("train/7/60001", 12) == "train_7_60001_000012"
    assert sample_key("a b.c", 0).startswith("a_b_c-")


@pytest.mark.parametrize("length", [73, 74, 75, 80, 81, 200])
def test_keys_of_long_paths_fit_into_a_tar_and_differ(length: int) -> None:
    one, other = (sample_key("x" * (length - 1) + end, 999_999) for end in "ab")

    assert one != other
    assert len(f"{one}.diff_events.npy.zst") <= MAX_NAME_BYTES


def test_keys_sort_like_the_clips_of_a_recording() -> None:
    keys = [sample_key("rec", clip) for clip in (2, 10, 100)]

    assert keys == sorted(keys)


# Arrays


@pytest.mark.parametrize("codec", CODECS)
@given(st.sampled_from(["u1", "u2", "u4"]).flatmap(lambda kind: frame_stacks(dtype=kind)))
def test_arrays_come_back(codec: str, array: np.ndarray) -> None:
    data = encode_array(array, codec=codec)

    found = decode_array(data, codec=codec)

    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_arrays_are_plain_npy_files() -> None:
    data = encode_array(EVENTS, codec="npy.gz")

    assert np.array_equal(np.load(io.BytesIO(gzip.decompress(data))), EVENTS)


@pytest.mark.parametrize("codec", CODECS)
def test_equal_arrays_are_equal_bytes_however_they_lie_in_memory(codec: str) -> None:
    expected = encode_array(EVENTS, codec=codec)

    for same in (EVENTS.copy(), np.asfortranarray(EVENTS), EVENTS[:, ::-1][:, ::-1]):
        assert encode_array(same, codec=codec) == expected


def test_no_time_stamp_is_in_the_bytes() -> None:
    # Bytes 4 to 7 of a gzip file are its time.
    assert encode_array(EVENTS)[4:8] == bytes(4)


def test_a_cut_or_changed_zstd_member_is_damage() -> None:
    whole = encode_array(EVENTS, codec="npy.zst")

    for at in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[at] ^= 0x10
        for data in (whole[:at], bytes(flipped)):
            try:
                found = decode_array(data, codec="npy.zst")
            except DamageError:
                continue
            assert np.array_equal(found, EVENTS)  # a bit of the header that says nothing


def frame_header(claim: int) -> bytes:
    """Return the start of a zstd frame: magic, one segment, eight bytes of content size."""
    return b"\x28\xb5\x2f\xfd\xe0" + claim.to_bytes(8, "little")


LAST_BLOCK = b"\x19\x00\x00abc"
"""Raw, of three bytes."""


@pytest.mark.parametrize(
    ("frame", "got"),
    [
        (frame_header(10 << 30) + LAST_BLOCK, "claims 10737418240 bytes, more than 1073741824"),
        (frame_header(7 << 61) + LAST_BLOCK, "more than 1073741824"),
        (frame_header(1 << 20) + LAST_BLOCK, "decompression error"),
        (frame_header(1) + LAST_BLOCK, "decompression error"),
        (zstandard.ZstdCompressor(write_content_size=False).compress(b"abc"), "does not say how"),
        (encode_array(EVENTS, codec="npy.zst") + b"x", "unused data"),
        (b"", "content size"),
        (b"no frame", "content size"),
    ],
    ids=["10 GiB", "2^63", "more", "less", "unsaid", "behind", "empty", "other"],
)
def test_a_zstd_member_is_no_larger_than_it_says_and_takes_no_memory_for_a_lie(
    frame: bytes, got: str
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DamageError, match=rf"expected a whole npy\.zst array, .*{got}"):
            decode_array(frame, codec="npy.zst")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 4 << 20


def test_a_few_kilobytes_of_zstd_do_not_inflate_without_an_end() -> None:
    zeros = bytes(1 << 20)
    packer = zstandard.ZstdCompressor(level=1).compressobj(size=1025 * len(zeros))
    bomb = b"".join([*(packer.compress(zeros) for _ in range(1025)), packer.flush()])
    assert len(bomb) < 1 << 17

    with pytest.raises(DamageError, match="more than 1073741824"):
        decode_array(bomb, codec="npy.zst")


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"codec among npy\.gz, npy, npy\.zst, got 'zst'"):
        encode_array(EVENTS, codec="zst")


# Samples


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"label": -1},
        {"diff_events": EVENTS[1:], "diff_rgb": RGB[1:]},
        {"events": EVENTS.astype(np.uint16), "diff_events": EVENTS[1:].astype(np.uint16)},
        {"events": EVENTS[:, :1].astype(np.float32) - 7.5},
    ],
    ids=["plain", "no label", "differences", "u2", "voxels"],
)
def test_samples_come_back(codec: str, changed: dict[str, Any]) -> None:
    written = sample(**changed)

    found = decode_sample(written.key, encode_sample(written, codec=codec))

    assert_equal(found, written)


def test_members_have_the_names_of_the_contract_in_order() -> None:
    written = sample(diff_events=EVENTS[1:], diff_rgb=RGB[1:])

    members = encode_sample(written)

    assert list(members) == [
        "cls",
        "diff_events.npy.gz",
        "diff_rgb.npy.gz",
        "events.npy.gz",
        "json",
        "rgb00.png",
        "rgb01.png",
        "rgb02.png",
    ]
    assert members["cls"] == b"7"
    assert json.loads(members["json"]) == written.meta
    assert members["rgb01.png"] == PNGS[1]


@pytest.mark.parametrize("suffix", ["JPG", "h5", "bmp"])
def test_a_suffix_that_other_readers_take_for_something_else_is_refused(suffix: str) -> None:
    with pytest.raises(SettingsError, match=f"got 'rgb00.{suffix}'"):
        encode_sample(sample(rgb_suffix=suffix))


@pytest.mark.parametrize("count", [1, 10, 100, 101])
def test_the_order_of_many_pictures_is_kept(count: int) -> None:
    written = sample(rgb=tuple(b"%d" % i for i in range(count)))

    assert decode_sample("k", encode_sample(written)).rgb == written.rgb


def test_equal_samples_are_equal_bytes() -> None:
    reordered = dict(reversed(list(sample().meta.items())))

    assert encode_sample(sample()) == encode_sample(sample(meta=reordered, events=EVENTS.copy()))


def test_json_is_canonical() -> None:
    assert encode_json({"b": [1, 2], "a": None}) == b'{"a":null,"b":[1,2]}'
    with pytest.raises(ValueError, match="JSON compliant"):
        encode_json({"a": float("nan")})


@pytest.mark.parametrize("missing", ["cls", "json", "events.npy.gz"])
def test_a_missing_member_is_damage_that_names_the_sample(missing: str) -> None:
    members = encode_sample(sample())
    del members[missing]

    with pytest.raises(DamageError, match=r"sample my_key: .*; run `eventkit verify`"):
        decode_sample("my_key", members)


def test_a_sample_without_pictures_is_damage() -> None:
    members = {name: data for name, data in encode_sample(sample()).items() if name[:3] != "rgb"}

    with pytest.raises(DamageError, match="expected events and rgb members, got cls, events"):
        decode_sample("k", members)


@pytest.mark.parametrize(
    ("member", "content"),
    [
        ("cls", b""),
        ("cls", b"seven"),
        ("json", b"{"),
        ("json", b"\xff\xfe"),
        ("events.npy.gz", b""),
        ("events.npy.gz", b"no gzip"),
        ("events.npy.gz", gzip.compress(b"no array", mtime=0)),
        ("events.npy.gz", encode_array(EVENTS)[:-9]),
        ("events.npy.gz", encode_array(EVENTS)[:30] + b"?" + encode_array(EVENTS)[31:]),
    ],
)
def test_a_damaged_member_is_damage_that_names_the_sample(member: str, content: bytes) -> None:
    members = encode_sample(sample()) | {member: content}

    with pytest.raises(DamageError, match="sample my_key: "):
        decode_sample("my_key", members)


@pytest.mark.parametrize("codec", CODECS)
def test_object_arrays_are_never_loaded(codec: str) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], object), allow_pickle=True)
    data = buffer.getvalue()

    with pytest.raises(DamageError, match="a damaged one"):
        decode_array(gzip.compress(data) if codec == "npy.gz" else data, codec=codec)


@pytest.mark.parametrize("length", range(0, 130, 10))
def test_a_cut_array_is_damage(length: int) -> None:
    with pytest.raises(DamageError, match="expected a whole npy array"):
        decode_array(encode_array(EVENTS, codec="npy")[:length], codec="npy")


def test_a_flipped_byte_in_the_header_of_an_array_is_damage_or_harmless() -> None:
    data = encode_array(EVENTS[:1, :1, :2, :3], codec="npy")

    unexpected = set()
    for at in range(128):
        for flip in (0x01, 0x20, 0x0D, 0x80):
            damaged = bytearray(data)
            damaged[at] ^= flip
            try:
                decode_array(bytes(damaged), codec="npy")
            except DamageError:
                pass
            except Exception as err:
                unexpected.add(f"{type(err).__name__}: {err}")

    assert unexpected == set()


def test_a_header_that_claims_more_than_there_is_is_damage() -> None:
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (999999999999999, 3), }"
    data = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + head.ljust(117) + b"\nabc"

    with pytest.raises(DamageError):
        decode_array(data, codec="npy")


# Pictures


def test_pictures_come_back_gray_or_colour() -> None:
    assert np.array_equal(decode_images(PNGS), RGB)
    gray = [encode_png(pixels[:, :, :1]) for pixels in RGB]
    assert np.array_equal(decode_images(gray), RGB[..., :1])


def test_a_repeated_picture_is_repeated() -> None:
    found = decode_images([PNGS[0], PNGS[1], PNGS[0]])

    assert np.array_equal(found, RGB[[0, 1, 0]])


def test_deep_pictures_are_divided_by_257() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.array([[257 * 9, 65535]], np.uint16)).save(buffer, "PNG")

    assert decode_images([buffer.getvalue()]).ravel().tolist() == [9, 255]


@pytest.mark.parametrize(
    "images",
    [[], [b""], [PNGS[0], PNGS[1][:40]], [PNGS[0], encode_png(RGB[0, :2])]],
    ids=["none", "empty", "cut", "another shape"],
)
def test_pictures_that_make_no_clip_are_damage(images: list[bytes]) -> None:
    with pytest.raises(DamageError, match="expected"):
        decode_images(images)


def test_a_sample_is_a_value_that_can_be_changed_by_copy_only() -> None:
    with pytest.raises(AttributeError):
        sample().label = 3  # type: ignore[misc]
    assert replace(sample(), label=3).label == 3

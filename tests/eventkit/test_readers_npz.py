"""npz archives: every published spelling is read; damage and pickles never get far."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eventkit
from eventkit.errors import EventKitError, FormatError, SettingsError
from eventkit.events import Events
from eventkit.readers.base import EVENT_CHUNK

N = 6
X, Y = np.array([0, 6, 1, 2, 3, 4]), np.array([4, 0, 1, 2, 3, 0])
T, P = np.array([10, 10, 20, 35, 50, 90]), np.array([1, 0, 0, 1, 1, 0])


def truth() -> Events:
    return Events(x=X, y=Y, t=T, p=P)


def write(path: Path, **changed: Any) -> Path:
    """Write an archive of x, y, t, p with some arrays changed, added or (None) left out."""
    arrays = {"x": X, "y": Y, "t": T, "p": P} | changed
    np.savez(path, **{name: values for name, values in arrays.items() if values is not None})
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.npz"


def test_the_columns_of_hardvs_are_read(path: Path) -> None:
    write(path, x=X.astype("u2"), y=Y.astype("u2"), t=T.astype("i8"), p=P.astype("i1"))

    recording = eventkit.open(path)

    assert recording.events == truth()
    assert recording.format == "npz"
    assert recording.ledger.decoded == recording.ledger.words == N


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_spelling_of_spikingjelly_is_read(path: Path, save: Any) -> None:
    save(path, t=T, x=X.astype("f4"), y=Y.astype("f8"), p=P.astype(bool))

    assert eventkit.open(path).events == truth()


def test_the_first_spelling_of_n_imagenet_is_read(path: Path) -> None:
    layout = [("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "?")]
    table = np.rec.fromarrays([X, Y, T, P], dtype=np.dtype(layout))
    np.savez(path, event_data=np.asarray(table, np.dtype(layout)))

    assert eventkit.open(path).events == truth()


def test_the_second_spelling_of_n_imagenet_is_read(path: Path) -> None:
    np.savez(path, x_pos=X, y_pos=Y, timestamp=T.astype("u8"), polarity=P)

    assert eventkit.open(path).events == truth()


def test_signed_polarities_and_columns_of_shape_n_1_are_read(path: Path) -> None:
    write(path, p=2 * P - 1, x=X[:, None])

    assert eventkit.open(path).events == truth()


def test_names_are_known_in_any_case(path: Path) -> None:
    np.savez(path, X=X, Y=Y, T=T, Polarity=P)

    assert eventkit.open(path).events == truth()


@pytest.mark.parametrize("name", ["time", "timestamps", "Timestamp"])
def test_the_exact_name_of_a_column_wins_over_what_else_may_be_one(path: Path, name: str) -> None:
    recording = eventkit.open(write(path, **{name: np.arange(3)}))

    assert recording.events == truth()
    assert recording.notes[0] == f"columns are x, y, t, p; {name} not used"


RECORDS = np.rec.fromarrays([X, Y, T, P], names="x,y,timestamp,polarity")


def test_records_of_another_name_are_taken_where_there_are_no_others(path: Path) -> None:
    np.savez(path, my_data=np.asarray(RECORDS), label=3, lut=np.array([{}], object))

    recording = eventkit.open(path)

    assert recording.events == truth()
    assert "events are the records of 'my_data'" in recording.notes
    np.savez(path, left=np.asarray(RECORDS), right=np.asarray(RECORDS))
    with pytest.raises(FormatError, match="the fields are left, right"):
        eventkit.open(path)


def test_positive_and_negative_events_in_two_tables_are_refused(path: Path) -> None:
    """ES-ImageNet: which column is which stands nowhere in the file."""
    np.savez(path, pos=np.stack([X, Y, T], 1), neg=np.stack([X, Y, T], 1))

    with pytest.raises(FormatError, match=r"expected one field for 'x' .* the fields are pos, neg"):
        eventkit.open(path)


@pytest.mark.parametrize(
    "keys",
    [
        {"sensor_size": np.array([7, 5])},
        {"width": 7, "height": 5},
        {"width": np.array([7]), "height": 5},
    ],
    ids=["sensor_size", "width and height", "arrays of one"],
)
def test_a_geometry_in_the_file_is_used(path: Path, keys: dict[str, Any]) -> None:
    recording = eventkit.open(write(path, **keys))

    assert recording.sensor_size == (7, 5)
    assert recording.geometry_source == "keys of the file"


def test_without_a_geometry_none_is_made_up(path: Path) -> None:
    recording = eventkit.open(write(path))

    assert recording.sensor_size is None
    assert recording.geometry_source == "not in the file"
    assert len(recording.events) == N


def test_a_given_size_wins_over_the_files(path: Path) -> None:
    write(path, width=7, height=5)

    recording = eventkit.open(path, sensor_size=(6, 5), on_error="skip")

    assert recording.sensor_size == (6, 5)
    assert recording.ledger.dropped == {"outside": 1}
    with pytest.raises(FormatError, match="x=6 y=0 at event 1"):
        _ = eventkit.open(path, sensor_size=(6, 5)).events


def test_long_archives_come_in_pieces(path: Path) -> None:
    n = EVENT_CHUNK + 3
    zeros = np.zeros(n, "u1")
    np.savez(path, x=zeros, y=zeros, t=np.arange(n), p=zeros)

    sizes = [len(chunk.events) for chunk in eventkit.open(path).stream()]

    assert sizes == [EVENT_CHUNK, 3]


def test_an_archive_of_empty_columns_holds_no_events(path: Path) -> None:
    nothing = np.empty(0)

    recording = eventkit.open(write(path, x=nothing, y=nothing, t=nothing, p=nothing))

    assert len(recording.events) == 0


@pytest.mark.parametrize(
    ("changed", "reason", "words"),
    [
        ({"p": None}, "bad_header", r"one field for 'p' .* the fields are x, y, t"),
        ({"t": None, "ts": T, "time": T}, "bad_header", r"one field for 't' .* got ts and time"),
        ({"x": X[:4]}, "truncated", r"columns of one length"),
        ({"x": X - 1}, "outside_sensor", r"places in 0\.\.65535, got x=-1 .* at event 0"),
        ({"y": Y + 0.5}, "bad_value", r"whole pixel numbers in 'y'"),
        ({"y": np.array(["a"] * N)}, "bad_value", r"whole pixel numbers in 'y'"),
        ({"p": P + 1}, "bad_value", r"'p' as bool, \{0, 1\} or \{-1, 1\}, got 2 at event 0"),
        ({"t": T.astype(float)}, "no_time_unit", r"--time-unit s, ms, us or ns says it"),
        ({"t": T.astype(str)}, "bad_value", r"numbers as times in 't', got dtype <U"),
        ({"t": T[::-1]}, "backwards_time", r"got 50 us after 90 us at event 1"),
        ({"sensor_size": np.array([7, 0])}, "bad_header", r"sensor size .* got 7x0"),
        ({"sensor_size": np.array([7, 70_000])}, "bad_header", r"sensor size .* got 7x70000"),
    ],
)
def test_what_is_no_event_archive_is_refused_with_a_reason(
    path: Path, changed: dict[str, Any], reason: str, words: str
) -> None:
    write(path, **changed)

    with pytest.raises(FormatError, match=words) as caught:
        _ = eventkit.open(path).events

    assert caught.value.reason == reason
    assert caught.value.path == str(path)


@pytest.mark.parametrize(
    "keys",
    [
        {"width": np.array([7, 8]), "height": 5},
        {"width": np.nan, "height": 5},
        {"sensor_size": np.array(["seven", "five"])},
    ],
    ids=["two widths", "nan", "text"],
)
def test_a_geometry_that_is_none_is_refused(path: Path, keys: dict[str, Any]) -> None:
    write(path, **keys)

    with pytest.raises(FormatError, match="sensor size"):
        eventkit.open(path)


def test_skip_drops_a_negative_place_and_keeps_the_others(path: Path) -> None:
    write(path, x=np.array([0, -1, 70_000, 2, 3, 4]))

    recording = eventkit.open(path, sensor_size=(7, 5), on_error="skip")

    assert recording.events.x.tolist() == [0, 2, 3, 4]
    assert recording.ledger.dropped == {"outside": 2}


def test_float_seconds_can_be_read_when_the_unit_is_given(path: Path) -> None:
    write(path, t=T / 1e6)

    assert eventkit.open(path, time_unit="s").events == truth()


class Bomb:
    """Unpickling writes a file: the proof that somebody did."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("key", ["t", "sensor_size", "event_data"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_pickles_are_never_loaded(tmp_path: Path, path: Path, key: str, on_error: str) -> None:
    witness = tmp_path / "unpickled"
    write(path, **{key: np.array([Bomb(witness)] * N, object)})

    if on_error == "raise":
        with pytest.raises(FormatError, match="holds Python objects, which are never loaded"):
            _ = eventkit.open(path, on_error=on_error).events
    elif key == "sensor_size":
        recording = eventkit.open(path, on_error=on_error)
        assert recording.events == truth()
        assert "never loaded" in str(recording.side_faults[0]["message"])
    else:
        recording = eventkit.open(path, on_error=on_error)
        assert len(recording.events) == 0
        assert recording.ledger.faults[0]["reason"] == "corrupt"
    assert not witness.exists()


def test_a_bare_pickle_named_npz_is_not_loaded(path: Path, tmp_path: Path) -> None:
    witness = tmp_path / "unpickled"
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(witness)], object), allow_pickle=True)
    path.write_bytes(buffer.getvalue())

    with pytest.raises(FormatError, match="got first bytes"):
        eventkit.open(path)
    with pytest.raises(FormatError):
        eventkit.open(path, format="npz")
    assert not witness.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03", b"hello world", b"PK\x03\x04" + b"z" * 40])
def test_files_that_are_no_archive_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(FormatError, match=r"a\.npz: expected"):
        _ = eventkit.open(path).events


def test_an_archive_cut_anywhere_is_never_read_as_whole(path: Path) -> None:
    whole = write(path).read_bytes()

    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            _ = eventkit.open(path).events


@pytest.mark.parametrize("size", [None, (7, 5)])
def test_under_skip_a_cut_archive_holds_nothing_and_says_so(
    path: Path, size: tuple[int, int] | None
) -> None:
    whole = write(path).read_bytes()
    path.write_bytes(whole[:-100])

    recording = eventkit.open(path, on_error="skip", sensor_size=size)

    assert len(recording.events) == 0
    assert recording.ledger.faults[0]["reason"] == "truncated"


def test_under_skip_a_damaged_size_costs_no_event(path: Path) -> None:
    write(path, sensor_size=np.array([7, 5]))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("sensor_size.npy").header_offset
    data[at + 180] ^= 1
    path.write_bytes(data)

    recording = eventkit.open(path, on_error="skip")

    assert recording.events == truth()
    assert recording.sensor_size is None
    assert "CRC" in str(recording.side_faults[0]["message"])
    with pytest.raises(FormatError, match="CRC"):
        eventkit.open(path)


def test_flipped_bytes_end_in_a_format_error_or_in_columns(path: Path) -> None:
    np.savez_compressed(path, x=X, y=Y, t=T, p=P)
    whole = path.read_bytes()

    unexpected = set()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x81
        path.write_bytes(damaged)
        try:
            _ = eventkit.open(path).events
        except EventKitError:
            pass
        except Exception as err:
            unexpected.add(f"{type(err).__name__}: {err}")

    assert unexpected == set()


def test_a_header_that_claims_more_than_there_is_is_refused(path: Path) -> None:
    write(path)
    head = b"{'descr': '<i8', 'fortran_order': False, 'shape': (999999999999999,), }"
    member = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + head.ljust(117) + b"\n" + b"abc"
    with zipfile.ZipFile(path, "w") as archive:
        for name in "xytp":
            archive.writestr(f"{name}.npy", member)

    with pytest.raises(FormatError):
        _ = eventkit.open(path).events


def long_truth(n: int = 200_000) -> Events:
    rng = np.random.default_rng(3)
    return Events(
        x=rng.integers(0, 64, n),
        y=rng.integers(0, 48, n),
        t=np.cumsum(rng.integers(0, 9, n)),
        p=rng.integers(0, 2, n),
    )


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_members_are_read_in_step_and_entered_in_the_middle(
    path: Path, save: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventkit.readers.stream.INDEX_EVENTS", 1 << 12)
    whole = long_truth()
    save(path, x=whole.x, y=whole.y, t=whole.t, p=whole.p)
    recording = eventkit.open(path)

    assert Events.concatenate(recording.chunks(n=30_000)) == whole
    assert recording.load() == whole
    for start, stop in ((0, 100), (700_000, 700_100), (300_000, 300_100)):
        first, last = np.searchsorted(whole.t, [start, stop])
        assert recording.between(start, stop) == whole[int(first) : int(last)]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_wrong_checksum_is_noticed_and_nothing_of_it_kept(path: Path, on_error: Any) -> None:
    whole = long_truth()
    np.savez(path, x=whole.x, y=whole.y, t=whole.t, p=whole.p)
    data = bytearray(path.read_bytes())
    data[300_000] ^= 1  # inside x
    path.write_bytes(data)

    recording = eventkit.open(path, on_error=on_error)

    if on_error == "raise":
        with pytest.raises(FormatError, match="Bad CRC-32"):
            _ = recording.events
    else:
        assert len(recording.events) == 0
        assert "CRC" in recording.ledger.faults[0]["message"]


@pytest.mark.parametrize("name", ["a.zip", "a.dat", "a"])
def test_an_archive_of_events_is_known_without_its_suffix(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a.npz").rename(tmp_path / name)

    recording = eventkit.open(tmp_path / name)

    assert (recording.format, recording.evidence) == ("npz", "a zip archive of arrays x, y, t, p")
    assert recording.events == truth()


def test_a_table_is_read_in_an_order_that_is_given_or_told(path: Path) -> None:
    np.savez(path, np.stack([X, Y, T * 10_000, P], 1))

    assert eventkit.open(path).events.t.tolist() == (T * 10_000).tolist()
    assert "columns read as x,y,t,p" in eventkit.open(path).notes[0]
    np.savez(path, np.array([[5, 1, 2, 1], [6, 2, 3, 0]]))
    with pytest.raises(FormatError, match="--columns says it"):
        eventkit.open(path)
    assert eventkit.open(path, columns="txyp").events.t.tolist() == [5, 6]


def test_an_order_of_arrays_that_have_names_is_refused(path: Path) -> None:
    for arrays in ({"events": truth().to_structured()}, {"x": X, "y": Y, "t": T, "p": P}):
        np.savez(path, **arrays)
        with pytest.raises(SettingsError, match=r"expected no --columns for (fields|arrays) x, y"):
            eventkit.open(path, columns="txyp")


def test_seconds_are_told_by_evidence_and_said(path: Path) -> None:
    recording = eventkit.open(write(path, t=T / 1e6))

    assert recording.events == truth()
    assert "times read as s" in recording.notes[0]


def test_a_unit_told_by_evidence_and_a_missing_size_are_said(path: Path) -> None:
    write(path)

    assert eventkit.open(path).notes == [
        "times read as us: times are integers; --time-unit overrides",
        "no sensor size: places are not checked; --sensor-size WxH gives it",
    ]
    assert eventkit.open(path, sensor_size=(7, 5), time_unit="us").notes == []


def test_a_table_of_y_x_is_told_by_the_sensor(path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y, t = rng.integers(0, 346, 500), rng.integers(0, 260, 500), np.arange(500) * 1000
    np.savez(path, events=np.stack([y, x, t, x % 2], 1), sensor_size=np.array([346, 260]))

    recording = eventkit.open(path)

    assert recording.events == Events(x=x, y=y, t=t, p=x % 2)
    assert (
        "columns read as y,x,t,p, evidence on the first rows, y before x, as only"
        in (recording.notes[0])
    )


def test_a_member_that_unpacks_to_more_than_it_can_is_refused(path: Path) -> None:
    write(path)
    claim = 1 << 40
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({claim - 128},), }}".encode()
    member = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + head.ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "xytp":
            archive.writestr(f"{name}.npy", member)
    # The directory claims what the header does: as forged as it gets.
    with zipfile.ZipFile(path) as archive:
        small = archive.getinfo("x.npy").file_size
    data = path.read_bytes().replace(
        small.to_bytes(4, "little"), (claim - 1 & 0x7FFFFFFF).to_bytes(4, "little")
    )
    path.write_bytes(data)

    with pytest.raises(FormatError):
        _ = eventkit.open(path).events


@pytest.mark.parametrize(
    "keys",
    [
        {"width": np.zeros(1, [("a", "i4")]), "height": np.array(3)},
        {"width": np.array(1, "M8[us]"), "height": np.array(3, "m8[us]")},
        {"sensor_size": np.array([1 + 1j, 2])},
        {"sensor_size": np.array([np.nan, 2])},
        {"sensor_size": np.array(["3", "4"])},
    ],
)
def test_sizes_that_are_no_numbers_are_refused_or_noted(
    tmp_path: Path, keys: dict[str, np.ndarray]
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=[0, 1], y=[0, 1], t=[0, 1], p=[0, 1], **keys)

    with pytest.raises(FormatError, match="a sensor size"):
        eventkit.open(path)
    recording = eventkit.open(path, on_error="skip")
    assert len(recording.events) == 2
    assert [fault["reason"] for fault in recording.side_faults] == ["bad_header"]

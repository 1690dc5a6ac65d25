"""What `velora.load` returns gives a clip the logits that it has in the evaluation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from run_helpers import BINS, make_run, trained
from velora_helpers import TINY_RECIPE

import eventkit
import velora
from eventkit import Events
from eventkit.errors import MissingDataError, SettingsError
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, Recording
from eventkit.samples import decode_images
from eventkit.shards import ShardSet
from velora.build import build_model, choose_device
from velora.data import ClipDataset, ClipLoader
from velora.inference.model_clips import clip_settings
from velora.inference.predictor import BATCH_CLIPS, Predictor
from velora.scoring.prediction import Prediction
from velora.scoring.predictions import predict
from velora.training.checkpoint import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory)


@pytest.fixture(scope="module")
def model(run: Path) -> Predictor:
    return velora.load(run, device="cpu")


def evaluated(run: Path) -> dict[tuple[str, int], np.ndarray]:
    """Logits of the test clips as velora-eval computes them, by recording and clip."""
    settings, facts = RunFolder(run).read()
    device = torch.device("cpu")
    built, _ = build_model(settings, num_classes=len(facts.data.classes), device=device)
    RunFolder(run).load_weights(built)
    shards = ShardSet.open(run.parents[1] / "shards")
    data = ClipDataset(shards, "test", spec=facts.data, settings=settings.data)
    found = predict(built, ClipLoader(data, batch_size=3, num_threads=0), device=device)
    assert found.keys == [str(key) for key in data.keys]
    metas = [shards.sample("test", i).meta for i in range(len(data))]
    names = [(meta["recording"], meta["clip"]) for meta in metas]
    return dict(zip(names, found.logits.numpy(), strict=True))


def check_recordings(run: Path, model: Predictor, *, clips: int) -> None:
    """The clips of the raw test recordings have the logits of those in the shards."""
    expected = evaluated(run)
    raw = run.parents[1] / "raw"
    for (name, clip), logits in expected.items():
        found = list(model.predict_recording(raw / f"{name}.npz", rgb=raw / name))[clip]
        assert found.senses == ("rgb", "event")
        np.testing.assert_allclose(found.logits, logits, rtol=0, atol=1e-6)
    assert len(expected) == len(np.unique(np.stack(list(expected.values())), axis=0)) == clips


def test_a_recording_gets_the_logits_of_its_shard(run: Path, model: Predictor) -> None:
    check_recordings(run, model, clips=4)


def test_so_it_does_with_other_settings_of_convert_and_stored_differences(tmp_path: Path) -> None:
    run = make_run(
        tmp_path,
        convert=("--windows", "rgb", "--crop", "2,2,30,30", "--clip-us", "150000"),
        shard=("--with-diffs",),
        recipe=TINY_RECIPE + '[data]\ndiff = "stored"\nevent_input = "counts"\n',
    )
    settings = ShardSet.open(tmp_path / "shards").manifest["settings"]
    loaded = velora.load(run, device="cpu")
    made = clip_settings(settings, loaded.spec, stored_differences=True)

    check_recordings(run, replace(loaded, clips=made), clips=8)

    events = np.ones((BINS, 2, 30, 30), np.uint8)
    assert loaded.predict(events=events).senses == ("event",)


def test_arrays_get_the_logits_of_the_shard_they_come_from(run: Path, model: Predictor) -> None:
    expected = evaluated(run)
    shards = ShardSet.open(run.parents[1] / "shards")
    for i in range(2):
        sample = shards.sample("test", i)
        found = model.predict(rgb=decode_images(sample.rgb), events=sample.events)
        logits = expected[sample.meta["recording"], 0]
        np.testing.assert_allclose(found.logits, logits, rtol=0, atol=1e-6)


def test_the_sense_that_is_not_given_is_masked(model: Predictor) -> None:
    rng = np.random.default_rng(0)
    events = rng.integers(0, 2, (BINS, 2, 40, 40), dtype=np.uint8)
    black = np.zeros((1, 40, 40, 3), np.uint8)

    alone = model.predict(events=events)

    assert alone.senses == ("event",)
    assert model.predict(rgb=black).senses == ("rgb",)
    assert np.abs(alone.logits - model.predict(events=events, rgb=black).logits).max() > 1e-4
    still = np.repeat(black, BINS, axis=0)
    both = model.predict(events=events, rgb=still)
    np.testing.assert_allclose(
        both.logits, model.predict(events=events, rgb=black).logits, rtol=0, atol=1e-6
    )


def test_a_recording_without_rgb_is_cut_into_windows_and_says_what_was_seen(
    run: Path, model: Predictor, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    t = np.sort(rng.integers(0, 1_000_000, 4000))
    t = t[(t < 400_000) | (t >= 600_000)]  # nothing happens for two windows
    x, y, p = (rng.integers(0, high, len(t)) for high in (40, 30, 2))
    path = tmp_path / "long.npz"
    np.savez(path, t=t, x=x, y=y, p=p, sensor_size=(40, 30))

    found = list(model.predict_recording(path, window_us=100_000))

    assert [f.stop_us - f.start_us for f in found] == [100_000] * 10
    assert [f.senses for f in found] == [("event",)] * 4 + [()] * 2 + [("event",)] * 4
    assert np.isnan(found[4].logits).all()
    assert found[4].top() == []
    assert len({f.logits.tobytes() for f in found}) == 9
    # The same window alone: what it was computed with changes nothing.
    settings = replace(model.clips, clip_us=100_000)
    third = list(eventkit.clip_recording(eventkit.open(path), settings))[2]
    alone = model.predict(events=third.events)
    np.testing.assert_allclose(found[2].logits, alone.logits, rtol=0, atol=1e-5)
    assert len(list(model.predict_recording(path, whole=True))) == 1


def test_a_recording_much_longer_than_the_clips_of_training_is_cut_by_itself(
    model: Predictor, tmp_path: Path
) -> None:
    t = np.arange(0, 1_000_000, 500)
    spots = {name: np.zeros(len(t), np.int64) for name in "xyp"}
    np.savez(tmp_path / "a.npz", t=t, sensor_size=(40, 30), **spots)

    def windows(usual_us: int) -> list[int]:
        some = replace(model, usual_us=usual_us)
        return [p.stop_us - p.start_us for p in some.predict_recording(tmp_path / "a.npz")]

    assert windows(0) == [999_501]
    assert windows(500_000) == [999_501]
    assert windows(250_000) == [250_000] * 4
    cut = replace(model.clips, clip_us=200_000)
    as_in_training = replace(model, clips=cut, usual_us=100_000)
    assert len(list(as_in_training.predict_recording(tmp_path / "a.npz"))) == 5


def test_windows_are_predicted_while_the_recording_is_read(model: Predictor) -> None:
    read: list[int] = []

    def source(ledger: Ledger) -> Iterator[Chunk]:
        read.clear()
        for i in range(100):
            read.append(i)
            t = i * 10_000 + np.arange(100) * 100
            zeros = np.zeros(100, np.uint16)
            events = Events(x=zeros, y=zeros, t=t, p=zeros.astype(np.int8))
            ledger.decoded += len(events)
            yield Chunk(events)

    recording = Recording(Path("live"), "test", sensor_size=(8, 8), source=source)

    first = next(iter(model.predict_recording(recording, window_us=10_000)))

    assert (first.start_us, first.stop_us) == (0, 10_000)
    assert len(read) <= BATCH_CLIPS + 2


def test_other_settings_of_convert_change_what_is_seen(run: Path, model: Predictor) -> None:
    raw = run.parents[1] / "raw" / "test" / "lying"
    recording = {"recording": raw / "lying0.npz", "rgb": raw / "lying0"}
    (usual,) = model.predict_recording(**recording)
    cropped = replace(model, clips=replace(model.clips, crop=(0, 0, 20, 20)))
    turned = replace(model, reading={"flip_y": True})

    for other in (cropped, turned):
        (found,) = other.predict_recording(**recording)
        assert np.abs(found.logits - usual.logits).max() > 1e-4


def test_top_is_the_softmax_in_order() -> None:
    prediction = Prediction(
        classes=("a", "b", "c"),
        logits=np.log(np.array([0.2, 0.5, 0.3], np.float32)) + 3,
        senses=("rgb",),
    )

    top = prediction.top(2)

    assert [name for name, _ in top] == ["b", "c"]
    np.testing.assert_allclose([share for _, share in top], [0.5, 0.3], rtol=1e-6)


def counts(*shape: int, dtype: str = "u1") -> np.ndarray:
    return np.ones(shape or (BINS, 2, 8, 8), dtype)


NAN = np.where(np.arange(BINS * 128).reshape(BINS, 2, 8, 8) % 7 == 0, np.nan, 1.0)


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (counts(1, 2, 8, 8), r"expected events \(3, 2, H, W\) of counts:eventkit, got \(1, 2"),
        (counts(BINS, 8, 8), r"expected events \(3, 2, H, W\) .*, got \(3, 8, 8\)"),
        (counts(BINS, 1, 8, 8), r"expected events \(3, 2, H, W\) .*, got \(3, 1, 8, 8\)"),
        (counts(BINS, 8, 8, 2), r"expected events \(3, 2, H, W\) .*, got \(3, 8, 8, 2\)"),
        (counts(BINS, 2, 0, 8), r"expected events of at least one pixel, got \(3, 2, 0, 8\)"),
        (counts(BINS, 2, 8, 0), r"expected events of at least one pixel, got \(3, 2, 8, 0\)"),
        (counts().tolist(), "expected events as a NumPy array, got list"),
        (torch.ones(BINS, 2, 8, 8), "expected events as a NumPy array, got Tensor"),
        (counts().astype(object), "expected events of whole or floating-point .*, got object"),
        (counts().astype("c8"), "expected events of whole or floating-point .*, got complex64"),
        (counts().astype("U1"), "expected events of whole or floating-point .*, got <U1"),
        (
            counts().astype("i2") - 2,
            "expected numbers of events, 0 or more, got less in 384 of 384 values",
        ),
        (NAN, "expected finite events, got NaN or infinity in 55 of 384 values"),
        (np.full_like(NAN, np.inf), "expected finite events, got .* in 384 of 384"),
    ],
)  # fmt: skip
def test_events_that_are_none_are_refused_with_what_was_expected(
    model: Predictor, events: np.ndarray, reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        model.predict(events=events)


@pytest.mark.parametrize(
    ("rgb", "reason"),
    [
        (counts(2, 8, 8, 3), r"expected rgb \(3 or 1, H, W, 3 or 1\), got \(2, 8, 8, 3\)"),
        (counts(BINS, 3, 8, 8), r"expected rgb \(3 or 1, H, W, 3 or 1\), got \(3, 3, 8, 8\)"),
        (counts(8, 8, 3), r"expected rgb \(3 or 1, H, W, 3 or 1\), got \(8, 8, 3\)"),
        (counts(BINS, 0, 8, 3), r"expected rgb of at least one pixel, got \(3, 0, 8, 3\)"),
        (counts(BINS, 8, 8, 3, dtype="f4"), "expected rgb of uint8, 0 to 255, got float32"),
        (counts(1, 8, 8, 3).tolist(), "expected rgb as a NumPy array, got list"),
    ],
)
def test_pictures_that_are_none_are_refused_with_what_was_expected(
    model: Predictor, rgb: np.ndarray, reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        model.predict(rgb=rgb)


def test_nothing_at_all_is_refused(model: Predictor) -> None:
    with pytest.raises(SettingsError, match="has no RGB or events, which is all"):
        model.predict()


@pytest.mark.parametrize("dtype", ["bool", "i8", "u2", "f2", "f8", ">u2", ">i8"])
def test_the_type_of_counts_makes_no_difference(model: Predictor, dtype: str) -> None:
    events = np.random.default_rng(0).integers(0, 2, (BINS, 2, 20, 20), dtype=np.uint8)

    found = model.predict(events=events.astype(dtype))

    np.testing.assert_array_equal(found.logits, model.predict(events=events).logits)


def test_arrays_may_be_views_of_others(model: Predictor) -> None:
    events = np.random.default_rng(0).integers(0, 2, (BINS, 2, 20, 20), dtype=np.uint8)
    rgb = np.random.default_rng(0).integers(0, 256, (BINS, 20, 20, 3), dtype=np.uint8)
    turned = {"events": events[:, ::-1, :, ::-1], "rgb": rgb[:, ::-1, ::2, ::-1]}
    copied = {name: array.copy() for name, array in turned.items()}

    found = model.predict(**turned)

    np.testing.assert_array_equal(found.logits, model.predict(**copied).logits)


@pytest.mark.parametrize("device", ["banana", "", "mps", "meta", "cpu:0:1", "cuda:x", "CPU", 3])
def test_a_device_that_is_none_is_refused_with_those_there_are(run: Path, device: object) -> None:
    with pytest.raises(SettingsError, match=r"expected a device among auto, cpu, cuda.*, got "):
        velora.load(run, device=device)  # type: ignore[arg-type]


def test_a_gpu_that_is_not_there_is_refused() -> None:
    missing = f"cuda:{torch.cuda.device_count()}"

    with pytest.raises(SettingsError, match="CUDA device"):
        choose_device(missing)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="not a run folder"):
        velora.load(tmp_path)


def test_importing_velora_does_not_import_torch() -> None:
    code = "import sys, velora; print('load' in velora.__all__, 'torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["True", "False"]


def test_the_example_of_the_docs_runs(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "inference.md"
    code = page.read_text().split("```py\n")[1].split("```")[0]
    recording = run.parents[1] / "raw" / "test" / "lying" / "lying0.npz"
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(run)
    monkeypatch.chdir(tmp_path)

    exec(code.replace("walk.aedat4", str(recording)), {})

    assert "('event',)" in capsys.readouterr().out

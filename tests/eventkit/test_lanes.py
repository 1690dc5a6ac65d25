"""One order of samples for any number of ranks, equal steps on each, resumed from one integer."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.errors import SettingsError
from eventkit.lanes import Lanes, lane_order

SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=40)


def lanes_of(sizes: list[int], **options: object) -> Lanes:
    settings = {"global_batch_size": 8, "seed": 3, **options}
    return Lanes(shard_sizes=np.array(sizes, np.int64), **settings)  # type: ignore[arg-type]


def global_batches(
    lanes: Lanes, world_size: int, *, epoch: int = 0, samples_consumed: int = 0
) -> list[list[int]]:
    """Put the global batches together from what each rank would read."""
    parts = [
        lanes.batches(epoch, rank=r, world_size=world_size, samples_consumed=samples_consumed)[0]
        for r in range(world_size)
    ]
    assert len({part.shape for part in parts}) == 1
    return np.stack(parts, axis=2).reshape(parts[0].shape[0], lanes.global_batch_size).tolist()


@given(SIZES, st.integers(0, 2**64 - 1), st.integers(0, 1000), st.integers(1, 70))
def test_an_epoch_visits_every_sample_once(
    sizes: list[int], seed: int, epoch: int, num_lanes: int
) -> None:
    order = lane_order(np.array(sizes), seed=seed, epoch=epoch, num_lanes=num_lanes)

    assert sorted(order.tolist()) == list(range(sum(sizes)))


@given(SIZES, st.integers(1, 70))
def test_without_a_seed_the_lanes_are_the_shards_as_they_stand(
    sizes: list[int], num_lanes: int
) -> None:
    order = lane_order(np.array(sizes), seed=None, epoch=7, num_lanes=num_lanes)

    cuts = np.array_split(np.arange(sum(sizes)), num_lanes)
    rows = range(max(cut.size for cut in cuts))
    expected = [int(cut[row]) for row in rows for cut in cuts if row < cut.size]
    assert order.tolist() == expected
    assert lane_order(np.array([5]), seed=None, epoch=0, num_lanes=1).tolist() == [0, 1, 2, 3, 4]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    sizes = np.full(20, 10)
    orders = {
        tuple(lane_order(sizes, seed=seed, epoch=epoch, num_lanes=64))
        for seed in (0, 1)
        for epoch in (1, 2)
    }

    assert len(orders) == 4


def test_the_order_is_the_one_that_states_were_written_with() -> None:
    order = lane_order(np.arange(1, 40), seed=7, epoch=2, num_lanes=64)

    digest = hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "dd1ed2f1b99f9632"


@given(SIZES, st.sampled_from([8, 12, 24]), st.sampled_from(["drop", "pad"]))
def test_every_world_size_has_the_same_global_batches_and_equal_steps(
    sizes: list[int], size: int, tail: str
) -> None:
    if tail == "drop" and sum(sizes) < size:
        return
    lanes = lanes_of(sizes, global_batch_size=size, tail=tail)

    expected = global_batches(lanes, 1)

    assert len(expected) == lanes.steps
    for world_size in (r for r in (2, 3, 4, 6, 8, 12, 24) if size % r == 0):
        assert global_batches(lanes, world_size) == expected


@given(SIZES, st.integers(1, 9))
def test_at_most_one_batch_less_one_is_left_out(sizes: list[int], size: int) -> None:
    if sum(sizes) < size:
        return
    seen = [
        i for batch in global_batches(lanes_of(sizes, global_batch_size=size), 1) for i in batch
    ]

    assert len(seen) == len(set(seen))
    assert 0 <= sum(sizes) - len(seen) < size


def test_what_is_left_out_differs_from_epoch_to_epoch() -> None:
    for sizes in ([20], [6, 7, 7], [3] * 40):
        lanes = lanes_of(sizes, global_batch_size=7)
        seen = [set(lanes.batches(epoch)[0].ravel().tolist()) for epoch in range(40)]
        assert set.union(*seen) == set(range(sum(sizes)))


@given(SIZES, st.integers(1, 9), st.sampled_from([1, 2, 4]))
def test_evaluation_sees_every_sample_once_and_pads_to_equal_steps(
    sizes: list[int], per_rank: int, world_size: int
) -> None:
    lanes = lanes_of(sizes, global_batch_size=per_rank * world_size, seed=None, tail="pad")
    parts = [lanes.batches(0, rank=r, world_size=world_size) for r in range(world_size)]

    seen = np.concatenate([rows[valid] for rows, valid in parts])

    assert sorted(seen.tolist()) == list(range(sum(sizes)))
    assert {rows.shape for rows, _ in parts} == {(lanes.steps, per_rank)}
    for rows, valid in parts:
        assert valid[:-1].all()
        assert ((rows >= 0) & (rows < max(1, sum(sizes)))).all()


@given(SIZES, st.data())
def test_a_resumed_epoch_is_the_tail_of_the_whole_one_on_any_number_of_ranks(
    sizes: list[int], data: st.DataObject
) -> None:
    if sum(sizes) < 8:
        return
    lanes = lanes_of(sizes)
    expected = global_batches(lanes, 4, epoch=5)
    step = data.draw(st.integers(0, lanes.steps))

    state = json.loads(json.dumps(lanes.state(5, step * 8)))
    epoch, consumed = lanes_of(sizes).resume(state)

    for world_size in (4, 2, 1, 8):
        if step == lanes.steps:
            assert (epoch, consumed) == (6, 0)
        else:
            rest = global_batches(lanes, world_size, epoch=epoch, samples_consumed=consumed)
            assert rest == expected[step:]


def test_a_state_is_small_and_says_what_it_belongs_to() -> None:
    lanes = lanes_of([100], manifest_sha256="abc")

    assert lanes.state(2, 16) == {
        "manifest_sha256": "abc",
        "order": "lane-philox-v1",
        "seed": 3,
        "epoch": 2,
        "samples_consumed": 16,
        "L": 64,
        "G": 8,
    }


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"manifest_sha256": "other"}, "manifest_sha256 ('abc' there, 'other' here)"),
        ({"seed": 4}, "seed (3 there, 4 here)"),
        ({"num_lanes": 32}, "L (64 there, 32 here)"),
        ({"global_batch_size": 10}, "G (8 there, 10 here)"),
    ],
)
def test_the_state_of_another_set_or_order_is_refused(
    change: dict[str, object], named: str
) -> None:
    state = lanes_of([100], manifest_sha256="abc").state(1, 0)
    other = lanes_of([100], **{"manifest_sha256": "abc", **change})

    with pytest.raises(SettingsError, match="expected the state of this order") as caught:
        other.resume(state)

    assert named in str(caught.value)


def test_a_state_without_its_parts_is_refused() -> None:
    with pytest.raises(SettingsError, match="G \\(None there, 8 here\\)"):
        lanes_of([100]).resume({})


@pytest.mark.parametrize("consumed", [-8, 3, 104])
def test_a_count_that_no_step_ends_at_is_refused(consumed: int) -> None:
    with pytest.raises(SettingsError, match=f"multiple of 8 up to 96, got {consumed}"):
        lanes_of([100]).batches(0, samples_consumed=consumed)


def test_too_few_samples_for_one_batch_say_what_to_do() -> None:
    with pytest.raises(SettingsError, match="at least 8 samples, one global batch, got 7; choose"):
        lanes_of([3, 4])

    rows, valid = lanes_of([3, 4], tail="pad").batches(0)
    assert sorted(rows[valid].tolist()) == list(range(7))


@pytest.mark.parametrize(("world_size", "fitting"), [(3, "1, 2"), (16, "1, 2, 4, 8")])
def test_a_world_size_that_does_not_divide_the_batch_is_refused_with_those_that_do(
    world_size: int, fitting: str
) -> None:
    said = f"divides the global batch of 8, got {world_size} processes: take {fitting}, or"
    with pytest.raises(SettingsError, match=said):
        lanes_of([100]).batches(0, rank=0, world_size=world_size)


@pytest.mark.parametrize(("rank", "world_size"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_beyond_the_world_is_refused(rank: int, world_size: int) -> None:
    with pytest.raises(SettingsError, match=f"below the world size of {world_size}, got {rank}"):
        lanes_of([100]).batches(0, rank=rank, world_size=world_size)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"seed": -1}, "seed of 0"), ({"seed": 2**64}, "seed of 0"), ({"num_lanes": -1}, "lanes")],
)
def test_settings_out_of_range_are_refused(options: dict[str, int], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        lanes_of([100], **options)


def test_a_rank_touches_its_share_of_the_shards() -> None:
    sizes = np.random.default_rng(0).integers(80, 120, 1003)
    shard_of = np.repeat(np.arange(sizes.size), sizes)
    lanes = Lanes(shard_sizes=sizes, global_batch_size=192, seed=1)

    for world_size, most in ((1, 1003), (4, 270), (16, 70), (64, 18)):
        rows, _ = lanes.batches(0, rank=world_size - 1, world_size=world_size)
        assert np.unique(shard_of[rows]).size <= most
    # 3 does not divide 64 lanes: the batches are those of any other number, the share is lost.
    rows, _ = lanes.batches(0, rank=0, world_size=3)
    assert np.unique(shard_of[rows]).size > 900


def test_samples_of_a_window_are_mixed_and_a_lane_reads_eight_shards_at_a_time() -> None:
    sizes = np.full(320, 50)
    order = lane_order(sizes, seed=0, epoch=0, num_lanes=2)

    lane = order[0::2] // 50  # the shards that lane 0 reads, in order
    window = 8 * 50

    for first in range(0, lane.size, window):
        part = lane[first : first + window]
        assert np.unique(part).size == 8
        # Mixed, not one after the other: neighbours are mostly of different shards.
        assert np.mean(part[1:] != part[:-1]) > 0.7


def test_few_shards_are_mixed_as_a_whole() -> None:
    order = lane_order(np.array([500, 500]), seed=0, epoch=0, num_lanes=64)

    places = np.argsort(order)
    correlation = np.corrcoef(np.arange(1000), places)[0, 1]

    # Of random permutations 0.03 is the standard error.
    assert abs(correlation) < 0.13

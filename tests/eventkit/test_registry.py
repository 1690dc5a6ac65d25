"""Names: every representation can be made, written as a spec and read back."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import numpy as np
import pytest

from eventkit.errors import SettingsError
from eventkit.representations import Representation, make, names, parse, registry, spec_of
from eventkit.representations.counts import Counts


@pytest.mark.parametrize("name", names())
def test_every_name_is_its_class_s_own_and_its_spec_reads_back(name: str) -> None:
    made = make(name)

    assert made.name == name
    assert parse(spec_of(made)) == made
    assert make(name, **made.settings) == made
    channels, height, width = made.frame_shape((7, 5))
    assert min(channels, height, width) >= 1
    assert isinstance(made.frame_dtype, np.dtype)
    assert made.mass in ("counts", "signs", "none")


@pytest.mark.parametrize("name", names())
def test_every_setting_has_a_default_of_a_plain_type(name: str) -> None:
    for key, value in make(name).settings.items():
        assert isinstance(value, bool | int | float | str), key


def test_names_are_families_and_conventions_and_none_is_twice() -> None:
    assert len(set(names())) == len(names())
    assert all(name.count(":") == 1 for name in names())


def test_a_spec_sets_what_it_names_and_the_defaults_of_the_caller_fill_in() -> None:
    assert parse("voxel:cube, bins=3,polarity=split").settings == {
        "bins": 3,
        "normalize": "none",
        "edges": "drop",
        "polarity": "split",
    }
    assert parse("voxel:zhu", bins=7, dtype="u1").settings["bins"] == 7
    assert parse("voxel:zhu,bins=2", bins=7).settings["bins"] == 2


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("voxel:none", "among voxel:zhu, voxel:zhu-spatial, voxel:tonic, voxel:cube, got"),
        ("nothing", "expected a representation among counts:eventkit"),
        ("", "expected a representation among"),
        ("voxel:zhu,bins", "expected setting=value"),
        ("voxel:zhu,colour=red", r"a setting of voxel:zhu \(bins, normalize\), got 'colour=red'"),
        ("voxel:zhu,bins=many", "expected bins of voxel:zhu as int, got 'many'"),
        ("voxel:zhu,bins=0", "bins, got 0"),
        ("counts:eventkit,dtype=i2", "dtype among"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(spec: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse(spec)


def test_an_unknown_setting_is_refused_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match="no setting 'colour'; its settings are dtype"):
        make("counts:eventkit", colour="red")


@dataclass(frozen=True, kw_only=True)
class Doubled(Counts):
    """A representation of another package."""

    name: ClassVar[str] = "counts:doubled"


def points(found: list[EntryPoint]) -> Any:
    def entry_points(**select: str) -> tuple[EntryPoint, ...]:
        return tuple(p for p in found if all(getattr(p, k) == v for k, v in select.items()))

    return entry_points


def test_a_class_of_another_package_goes_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("counts:doubled", f"{__name__}:Doubled", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", points([point]))

    assert names()[-1] == "counts:doubled"
    assert isinstance(make("counts:doubled", dtype="u1"), Representation)
    assert spec_of(parse("counts:doubled,dtype=u4")) == "counts:doubled,dtype=u4"


def test_an_entry_point_that_is_no_representation_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = EntryPoint("counts:wrong", f"{__name__}:points", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", points([point]))

    with pytest.raises(SettingsError, match="a Representation class behind 'counts:wrong'"):
        make("counts:wrong")


def test_our_names_cannot_be_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("counts:eventkit", f"{__name__}:Doubled", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", points([point]))

    assert type(make("counts:eventkit")) is Counts
    assert names().count("counts:eventkit") == 1


def test_names_are_listed_without_loading_numba() -> None:
    code = "import sys, eventkit.representations as r; r.names(); print('numba' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"

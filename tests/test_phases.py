"""The phases a run is made of."""

import pytest

from keras_bench.config import Config
from keras_bench.phases import PHASES, as_phase, phases_until


def test_every_phase_has_a_section_of_settings():
    config = Config(name="made")
    assert PHASES == ("scratch", "tl", "ft")
    assert [config.phase(phase).epochs > 0 for phase in PHASES] == [True, True, True]


def test_fine_tuning_continues_transfer_learning_and_nothing_else_continues():
    assert {last: phases_until(last) for last in PHASES} == {
        "scratch": ("scratch",), "tl": ("tl",), "ft": ("tl", "ft"),
    }  # fmt: skip


@pytest.mark.parametrize("value", ["TL", "ensemble", "", None, 3, ["tl"]])
def test_what_names_no_phase_is_refused(value):
    with pytest.raises(ValueError, match="expected one of scratch, tl, ft, received"):
        as_phase(value)

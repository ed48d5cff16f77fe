"""history.csv: cut back without a digit changed, and its best epoch."""

import pytest

from keras_bench.runs.history import append_history, best_row, drop_later_epochs, read_history


def test_what_a_crash_cut_short_goes_with_the_later_epochs_and_no_digit_of_the_others_changes(tmp_path):
    path = tmp_path / "history.csv"
    path.write_bytes(b"epoch,seconds,loss\r\n1,2.500,0.100000001\r\n2,1.000,\r\n3,1.0,1\r\n1")  # of epoch 10, say
    drop_later_epochs(path, 2)
    assert path.read_bytes() == b"epoch,seconds,loss\n1,2.500,0.100000001\n2,1.000,\n"
    before = path.stat().st_ino
    drop_later_epochs(path, 2)
    assert path.stat().st_ino == before  # not written again for nothing


@pytest.mark.parametrize(("mode", "best"), [("max", 2), ("min", 1)])
def test_of_equal_epochs_the_first_is_the_best(tmp_path, mode, best):
    path = tmp_path / "history.csv"
    for epoch, value in enumerate((0.25, 0.5, 0.25, 0.5), start=1):
        append_history(path, {"epoch": epoch, "val_top1": value})
    assert best_row(read_history(path), "val_top1", mode)["epoch"] == best

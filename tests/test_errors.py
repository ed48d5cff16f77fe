"""What an error says, as one line."""

from keras_bench.errors import one_line


def test_lines_tabs_and_runs_of_spaces_become_single_spaces() -> None:
    assert one_line(ValueError("  first line\n\tsecond   line \n")) == "first line second line"


def test_text_is_cut_after_it_was_squeezed() -> None:
    assert one_line("ab\n\n\n  cd ef", limit=5) == "ab cd"
    assert one_line(OSError("x" * 300)) == "x" * 200
    assert one_line(OSError("x" * 300), limit=None) == "x" * 300


def test_an_exception_without_text_is_named_by_its_class() -> None:
    assert one_line(MemoryError()) == "MemoryError"
    assert one_line(" \n ") == ""

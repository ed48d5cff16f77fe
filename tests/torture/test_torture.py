"""Forty kills spread over stages and networks, a round of each kind, and proof that a lost random state is noticed."""

import json
import re
import subprocess
import sys

import pytest

from tests.torture.attempts import Site


def torture(folder, *options):
    command = [sys.executable, "-m", "tests.torture", "--folder", str(folder), *options]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_forty_kills_and_pairs_of_processes_lose_nothing(tmp_path):
    done = torture(tmp_path, "--kills", "40", "--rounds", "3", "--seed", "1")
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"^(\d+) kills in", done.stdout, re.MULTILINE)[1]) >= 40
    assert re.search(r"^0 of \d+ killed runs and 0 of 3 rounds with mismatches$", done.stdout, re.MULTILINE)


def test_a_command_that_speaks_of_damage_after_a_kill_is_blamed(tmp_path):
    site = Site(tmp_path, tmp_path)
    said = ["resuming tl after epoch 2", "warning: runs/a/tl/model.keras is damaged; it is made again", "next: predict"]
    (tmp_path / "output.txt").write_text("\n".join(said))
    site.blame_for_damage()
    assert site.faults == [f"a kill is no damage: {said[1]}"]


@pytest.mark.slow
def test_the_comparison_notices_a_lost_random_state(tmp_path):
    """Killed once the second epoch of a phase has been saved; without their states, dropout draws other numbers."""
    names = ("streamed ft", "cached tl", "scratch, auxiliary")
    chains = [{"subject": name, "kills": [["after", "removal of older state", ""]]} for name in names]
    options = [option for chain in chains for option in ("--chain", json.dumps(chain))]
    done = torture(tmp_path, *options, "--rounds", "0", "--forget-seeds")
    assert done.returncode == 1
    assert len(re.findall(r"history\.csv: \d+ differ", done.stdout)) == 3, done.stdout
    assert "3 of 3 killed runs" in done.stdout

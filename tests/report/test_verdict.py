"""The verdict in words for made-up models with a known outcome, and verdicts on explanation methods."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from keras_bench.audit.selection import most_shared
from keras_bench.config.decision import DecisionMetric
from keras_bench.evaluation.records import Interval, PairedTest
from keras_bench.evaluation.words import oriented, use_of_test_sentence
from keras_bench.explain.judge import judge_methods
from keras_bench.explain.records import ExplanationChecks, MethodScores
from keras_bench.report.verdict import verdict_lines


def model(label, multiply_adds=None, chosen_by=DecisionMetric.TOP1):
    metrics = {"test": SimpleNamespace(images=2000)}
    final = SimpleNamespace(
        test={"top1": Interval(0.8, 0.78, 0.82), "balanced_accuracy": Interval(0.6, 0.5, 0.7)},
        val_score=Interval(0.81, 0.79, 0.83),
        result=SimpleNamespace(metrics=metrics),
    )
    cost = SimpleNamespace(multiply_adds=multiply_adds) if multiply_adds else None
    return SimpleNamespace(name=label, label=label, final=final, final_phase="ft", chosen_by=chosen_by, cost=cost)


def paired(first, second, gap, p):
    more, fewer = (60, 20) if gap > 0 else (20, 60)
    return PairedTest(first, second, more, fewer, Interval(gap, gap - 0.02, gap + 0.02), p, p)


def test_worse_tied_and_cheaper():
    runs = [model("A", 400), model("B", 100), model("C", 50)]
    pairs = [paired("A", "B", 0.01, 0.3), paired("C", "A", -0.06, 0.0001), paired("B", "C", 0.05, 0.01)]
    lines = verdict_lines(runs, pairs, [paired("A", "B", 0.01, 0.4), paired("A", "C", 0.05, 0.01)])
    assert lines[0].startswith("Best: A (ft), chosen on val with top-1 81.0 % (79.0 to 83.0). On 2,000 test images")
    assert lines[1] == (
        "B: tied. Its test top-1 is 1.0 points lower (95 % interval of the difference -3.0 to +1.0 points; p = 0.300)."
    )
    assert lines[2].startswith("C: worse than the best. Its test top-1 is 6.0 points lower")
    assert lines[2].endswith("p < 0.001).")
    assert lines[3] == "What the choice on val is worth: test confirms it against 1 of 2 other models."
    assert (
        lines[4]
        == "Cheaper: val shows no difference between A and B, which needs 4.0 times fewer multiply-adds per image."
    )


def test_a_choice_that_test_does_not_confirm_is_priced():
    lines = verdict_lines([model("A"), model("B")], [paired("A", "B", -0.05, 0.001)], [paired("A", "B", 0.01, 0.9)])
    assert lines[1].startswith("B: better than the best on test. Its test top-1 is 5.0 points higher")
    assert lines[2].endswith("B turned out better on test; choosing A costs 5.0 points there.")
    assert len(lines) == 3  # without costs nothing is called cheaper


def test_a_single_model_gets_only_its_description():
    assert len(verdict_lines([model("A", 1)], [], [])) == 1


def test_a_difference_without_an_interval_is_reported_as_such():
    winner, other = model("A"), model("B")
    winner.final.test["top1"] = Interval(1.0)
    same = PairedTest("A", "B", 0, 0, Interval(0.0), 1.0, 1.0)
    lines = verdict_lines([winner, other], [same], [])
    assert lines[0].endswith("its top-1 is 100.0 % (interval not defined).")
    assert lines[1] == (
        "B: tied. Its test top-1 is 0.0 points lower (interval of the difference not defined; p = 1.000)."
    )


def test_no_decision_has_used_the_test_images_unless_val_shares_some():
    assert (
        "On 2,000 test images that no decision has used, its top-1 is 80.0 %" in verdict_lines([model("A")], [], [])[0]
    )
    line = verdict_lines([model("A")], [], [], shared=1300)[0]
    shared = "share 1,300 images with val (exact duplicates, near-duplicates or look-alikes)"
    assert f"On 2,000 test images that {shared}, its top-1 is 80.0 %" in line


def test_it_is_reported_when_sharing_with_val_is_unknown():
    line = verdict_lines([model("A")], [], [], shared=None)[0]
    assert "On 2,000 test images (it is unknown whether decisions used some of them), its top-1 is 80.0 %" in line
    assert use_of_test_sentence(None) == "It is unknown whether decisions used some of the test images."
    assert use_of_test_sentence(0) == "No decision used test."


def test_several_runs_share_as_many_images_as_the_largest_count_unless_one_is_unknown():
    assert (most_shared([0, 7, 3]), most_shared([0, 0]), most_shared([7, None, 0])) == (7, 0, None)


def test_different_val_images_are_reported_in_one_line():
    runs = [model("A"), model("B")]
    same = verdict_lines(runs, [], [])
    different = verdict_lines(runs, [], [], different_val=True)
    assert [line for line in different if line not in same] == [
        "The runs do not all have the same val images: the ranking compares averages over different images, and models "
        "with different val images are not compared on val."
    ]


def test_reversing_a_pair_negates_its_interval():
    reversed_pair = oriented(PairedTest("a", "b", 5, 9, Interval(-0.1, -0.3, 0.05), 0.2, 0.4), "b")
    assert reversed_pair.first == "b"
    assert reversed_pair.only_first == 9
    assert reversed_pair.difference == Interval(0.1, -0.05, 0.3)


def checks(insertion, similarity, boxes=True):
    images = 40
    wave = np.linspace(-0.05, 0.05, images)
    box = tuple([0.3 if boxes else None] * images)
    method = MethodScores(
        deletion=tuple(0.4 + wave),
        insertion=tuple(insertion + 1.1 * wave),
        pointing=tuple([1.0] * 30 + [0.0] * 10) if boxes else (None,) * images,
        mass_in_box=tuple([0.6] * images) if boxes else (None,) * images,
        similarity_head=tuple([*(similarity + wave[:10]), *[None] * 30]),
        similarity_backbone=tuple([*wave[:10], *[None] * 30]),
    )
    nothing = (None,) * images
    random = MethodScores(tuple([0.5] * images), tuple([0.5] * images), nothing, nothing, nothing, nothing)
    correct = tuple([True] * 20 + [False] * 20)
    ids = tuple(map(str, range(images)))
    return ExplanationChecks("ft", "layer", {}, ids, correct, box, {"gradcam": method, "random": random})


def test_a_method_is_judged_against_random_maps_boxes_and_random_weights():
    (good,) = judge_methods(checks(insertion=0.7, similarity=0.1))
    assert good.gain.value == pytest.approx(0.3)
    assert (good.beats_random, good.changes_with_head, good.changes_with_backbone) == (True, True, True)
    assert good.hits.value == 1.0  # correct predictions only: the first 20, all of which hit
    assert good.box_share == pytest.approx(0.3)
    # Wilson by hand, z = 1.96: the lower end of n of n is n / (n + z²).
    assert good.hits.ends == (pytest.approx(20 / (20 + 1.959964**2), abs=1e-6), 1.0)
    assert good.hits_above_chance == Interval(pytest.approx(0.7))  # 0.7 for every image: no interval


def test_without_a_defined_interval_nothing_counts_as_shown():
    usual = checks(insertion=0.7, similarity=0.1)
    method = usual.scores["gradcam"]
    same = replace(method, deletion=(0.4,) * 40, insertion=(0.7,) * 40, similarity_head=(0.0,) * 10 + (None,) * 30)
    (flat,) = judge_methods(replace(usual, scores={**usual.scores, "gradcam": same}))
    assert (flat.gain.value, flat.gain.ends) == (pytest.approx(0.3), None)
    assert (flat.beats_random, flat.changes_with_head, flat.changes_with_backbone) == (False, None, True)


def test_a_useless_method_is_identified():
    (bad,) = judge_methods(checks(insertion=0.4, similarity=0.95, boxes=False))
    assert (bad.beats_random, bad.changes_with_head, bad.changes_with_backbone) == (False, False, True)
    assert (bad.hits, bad.mass, bad.box_share) == (None, None, None)

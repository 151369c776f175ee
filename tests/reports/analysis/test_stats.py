"""Statistics against cases worked out by hand, and against simulations in which the truth is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import studentized_range
from scipy.stats import t as student

from reports.analysis import stats


def test_seed_summary_is_mean_and_sample_deviation():
    assert stats.seed_summary([0.5, 0.6, 0.7]) == (pytest.approx(0.6), pytest.approx(0.1))
    assert stats.seed_summary([0.5]) == (0.5, None)


def test_standard_error_of_a_mean_by_hand():
    # 3 right of 4: sample variance 0.25, divided by 4, root
    assert stats.standard_error(np.array([1.0, 1, 1, 0])) == pytest.approx(0.25)
    assert stats.standard_error(np.array([1.0])) is None


def test_macro_standard_error_adds_squares_and_divides_by_tasks():
    assert stats.macro_standard_error([0.03, 0.04]) == pytest.approx(0.025)
    assert stats.macro_standard_error([0.03, None]) is None
    assert stats.macro_standard_error([]) is None


def test_mcnemar_is_a_coin_over_discordant_documents():
    # 1 worse, 5 better of 6 discordant: 2 * (1 + 6) / 2^6
    differences = np.array([1.0] * 5 + [-1.0] + [0.0] * 50)
    assert stats.mcnemar(differences) == pytest.approx(14 / 64)
    assert stats.mcnemar(np.zeros(9)) == 1.0
    assert stats.mcnemar(np.array([0.5, -0.5, 0.0])) == 1.0


def test_holm_by_hand_and_none_stays_none():
    adjusted = stats.holm({"a": 0.01, "b": 0.04, "c": None, "d": 0.03})
    assert adjusted["a"] == pytest.approx(0.03)
    assert adjusted["d"] == pytest.approx(0.06)
    assert adjusted["b"] == pytest.approx(0.06)
    assert adjusted["c"] is None
    assert stats.holm({}) == {} and stats.holm({"a": None}) == {"a": None}


def test_bootstrap_value_and_error_are_the_closed_form():
    rng = np.random.default_rng(1)
    tasks = [rng.choice([-1.0, 0, 1], size=n, p=[0.1, 0.7, 0.2]) for n in (40, 80)]
    found = stats.paired_bootstrap(tasks, resamples=20_000)
    stderr = 0.5 * math.sqrt(sum(np.var(t, ddof=1) / len(t) for t in tasks))
    assert found.value == pytest.approx(np.mean([t.mean() for t in tasks]))
    assert found.stderr == pytest.approx(stderr)
    assert found.high - found.low == pytest.approx(2 * 1.96 * stderr, rel=0.06)
    assert found == stats.paired_bootstrap(tasks, resamples=20_000)  # seeded


def test_bootstrap_of_no_difference_has_p_one_and_of_one_document_none():
    same = stats.paired_bootstrap([np.zeros(10)])
    assert (same.value, same.p, same.low, same.high) == (0.0, 1.0, 0.0, 0.0)
    single = stats.paired_bootstrap([np.zeros(10), np.array([1.0])])
    assert single.value == 0.5 and single.p is None and single.low is None


def _simulated(seed: int, shift: float, comparisons: int, tasks: int = 4, documents: int = 60) -> float:
    """Share of comparisons that the 5% test rejects, when the method is better by `shift`."""
    rng = np.random.default_rng(seed)
    chances = [0.1 - shift / 2, 0.8, 0.1 + shift / 2]
    draws = rng.choice([-1.0, 0.0, 1.0], size=(comparisons, tasks, documents), p=chances)
    return float(
        np.mean([stats.paired_bootstrap(list(d), resamples=1000, seed=i).p < 0.05 for i, d in enumerate(draws)])
    )


def test_five_percent_test_rejects_a_true_null_in_three_to_seven_percent_of_1000():
    assert 0.03 <= _simulated(0, 0.0, 1000) <= 0.07


def test_power_found_by_simulation_is_the_power_that_is_printed():
    shift = 0.08
    stderr = math.sqrt((0.2 - shift**2) / 240)
    promised = stats.power_of(shift, stderr)
    assert 0.7 < promised < 0.9
    assert _simulated(1, shift, 600) == pytest.approx(promised, abs=0.05)
    needed = stats.minimum_detectable(stderr)
    assert stats.power_of(needed, stderr) == pytest.approx(0.8, abs=1e-3)


def test_the_printed_number_of_documents_gives_the_printed_power():
    shift, tasks = 0.08, 4
    documents = stats.documents_needed(shift, 0.2)  # of which _simulated's outcomes have as many in discord
    assert _simulated(2, shift, 1000, tasks, round(documents / tasks)) == pytest.approx(stats.POWER, abs=0.04)


def test_mcnemar_never_rejects_a_true_null_too_often():
    rng = np.random.default_rng(3)
    draws = rng.choice([-1.0, 0.0, 1.0], size=(1000, 100), p=[0.1, 0.8, 0.1])
    assert np.mean([stats.mcnemar(d) < 0.05 for d in draws]) <= 0.06


def _outcomes(rng: np.random.Generator, methods: int, tasks: int = 4, documents: int = 40) -> list[np.ndarray]:
    """Equally good methods whose answers hang on the document: one (methods, documents) a task."""
    chances = rng.beta(1, 1, size=(tasks, documents))
    return [(rng.random((methods, documents)) < task).astype(float) for task in chances]


def _every_pair(methods: int) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(methods), 2))


def test_max_t_of_independent_equal_methods_is_tukeys_range_test():
    rng = np.random.default_rng(4)
    outcomes = [rng.standard_normal((6, 4000))]
    pairs = _every_pair(6)
    for (one, other), p in zip(pairs, stats.max_t(outcomes, pairs), strict=True):
        far = abs(outcomes[0][one].mean() - outcomes[0][other].mean()) * math.sqrt(4000)
        assert p == pytest.approx(studentized_range.sf(far, 6, np.inf), abs=0.03)


def test_a_single_pair_has_the_p_of_the_paired_bootstrap():
    rng = np.random.default_rng(5)
    for _ in range(20):
        outcomes = _outcomes(rng, 2)
        (p,) = stats.max_t(outcomes, [(0, 1)])
        assert p == pytest.approx(stats.paired_bootstrap([one - other for one, other in outcomes]).p, abs=0.06)


def test_max_t_takes_each_tasks_own_mean_and_size():
    up = np.array([[1.0] * 20 + [0.0] * 10, [1.0] * 5 + [0.0] * 25])  # +0.5 of 30
    down = np.array([[1.0] * 27 + [0.0] * 63, [0.0] * 27 + [1.0] * 63])  # -0.4 of 90
    difference = stats.paired_bootstrap([one - other for one, other in (up, down)])
    assert difference.value == pytest.approx(0.05)
    (p,) = stats.max_t([up, down], [(0, 1)])
    assert p == pytest.approx(2 * student.sf(0.05 / difference.stderr, 118), abs=0.015)


@pytest.mark.parametrize("documents", [4, 16])
def test_few_documents_do_not_tell_equal_methods_apart_too_often(documents):
    rng, pairs = np.random.default_rng(7), _every_pair(10)
    found = [min(stats.max_t(_outcomes(rng, 10, 8, documents), pairs, 1000, i)) < stats.ALPHA for i in range(300)]
    assert np.mean(found) <= 0.08


def test_the_best_of_many_equal_methods_is_seldom_told_from_another():
    rng, pairs = np.random.default_rng(6), _every_pair(15)
    apart = holm = 0
    for seed in range(200):
        outcomes = _outcomes(rng, 15)
        apart += min(stats.max_t(outcomes, pairs, draws=1000, seed=seed)) < stats.ALPHA
        best = int(np.argmax(np.mean([task.mean(axis=1) for task in outcomes], axis=0)))
        others = {str(i): stats.paired_bootstrap([t[best] - t[i] for t in outcomes], 1000).p for i in range(15)}
        holm += min(stats.holm({i: p for i, p in others.items() if i != str(best)}).values()) < stats.ALPHA
    assert apart <= 0.08 * 200 < holm  # the reason why the best is not judged by Holm's adjustment over the others


def test_max_t_at_its_edges():
    right, wrong = np.ones(30), np.zeros(30)
    assert stats.max_t([np.array([right, right, wrong])], _every_pair(3), draws=99) == [1.0, 0.01, 0.01]
    assert stats.max_t([np.ones((2, 1)), np.ones((2, 9))], [(0, 1)]) == [None]
    assert stats.max_t([np.ones((2, 9))], []) == []


def test_documents_and_seeds_needed_by_hand():
    z = 1.959964 + 0.841621
    assert stats.documents_needed(0.01, 0.15) == math.ceil((0.15 - 0.0001) * (z / 0.01) ** 2)
    assert stats.seeds_needed(0.005, 0.008) == math.ceil(2 * (0.008 * z / 0.005) ** 2)
    assert stats.documents_needed(0.005, 0.15, seeds=3, seed_deviation=0.008) is None
    many = stats.documents_needed(0.005, 0.15, seeds=10_000, seed_deviation=0.008)
    assert many == pytest.approx(stats.documents_needed(0.005, 0.15), rel=0.01)
    with pytest.raises(ValueError, match="difference <= discordance"):
        stats.documents_needed(0.2, 0.1)


def test_power_at_the_documents_needed_is_the_power_asked_for():
    n = stats.documents_needed(0.02, 0.2)
    assert stats.power_of(0.02, math.sqrt((0.2 - 0.02**2) / n)) == pytest.approx(0.8, abs=1e-3)

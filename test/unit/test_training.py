"""The training run: resumable at any moment, whoever flies."""

import numpy as np
import pytest
from reference_flight import ReferenceFlight

from hmpc_ros.learning.estimators import Hybrid, ModelBased, ZerothOrder
from hmpc_ros.learning.requests import CLOSING, NOMINAL, PERTURBED
from hmpc_ros.learning.results import ResultsError, ResultsFolder
from hmpc_ros.learning.rules import PaperRule
from hmpc_ros.learning.safety import Safeguard
from hmpc_ros.learning.schedules import StepSize, Trust
from hmpc_ros.learning.summary import best_record, summarise
from hmpc_ros.learning.training import TrainingRun
from hmpc_ros.policy.flight import Flight

WHAT = {'configuration': {'learner': {}}, 'model': {'identity': 'abc'}, 'versions': {}, 'date': ''}
CLOCK = ('seconds', 'time', 'crc32')


class Training:
    """Short flights of the reference vehicle under the hybrid rule."""

    def __init__(self, directions=2, safeguard=None, scale=5e-5, **imperfections):
        self.parts = ReferenceFlight(steps=15, **imperfections)
        model_based = ModelBased(self.parts.gradient(self.parts.model))
        free = ZerothOrder(1e-4, directions)
        self.rule = PaperRule(
            Hybrid(model_based, free, Trust(0.8, 0.5)),
            StepSize(scale),
            safeguard,
        )

    def run(self, folder, iterations=4, seed=0):
        results = ResultsFolder(folder, WHAT)
        return TrainingRun(
            self.rule, self.parts.objective, self.parts.start, results,
            iterations=iterations, seed=seed,
        )  # fmt: skip

    def fly(self, run, flights=None):
        """Fly until the run is finished, or for a number of flights; then let go of the folder."""
        flyer, flown = self.parts.flyer, []
        while (request := run.next_request()) is not None:
            if flights is not None and len(flown) == flights:
                break
            flown.append(request)
            run.report(request, flyer(request))
        run.results.close()
        return flown


def numbers(run):
    return [{k: v for k, v in r.items() if k not in CLOCK} for r in run.results.records]


@pytest.fixture(scope='module')
def training():
    return Training(process_noise_std=(1e-4,) * 12)


@pytest.fixture(scope='module')
def unbroken(training, tmp_path_factory):
    run = training.run(tmp_path_factory.mktemp('unbroken'))
    training.fly(run)
    return numbers(run)


def test_an_iteration_flies_nominally_then_perturbed_and_a_run_ends_with_a_closing_flight(
    training, tmp_path
):
    flown = training.fly(training.run(tmp_path / 'run', iterations=2))
    purposes = [request.purpose for request in flown]
    assert purposes == [NOMINAL, PERTURBED, PERTURBED] * 2 + [CLOSING]
    assert [request.number for request in flown] == list(range(7))
    assert [request.with_solutions for request in flown[:3]] == [True, False, False]


def test_a_record_says_what_happened(unbroken):
    first = unbroken[0]
    assert first['kind'] == 'iteration'
    assert first['flights'] == 3
    assert first['accepted']
    assert first['norm_model'] > 0
    assert first['norm_free'] > 0
    assert -1 <= first['agreement'] <= 1
    assert first['trust'] == 0.8
    assert len(first['theta']) == len(first['next_theta']) == 94
    assert unbroken[1]['theta'] == first['next_theta']
    assert unbroken[-1]['kind'] == 'closing'
    assert unbroken[-1]['theta'] == unbroken[-2]['next_theta']


@pytest.mark.parametrize('stop', range(14))
def test_a_run_killed_after_any_flight_goes_on_with_the_same_numbers(
    training, unbroken, tmp_path, stop
):
    training.fly(training.run(tmp_path / 'run'), flights=stop)
    resumed = training.run(tmp_path / 'run')
    training.fly(resumed)
    assert numbers(resumed) == unbroken


def test_a_finished_run_asks_for_nothing_more(training, tmp_path):
    training.fly(training.run(tmp_path / 'run'))
    again = training.run(tmp_path / 'run')
    assert again.finished
    assert training.fly(again) == []


def test_a_prolonged_run_has_the_numbers_of_one_that_was_long_from_the_start(
    training, unbroken, tmp_path
):
    training.fly(training.run(tmp_path / 'run', iterations=2))
    longer = training.run(tmp_path / 'run', iterations=4)
    training.fly(longer)
    assert [r for r in numbers(longer) if r['kind'] == 'iteration'] == unbroken[:-1]
    assert numbers(longer)[-1] == unbroken[-1]


def test_another_seed_is_another_run(training, unbroken, tmp_path):
    other = training.run(tmp_path / 'run', seed=1)
    training.fly(other)
    assert numbers(other)[0]['C'] == unbroken[0]['C']
    assert numbers(other)[0]['next_theta'] != unbroken[0]['next_theta']


def test_flights_of_a_batch_may_be_reported_in_any_order(training, unbroken, tmp_path):
    run, flyer = training.run(tmp_path / 'run'), training.parts.flyer
    while not run.finished:
        batch = []
        while (request := run.next_request()) is not None:
            batch.append(request)
        for request in reversed(batch):
            run.report(request, flyer(request))
    assert numbers(run) == unbroken


def test_a_flight_that_was_not_recorded_whole_is_asked_for_again(training, unbroken, tmp_path):
    run, flyer = training.run(tmp_path / 'run'), training.parts.flyer
    holes = 0
    while (request := run.next_request()) is not None:
        if request.number % 3 == holes % 2:  # every now and then
            run.repeat(request)
            holes += 1
            assert run.next_request() is request
        run.report(request, flyer(request))
    assert holes
    assert numbers(run) == unbroken


def test_a_report_that_nobody_waits_for_is_refused(training, tmp_path):
    run = training.run(tmp_path / 'run')
    request = run.next_request()
    flight = training.parts.flyer(request)
    run.report(request, flight)
    with pytest.raises(KeyError):
        run.report(request, flight)


def ended(flight):
    return Flight(
        flight.states[:3], flight.inputs[:2], flight.goal, flight.hover_input,
        planned_steps=15, ended='cut short at step 2: tilted',
    )  # fmt: skip


def test_without_a_safeguard_a_nominal_flight_without_cost_ends_the_run(training, tmp_path):
    run, flyer = training.run(tmp_path / 'run'), training.parts.flyer
    while (request := run.next_request()) is not None:
        flight = flyer(request)
        run.report(request, ended(flight) if request.number == 3 else flight)
    assert 'cut short at step 2' in run.stopped
    run.results.close()
    again = training.run(tmp_path / 'run')
    assert again.finished
    assert again.stopped == run.stopped
    assert run.results.records[-1]['unsafe_flights'] == 1
    assert run.results.records[-1]['J'] is None


def test_with_a_safeguard_it_goes_back_to_the_accepted_weights_and_on(tmp_path):
    training = Training(safeguard=Safeguard(margin=0.05))
    run, flyer = training.run(tmp_path / 'run'), training.parts.flyer
    while (request := run.next_request()) is not None:
        flight = flyer(request)
        run.report(request, ended(flight) if request.number == 3 else flight)
    first, refused, third = run.results.records[:3]
    assert first['accepted']
    assert not refused['accepted']
    assert 'cut short' in refused['reason']
    assert refused['next_theta'] == first['theta']
    assert third['theta'] == first['theta']
    assert third['step_size'] == pytest.approx(0.5 * StepSize()(2))
    summary = summarise(WHAT, run.results.records)
    assert (summary['accepted'], summary['rolled_back'], summary['unsafe_flights']) == (3, 1, 1)


def test_a_guarded_run_resumes_with_the_same_numbers_too(tmp_path):
    # Steps so large that weights go back.
    training = Training(safeguard=Safeguard(margin=0.0), scale=0.01)
    whole = training.run(tmp_path / 'whole', iterations=7)
    training.fly(whole)
    assert not all(record['accepted'] for record in whole.results.iterations)
    for stop in (2, 13, 15):
        training.fly(training.run(tmp_path / f'{stop}', iterations=7), flights=stop)
        resumed = training.run(tmp_path / f'{stop}', iterations=7)
        training.fly(resumed)
        assert numbers(resumed) == numbers(whole)


def test_results_that_cannot_be_kept_are_an_error_and_not_a_gap(training, tmp_path):
    run = training.run(tmp_path / 'run')
    run.results.close()  # as if the disk were gone
    with pytest.raises(ResultsError):
        training.fly(run)


def test_the_best_weights_are_accepted_ones(unbroken):
    records = [dict(record) for record in unbroken]
    records[2].update(J=0.0, accepted=False)
    records[1].update(J=1.0)
    assert best_record(records)['k'] == 1


def test_it_learns(tmp_path):
    training = Training(directions=1)
    training.parts.steps = 60
    run = training.run(tmp_path / 'run', iterations=12)
    training.fly(run)
    costs = [record['J'] for record in run.results.records]
    assert min(costs[8:]) < costs[0] - 3
    assert np.isfinite(costs).all()

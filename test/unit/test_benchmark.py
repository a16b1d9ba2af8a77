"""hmpc benchmark, with few and short flights."""

import json

import numpy as np
import pytest
import yaml

from hmpc_ros.cli.main import main
from hmpc_ros.configuration import build
from hmpc_ros.configuration.files import load
from hmpc_ros.learning.results import LOG, read_records
from hmpc_ros.share import config_dir
from hmpc_ros.studies import benchmark


def write_case(folder, name, title='', **parameters):
    """Write a case of short flights; parameters are given as node_parameters=dict."""
    nodes = {
        'controller': {'goal': {'position': [1.0, 0.0, 0.0]}},
        'learner': {'steps': 20},
    }
    for node, values in parameters.items():
        nodes.setdefault(node, {}).update(values)
    document = {node: {'ros__parameters': values} for node, values in nodes.items()}
    path = folder / f'{name}.yaml'
    path.write_text((f'# {title}\n' if title else '') + yaml.safe_dump(document))
    return path


def entries_of(case, rule, out, flights=4, seeds=(100,)):
    return [benchmark.Entry.of(case, rule, seed, flights, out) for seed in seeds]


def iterations(folder):
    return [
        {k: v for k, v in record.items() if k not in ('seconds', 'time', 'crc32')}
        for record in read_records(folder)[1]
    ]


def test_a_users_case_is_benchmarked_from_the_command_line(tmp_path, capsys):
    path = write_case(tmp_path, 'mine', 'My vehicle. It is heavy.')
    out = tmp_path / 'out'
    page = tmp_path / 'docs' / 'mine.md'
    words = ['--rules', 'model_only,trust_region', '--seeds', '100,101', '--flights', '6']
    words += ['--page', str(page)]
    assert main(['benchmark', '--cases', str(path), *words, '--jobs', '1', '--out', str(out)]) == 0
    summary = json.loads((out / 'summary.json').read_text())
    assert list(summary['cases']) == ['mine']
    assert summary['titles'] == {'mine': 'My vehicle'}
    assert summary['flights'] == 6
    assert summary['versions']['hmpc_ros']
    found = summary['cases']['mine']
    assert set(found) == {'model_only', 'trust_region'}
    start = summary['starts']['mine']['median']
    for numbers in found.values():
        J = numbers['J']
        assert set(J['per_seed']) == {'100', '101'}
        assert J['worst'] == max(J['per_seed'].values())
        assert J['median'] == pytest.approx(np.median(list(J['per_seed'].values())))
        assert len(numbers['curve']['median']) == 6
        assert numbers['curve']['median'][0] == start
        assert numbers['curve']['median'][-1] == J['median'] <= start
    assert (out / 'benchmark.png').read_bytes().startswith(b'\x89PNG')
    assert '| mine: My vehicle |' in (out / 'table.md').read_text()
    assert '| mine: My vehicle |' in capsys.readouterr().out
    told = page.read_text()
    assert '| mine: My vehicle |' in told
    assert f'on {summary["date"]} from commit {summary["commit"]}' in told
    assert page.with_suffix('.png').is_file()

    # What is finished is not flown again.
    logs = {path: path.read_bytes() for path in out.rglob(LOG)}
    assert len(logs) == 3  # nothing is random about model_only here: its seeds share a run
    assert main(['benchmark', '--cases', str(path), *words, '--jobs', '1', '--out', str(out)]) == 0
    assert {path: path.read_bytes() for path in out.rglob(LOG)} == logs


def test_a_run_that_was_interrupted_goes_on_with_the_same_numbers(tmp_path):
    case = benchmark.read_case(write_case(tmp_path, 'mine'))
    (whole,) = entries_of(case, 'trust_region', tmp_path / 'whole', flights=7)
    benchmark.fly(whole.task)
    (part,) = entries_of(case, 'trust_region', tmp_path / 'part', flights=7)
    assert part.task.outcome() is None

    def interrupt(flights, J):
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            benchmark.fly(part.task, interrupt)
    assert part.task.outcome() is None
    assert benchmark.summarise([case], [part], [100], 7)['cases'] == {}
    benchmark.fly(part.task)
    assert iterations(part.task.folder) == iterations(whole.task.folder)
    assert part.task.outcome()['curve'] == whole.task.outcome()['curve']


def test_more_flights_prolong_a_run_and_fewer_are_a_part_of_it(tmp_path):
    case = benchmark.read_case(write_case(tmp_path, 'mine'))
    few, more, fewer = (
        entries_of(case, 'hybrid_050', tmp_path, flights=flights)[0].task for flights in (4, 8, 3)
    )
    benchmark.fly(few)
    before = iterations(few.folder)
    assert more.outcome() is None
    benchmark.fly(more)
    assert iterations(more.folder)[: len(before)] == before
    assert fewer.outcome()['curve'][:4] == few.outcome()['curve'][:4]


def test_a_changed_case_is_not_taken_for_the_one_that_was_flown(tmp_path):
    path = write_case(tmp_path, 'mine')
    task = entries_of(benchmark.read_case(path), 'model_only', tmp_path)[0].task
    benchmark.fly(task)
    write_case(tmp_path, 'mine', simulator={'wind_force': [0.1, 0.0, 0.0]})
    changed = entries_of(benchmark.read_case(path), 'model_only', tmp_path)[0].task
    assert changed.folder == task.folder
    assert changed.outcome() is None
    with pytest.raises(Exception, match='wind_force'):
        benchmark.fly(changed)


def test_where_flights_are_noisy_J_is_measured_without_noise(tmp_path):
    noise = {'measurement_noise_std': [0.005] * 12}
    noisy = benchmark.read_case(write_case(tmp_path, 'noisy', simulator=noise))
    calm = benchmark.read_case(write_case(tmp_path, 'calm'))
    assert noisy.noisy
    assert not calm.noisy
    outcomes = []
    for case in (noisy, calm):
        task = entries_of(case, 'model_only', tmp_path)[0].task
        benchmark.fly(task)
        outcomes.append((task.outcome(), iterations(task.folder)[0]['J']))
    (in_noise, flown_in_noise), (in_calm, flown_in_calm) = outcomes
    assert flown_in_noise != flown_in_calm
    assert in_noise['start'] == in_calm['start'] == flown_in_calm


def test_a_rule_that_diverges_keeps_what_it_had(tmp_path):
    case = benchmark.read_case(
        write_case(tmp_path, 'mine', learner={'steps': 20, 'envelope': {'position': 0.5}})
    )
    (entry,) = entries_of(case, 'model_only', tmp_path)
    assert 'envelope' in benchmark.fly(entry.task)
    summary = benchmark.summarise([case], [entry], [100], 4)
    numbers = summary['cases']['mine']['model_only']
    assert numbers['diverged'] == 1
    assert numbers['J']['median'] is None
    assert 'does not fly' in benchmark.table(summary)
    assert all(path.exists() for path in benchmark.write(summary, tmp_path))


def test_true_jacobians_are_left_out_where_they_are_not_true():
    cases = {path.stem: benchmark.read_case(path) for path in benchmark._shipped_cases().values()}
    perfect, default = benchmark.RULES['perfect'], benchmark.RULES['trust_region']
    assert [name for name in 'abcdefg' if name in cases and not cases[name].allows(perfect)] == [
        'f', 'g',
    ]  # fmt: skip
    assert all(case.allows(default) for case in cases.values())


def test_the_cases_of_the_issue_are_shipped_and_held_out_ones_are_not_run_by_default():
    names = benchmark.default_cases()
    assert names == [
        'a', 'b06', 'b16', 'c', 'd10', 'd30', 'e', 'f', 'g', 'n1', 'noise01', 'noise05',
    ]  # fmt: skip
    held_out = [case.name for case in benchmark.cases_named(['heldout'])]
    assert len(held_out) >= 6
    assert not set(held_out) & set(names)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--rules', 'guess'], "no rule 'guess'"),
        (['--cases', 'guess'], "no case 'guess'"),
    ],
)
def test_what_is_asked_for_must_be_there(words, message, tmp_path, capsys):
    assert main(['benchmark', *words, '--out', str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_models_that_are_wrong_on_purpose_are_wrong_as_told():
    path = config_dir() / 'reference.yaml'
    right = build.model(load(path)['controller'])

    def model(*words):
        return build.model(load(path, [f'controller.model.{word}' for word in words])['controller'])

    scaled = model('input_scale=0.6')
    np.testing.assert_array_equal(scaled.A, right.A)
    np.testing.assert_allclose(scaled.B, 0.6 * right.B)
    wrong = model('error_std=0.1', 'seed=100')
    assert wrong.same_as(model('error_std=0.1', 'seed=100'))
    assert not wrong.same_as(model('error_std=0.1', 'seed=101'))
    entries = right.B != 0
    errors = wrong.B[entries] / right.B[entries] - 1
    assert 0.03 < np.std(errors) < 0.3
    np.testing.assert_array_equal(wrong.B == 0, right.B == 0)
    identified = model('source=identified', 'identification.noise=0.001')
    assert np.linalg.norm(identified.B - right.B) < 0.3 * np.linalg.norm(right.B)
    noisier = model('source=identified', 'identification.noise=0.02')
    assert np.linalg.norm(noisier.B - right.B) > np.linalg.norm(identified.B - right.B)

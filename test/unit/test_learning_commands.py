"""hmpc identify, train, reproduce and plot, with few and short flights."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hmpc_ros.cli.main import main
from hmpc_ros.learning.results import LOG, read_records

SHORT = ['--set', 'learner.rule=paper', '--set', 'learner.steps=20']


def iterations(folder):
    return [
        {k: v for k, v in record.items() if k not in ('seconds', 'time', 'crc32')}
        for record in read_records(folder)[1]
        if record['kind'] == 'iteration'
    ]


def test_train_writes_results_and_a_summary(tmp_path, capsys):
    out, summary = tmp_path / 'run', tmp_path / 'summary.json'
    assert (
        main(['train', *SHORT, '--iterations', '3', '--out', str(out), '--json', str(summary)]) == 0
    )
    numbers = json.loads(summary.read_text())
    assert numbers['iterations'] == 3
    assert numbers['flights'] == 5  # trust is 1 in the first iteration: nothing perturbed is flown
    assert numbers['final']['J'] < numbers['start']['J']
    assert [entry['k'] for entry in numbers['per_iteration']] == [0, 1, 2]
    assert numbers['configuration']['learner']['steps'] == 20
    assert numbers['versions']['hmpc_ros']


def test_train_goes_on_with_the_configuration_of_the_folder(tmp_path):
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    changed = [*SHORT, '--set', 'learner.delta=0.001', '--seed', '7']
    assert main(['train', *changed, '--iterations', '4', '--out', str(whole)]) == 0
    assert main(['train', *changed, '--iterations', '2', '--out', str(parts)]) == 0
    assert main(['train', '--resume', '--iterations', '4', '--out', str(parts)]) == 0
    assert iterations(parts) == iterations(whole)


def test_train_never_writes_over_a_run(tmp_path, capsys):
    out = str(tmp_path / 'run')
    assert main(['train', *SHORT, '--iterations', '1', '--out', out]) == 0
    assert main(['train', *SHORT, '--iterations', '1', '--out', out]) == 1
    assert '--resume' in capsys.readouterr().err
    assert main(['train', '--resume', '--set', 'learner.delta=0.5', '--out', out]) == 1
    assert 'learner.delta' in capsys.readouterr().err


def test_train_names_a_damaged_file_and_leaves_it_alone(tmp_path, capsys):
    out = tmp_path / 'run'
    main(['train', *SHORT, '--iterations', '2', '--out', str(out)])
    log = out / LOG
    log.write_bytes(log.read_bytes().replace(b'"C": 9', b'"C": 8', 1))
    damaged = log.read_bytes()
    assert main(['train', '--resume', '--iterations', '3', '--out', str(out)]) == 1
    assert LOG in capsys.readouterr().err
    assert log.read_bytes() == damaged


def test_train_warns_of_violated_conditions_and_of_divergence(tmp_path, capsys):
    arguments = [*SHORT, '--iterations', '2', '--out', str(tmp_path / 'run')]
    arguments += ['--set', 'learner.trust.exponent=0.25', '--set', 'learner.envelope.position=1.0']
    assert main(['train', *arguments]) == 1
    said = ' '.join(capsys.readouterr().err.split())
    assert 'sum eta_k alpha_k < inf is violated' in said
    assert 'the run diverged' in said
    assert 'beyond the envelope of 1 m' in said


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_training_goes_on_where_it_was(tmp_path, how):
    out = tmp_path / 'run'
    command = [sys.executable, '-m', 'hmpc_ros.cli.main', 'train', *SHORT, '--out', str(out)]
    process = subprocess.Popen([*command, '--iterations', '5000'], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not (out / LOG).exists() or (out / LOG).read_bytes().count(b'\n') < 3:
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, how)
        code = process.wait(timeout=30)
    finally:
        process.kill()
    assert code == (130 if how == signal.SIGINT else -signal.SIGKILL)
    before = iterations(out)
    assert main(['train', '--resume', '--iterations', str(len(before) + 2), '--out', str(out)]) == 0
    whole = tmp_path / 'whole'
    assert main(['train', *SHORT, '--iterations', str(len(before) + 2), '--out', str(whole)]) == 0
    assert iterations(out) == iterations(whole)
    assert iterations(out)[: len(before)] == before


def test_plot_draws_a_training_run(tmp_path, capsys):
    out = tmp_path / 'run'
    main(['train', *SHORT, '--iterations', '3', '--out', str(out)])
    assert main(['plot', str(out)]) == 0
    assert (out / 'learning.png').read_bytes().startswith(b'\x89PNG')


def test_plot_says_what_is_not_there(tmp_path, capsys):
    assert main(['plot', str(tmp_path)]) == 1
    assert 'no finished run' in capsys.readouterr().err


def test_an_identified_model_can_be_flown_with(tmp_path, capsys):
    model, about = tmp_path / 'model.npz', tmp_path / 'model.json'
    few = ['--flights', '10', '--steps', '20']
    assert main(['identify', *few, '--out', str(model), '--json', str(about)]) == 0
    numbers = json.loads(about.read_text())
    assert numbers['samples'] == 200
    assert numbers['condition'] > 1
    with_model = [
        '--set',
        'controller.model.source=file',
        '--set',
        f'controller.model.file={model}',
    ]
    out = tmp_path / 'run'
    assert main(['train', *SHORT, *with_model, '--iterations', '1', '--out', str(out)]) == 0
    assert read_records(out)[0]['model']['identity'] == numbers['model']


def test_identify_refuses_too_little_data(tmp_path, capsys):
    out = tmp_path / 'model.npz'
    assert main(['identify', '--flights', '1', '--steps', '10', '--out', str(out)]) == 1
    assert 'too little data' in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.timeout(300)
def test_reproduce_makes_table_and_figures_and_goes_on(tmp_path, capsys):
    out = tmp_path / 'experiment'
    arguments = ['reproduce', *SHORT, '--seeds', '2', '--jobs', '1', '--out', str(out)]
    arguments += ['--iterations', '2', '--arms', 'perfect', 'model_free', 'hybrid_050']
    assert main(arguments) == 0
    table = capsys.readouterr().out
    for label in ('perfect model', 'model-free only', 'hybrid γ = 0.5', '1111.71', '1103.04'):
        assert label in table
    summary = json.loads((out / 'summary.json').read_text())['arms']
    assert summary['hybrid_050']['seeds'] == [0, 1]
    assert summary['perfect']['seeds'] == [0]  # nothing random in it
    assert len(summary['hybrid_050']['C']['per_seed']) == 2
    for name in ('figure_1.png', 'figure_2.png'):
        assert (out / name).read_bytes().startswith(b'\x89PNG')

    logs = {path: path.read_bytes() for path in out.glob('*/*/' + LOG)}
    assert len(logs) == 5
    killed = out / 'hybrid_050' / 'seed-001' / LOG
    killed.write_bytes(killed.read_bytes()[:-30])  # as if killed in its last flight
    assert main(arguments) == 0
    assert (
        json.loads((out / 'summary.json').read_text())['arms']['hybrid_050']
        == (summary['hybrid_050'])
    )
    assert all(path.read_bytes() == log for path, log in logs.items() if path != killed)

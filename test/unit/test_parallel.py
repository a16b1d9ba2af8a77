"""Flights on workers give the very numbers of flights one after the other."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from hmpc_ros.configuration import files, learner
from hmpc_ros.learning.parallel import workers
from hmpc_ros.learning.results import read_records

# Two-sided differences along two directions: five flights an iteration, four of them at once.
OVERRIDES = [
    'controller.goal.position=[-1.0, -0.5, 0.0]',
    'simulator.process_noise_std=[0,0,0,0.001,0.001,0.001,0,0,0,0,0,0]',
    'learner.estimator=hybrid',
    'learner.directions=2',
    'learner.two_sided=true',
    'learner.steps=20',
    'learner.iterations=2',
]
TIMING = ('seconds', 'time')


def train(out, executor=None):
    learner.train_offline(files.load(None, OVERRIDES), out, executor=executor)
    _, records = read_records(out)
    return [{k: v for k, v in record.items() if k not in TIMING} for record in records]


@pytest.fixture(scope='module')
def serial(tmp_path_factory):
    return train(tmp_path_factory.mktemp('serial') / 'run')


def test_a_pool_of_processes_gives_the_serial_numbers(serial, tmp_path):
    with workers(jobs=2) as pool:
        assert json.dumps(train(tmp_path / 'run', pool)) == json.dumps(serial)


def test_a_dask_cluster_gives_the_serial_numbers(serial, tmp_path):
    distributed = pytest.importorskip('distributed')
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        host='127.0.0.1',
        local_directory=str(tmp_path),
        silence_logs='ERROR',
    )
    with contextlib.closing(cluster), workers(dask=cluster.scheduler_address) as executor:
        assert json.dumps(train(tmp_path / 'run', executor)) == json.dumps(serial)


def test_an_error_in_a_worker_reaches_the_caller(tmp_path):
    broken = files.load(None, [*OVERRIDES, 'simulator.initial_state=[0,0,0,0,0,0,0,0,0,0,0,0]'])
    broken['simulator']['initial_state'] = [np.nan] * 12
    with workers(jobs=2) as pool, pytest.raises(ValueError, match='initial'):
        learner.train_offline(broken, tmp_path / 'run', executor=pool)


def test_workers_end_when_their_parent_is_killed():
    script = (
        'import os, time\n'
        'from hmpc_ros.learning.parallel import process_pool\n'
        "if __name__ == '__main__':\n"
        '    with process_pool(1) as pool:\n'
        '        print(pool.submit(os.getpid).result(), flush=True)\n'
        '        pool.submit(time.sleep, 600).result()\n'
    )
    # A file, because a spawned worker reads the main module again.
    with tempfile.NamedTemporaryFile('w', suffix='.py') as file:
        file.write(script)
        file.flush()
        parent = subprocess.Popen(
            [sys.executable, file.name], stdout=subprocess.PIPE, text=True, env=environment()
        )
        with parent:
            worker = int(parent.stdout.readline())
            assert Path(f'/proc/{worker}').exists()
            parent.kill()
    deadline = time.monotonic() + 30
    while _runs(worker):
        assert time.monotonic() < deadline, 'the worker outlived its parent'
        time.sleep(0.05)


def _runs(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] not in 'ZX'
    except FileNotFoundError:
        return False


def environment():
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [({'jobs': 0}, 'at least 1'), ({'dask': 'tcp://127.0.0.1:9'}, 'no Dask scheduler')],
)
def test_workers_that_cannot_be_had_are_refused(arguments, message):
    if 'dask' in arguments:
        pytest.importorskip('distributed')
    with pytest.raises(ValueError, match=message), workers(**arguments):
        pass

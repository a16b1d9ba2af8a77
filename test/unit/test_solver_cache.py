"""The cache of generated solvers is whole and the user's own, or it is built again, or refused."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_flight_states import SPREAD, reference_model, reference_weights

import hmpc_ros
from hmpc_ros.policy.linear.limits import Limits
from hmpc_ros.policy.linear.mpc import Mpc
from hmpc_ros.policy.linear.qp_solver import AcadosQp, QpDimensions
from hmpc_ros.policy.solver_cache import CodeGenerationError, open_cache

STATE = 0.3 * SPREAD * np.tile((1.0, -0.6, 0.8), 4)


@pytest.fixture
def mpc():
    model = reference_model()
    return Mpc(model, Limits(), reference_weights(model))


SOLVE = """
import json, sys
import numpy as np
from hmpc_ros.plant.quadcopter import Quadcopter, QuadcopterParameters
from hmpc_ros.policy.linear.limits import Limits
from hmpc_ros.policy.linear.mpc import Mpc
from hmpc_ros.policy.linear.weights import Weights
model = Quadcopter(QuadcopterParameters()).linearise()
q = np.sqrt(np.repeat((1.0, 0.1), 6))
mpc = Mpc(model, Limits(), Weights.for_model(model, q, np.sqrt(np.full(4, 0.01))))
solution = mpc.solve_deviation(np.array(json.loads(sys.argv[1])))
assert solution.ok, solution.status
print(json.dumps(solution.input.tolist()))
"""


def start(cache, folder, package_root=None):
    """Start a process that solves once, with its own cache folder and working directory."""
    root = package_root or Path(hmpc_ros.__file__).parents[1]
    environment = os.environ | {'HMPC_CACHE_DIR': str(cache), 'PYTHONPATH': str(root)}
    return subprocess.Popen(
        [sys.executable, '-c', SOLVE, json.dumps(STATE.tolist())],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return np.array(json.loads(output.splitlines()[-1]))


def listing(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob('*')}


def test_two_processes_that_build_at_once_both_get_the_solver_and_leave_one(tmp_path, mpc):
    cache = tmp_path / 'cache'
    processes = [start(cache, tmp_path) for _ in range(2)]
    expected = mpc.solve_deviation(STATE).input
    for process in processes:
        np.testing.assert_allclose(finish(process), expected, rtol=0, atol=1e-6)
    assert len(list(cache.iterdir())) == 1, list(cache.iterdir())


def test_the_cache_serves_any_working_directory_and_writes_nothing_there(tmp_path, mpc):
    cache = Path(os.environ['HMPC_CACHE_DIR'])  # built by the fixture, from this directory
    built = listing(cache)
    folder = tmp_path / 'elsewhere'
    folder.mkdir()
    answer = finish(start(cache, folder))
    np.testing.assert_allclose(answer, mpc.solve_deviation(STATE).input, rtol=0, atol=1e-6)
    assert not list(folder.iterdir())
    assert listing(cache) == built


def moved(cache, code):
    shutil.copytree(cache, cache.with_name('copy'))
    shutil.rmtree(cache)
    # acados' JSON holds the absolute path of its folder.
    description = cache.with_name('copy') / code / 'ocp.json'
    description.write_text(description.read_text().replace(str(cache), str(cache) + '/gone'))
    cache.with_name('copy').rename(cache)


def truncated(cache, code):
    with next((cache / code).glob('libacados_ocp_solver_*')).open('r+b') as library:
        library.truncate(9000)  # past the headers: loading it is a SIGBUS, and no error


def of_other_dimensions(cache, code):
    other = QpDimensions(nx=12, nu=4, horizon=3, first_bounded=3, n_bounded=9)
    wanted = (cache / code).parent
    AcadosQp(other)  # into the session's cache
    here = set(open_cache().glob('qp_*'))
    built = next(f for f in here if '"N": 3,' in (f / 'code' / 'ocp.json').read_text())
    shutil.rmtree(wanted)
    shutil.copytree(built, wanted)
    description = wanted / 'code' / 'ocp.json'
    description.write_text(description.read_text().replace(str(built), str(wanted)))


def a_file(cache, code):
    shutil.rmtree((cache / code).parent)
    (cache / code).parent.write_text('no folder')


def a_link_to_nowhere(cache, code):
    shutil.rmtree((cache / code).parent)
    (cache / code).parent.symlink_to(cache / 'nowhere')


def open_to_others(cache, code):
    (cache / code).parent.chmod(0o777)


@pytest.mark.parametrize(
    'damage',
    [moved, truncated, of_other_dimensions, a_file, a_link_to_nowhere, open_to_others],
)
def test_a_cached_solver_that_is_not_what_was_built_is_built_again_once(tmp_path, mpc, damage):
    cache = tmp_path / 'cache'
    finish(start(cache, tmp_path))
    damage(cache, next(cache.rglob('code')).relative_to(cache))
    expected = mpc.solve_deviation(STATE).input
    np.testing.assert_allclose(finish(start(cache, tmp_path)), expected, rtol=0, atol=1e-6)
    built = listing(cache)
    finish(start(cache, tmp_path))
    assert listing(cache) == built


def test_what_a_killed_build_left_is_cleared_and_a_living_build_is_not(tmp_path, mpc):
    cache = tmp_path / 'cache'
    cache.mkdir(mode=0o700)
    dead = cache / 'qp_0123456789abcdef.dead1234'
    (dead / 'code').mkdir(parents=True)
    living = cache / 'qp_0123456789abcdef.alive_12'
    living.mkdir()
    foreign = cache / 'my_data.20261124'
    foreign.mkdir()
    lock = os.open(living, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        finish(start(cache, tmp_path))
        assert not dead.exists()
        assert living.exists()
        assert foreign.exists()
    finally:
        os.close(lock)


def test_a_build_that_is_killed_leaves_a_cache_that_works(tmp_path, mpc):
    cache = tmp_path / 'cache'
    process = start(cache, tmp_path)
    while not list(cache.glob('qp_*.*')):
        assert process.poll() is None, process.communicate()[1]
    process.kill()
    process.communicate()
    (left,) = cache.glob('qp_*.*')
    orphan = os.open(left, os.O_RDONLY)
    fcntl.flock(orphan, fcntl.LOCK_EX)  # held until the orphaned compiler has ended too
    os.close(orphan)
    finish(start(cache, tmp_path))
    assert [path.suffix for path in cache.iterdir()] == ['']


@pytest.mark.parametrize('name', ['with space', 'it\'s "quoted" & $HOME', 'relative'])
def test_any_path_of_the_cache_works(tmp_path, mpc, name):
    cache = Path(name) if name == 'relative' else tmp_path / name
    expected = mpc.solve_deviation(STATE).input
    for _ in range(2):
        np.testing.assert_allclose(finish(start(cache, tmp_path)), expected, rtol=0, atol=1e-6)
    assert len(list((tmp_path / name).iterdir())) == 1


@pytest.mark.parametrize('mode', [0o777, 0o775, 0o1777])
def test_a_cache_that_others_may_write_is_refused(tmp_path, monkeypatch, mode):
    cache = tmp_path / 'cache'
    cache.mkdir()
    cache.chmod(mode)
    monkeypatch.setenv('HMPC_CACHE_DIR', str(cache))
    with pytest.raises(CodeGenerationError, match=r'may be written by others .*chmod go-w'):
        open_cache()


def test_a_cache_of_another_user_is_refused(tmp_path, monkeypatch):
    if os.geteuid():
        pytest.skip('only root can give a folder away')
    cache = tmp_path / 'cache'
    cache.mkdir()
    os.chown(cache, 12345, -1)
    monkeypatch.setenv('HMPC_CACHE_DIR', str(cache))
    with pytest.raises(CodeGenerationError, match='belongs to another user'):
        open_cache()


@pytest.mark.parametrize('kind', ['file', 'link'])
def test_what_lies_in_the_place_of_the_cache_is_named(tmp_path, monkeypatch, kind):
    cache = tmp_path / 'cache'
    cache.write_text('') if kind == 'file' else cache.symlink_to(tmp_path / 'nowhere')
    monkeypatch.setenv('HMPC_CACHE_DIR', str(cache))
    with pytest.raises(CodeGenerationError, match=f'{cache}: a file, or a link to nowhere'):
        open_cache()


def test_the_cache_is_made_for_the_user_alone_whatever_the_umask(tmp_path, monkeypatch):
    monkeypatch.setenv('HMPC_CACHE_DIR', str(tmp_path / 'new' / 'cache'))
    before = os.umask(0)
    try:
        assert open_cache().stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_a_read_only_installation_works_and_stays_untouched(tmp_path, mpc):
    source = Path(hmpc_ros.__file__).parent
    installed = tmp_path / 'install' / 'hmpc_ros'
    shutil.copytree(source, installed, ignore=shutil.ignore_patterns('__pycache__'))
    folders = [
        installed.parent,
        installed,
        *(path for path in installed.rglob('*') if path.is_dir()),
    ]
    for folder in folders:
        folder.chmod(0o555)
    before = {path for path in listing(installed) if '__pycache__' not in path.parts}
    try:
        answer = finish(start(tmp_path / 'cache', tmp_path, installed.parent))
        after = {path for path in listing(installed) if '__pycache__' not in path.parts}
    finally:
        for folder in folders:
            folder.chmod(0o755)
    np.testing.assert_allclose(answer, mpc.solve_deviation(STATE).input, rtol=0, atol=1e-6)
    assert after == before  # root writes where it likes, so the files are counted too


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path, mpc, monkeypatch):
    blocked = tmp_path / 'file'
    blocked.write_text('not a folder')
    monkeypatch.setenv('HMPC_CACHE_DIR', str(blocked / 'cache'))
    with pytest.raises(CodeGenerationError, match='HMPC_CACHE_DIR'):
        Mpc(mpc.model, Limits(), mpc.weights)

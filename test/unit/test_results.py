import json
import os
import stat

import numpy as np
import pytest

from hmpc_ros.learning import results
from hmpc_ros.learning.results import HEADER, LOG, ResultsError, ResultsFolder, read_records

WHAT = {
    'configuration': {'learner': {'delta': 1e-4, 'iterations': 3}},
    'model': {'identity': 'abc'},
}


def record(k, **more):
    return {'kind': 'iteration', 'k': k, 'theta': np.full(3, 0.1 + k), 'J': 1 / 3, **more}


@pytest.fixture
def folder(tmp_path):
    """A folder with two finished iterations."""
    with ResultsFolder(tmp_path / 'run', WHAT) as opened:
        opened.append(record(0), {'best': 1.5, 'accepted': np.arange(4.0)})
        opened.append(record(1), {'best': 1.4, 'accepted': np.arange(5.0)})
    return tmp_path / 'run'


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_kept_is_read_back_exactly(folder):
    with ResultsFolder(folder) as opened:
        assert opened.header['configuration'] == WHAT['configuration']
        assert [r['k'] for r in opened.iterations] == [0, 1]
        assert opened.records[1]['theta'] == [1.1] * 3
        assert opened.records[1]['J'] == 1 / 3
        assert opened.memory['best'] == 1.4
        assert np.array_equal(opened.memory['accepted'], np.arange(5.0))


def test_every_line_is_json_that_other_tools_read(folder):
    lines = (folder / LOG).read_text().splitlines()
    assert [json.loads(line)['k'] for line in lines] == [0, 1]


def test_what_is_not_finite_is_stored_as_null(folder):
    with ResultsFolder(folder) as opened:
        opened.append(record(2, C=np.inf, V=float('nan')))
    last = read_records(folder)[1][-1]
    assert last['C'] is None
    assert last['V'] is None
    assert results.number(last['C']) == np.inf


@pytest.mark.parametrize('cut', [1, 2, 40])
def test_an_unfinished_last_line_is_dropped_and_replaced(folder, cut):
    log = folder / LOG
    whole = log.read_bytes()
    first = whole.index(b'\n') + 1
    log.write_bytes(whole[:-cut])
    with ResultsFolder(folder) as opened:
        assert [r['k'] for r in opened.iterations] == [0]
        opened.append(record(1))
    after = log.read_bytes()
    assert after.startswith(whole[:first])
    assert [r['k'] for r in read_records(folder)[1]] == [0, 1]


def test_an_unfinished_line_leaves_the_memory_of_the_iteration_before(folder):
    log = folder / LOG
    log.write_bytes(log.read_bytes()[:-5])
    with ResultsFolder(folder) as opened:
        assert np.array_equal(opened.memory['accepted'], np.arange(4.0))


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def lose_first_line(folder):
    log = folder / LOG
    log.write_bytes(log.read_bytes().split(b'\n', 1)[1])


DAMAGE = {
    'a flipped bit in the log': (LOG, lambda folder: flip(folder / LOG, 100)),
    'a flipped bit in the header': (HEADER, lambda folder: flip(folder / HEADER, 20)),
    'a truncated header': (HEADER, lambda folder: os.truncate(folder / HEADER, 9)),
    'a lost first line': (LOG, lose_first_line),
    'an empty line': (LOG, lambda f: (f / LOG).write_bytes(b'\n' + (f / LOG).read_bytes())),
    'rubbish at the end': (LOG, lambda f: (f / LOG).open('ab').write(b'rubbish\n')),
    'a flipped bit in the memory': (
        'memory-000001.npz', lambda folder: flip(folder / 'memory-000001.npz', 60),
    ),
    'a lost memory': (
        'memory-000001.npz', lambda folder: (folder / 'memory-000001.npz').unlink(),
    ),
    'a lost header': (HEADER, lambda folder: (folder / HEADER).unlink()),
}  # fmt: skip


@pytest.mark.parametrize('damage', DAMAGE)
def test_damage_is_named_and_left_alone(folder, damage):
    name, spoil = DAMAGE[damage]
    spoil(folder)
    before = contents(folder)
    for header in (WHAT, None):
        with pytest.raises(ResultsError) as caught:
            ResultsFolder(folder, header)
        assert name in str(caught.value)
        assert contents(folder) == before


def test_the_log_that_was_lost_is_named(folder):
    (folder / LOG).unlink()
    with pytest.raises(ResultsError, match='iterations'):
        read_records(folder)


def test_a_folder_is_used_by_one_run_at_a_time(folder):
    with ResultsFolder(folder), pytest.raises(ResultsError, match='in use'):
        ResultsFolder(folder)
    ResultsFolder(folder).close()


def test_a_folder_without_a_run_is_not_created_by_asking_for_it(tmp_path):
    with pytest.raises(ResultsError, match='no training run'):
        ResultsFolder(tmp_path / 'nothing')
    assert not (tmp_path / 'nothing').exists()


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(ResultsError, match='cannot be written'):
        ResultsFolder(tmp_path / 'run', WHAT)


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / 'run').touch()
    with pytest.raises(ResultsError, match='run cannot be written'):
        ResultsFolder(tmp_path / 'run', WHAT)


def test_a_full_disk_keeps_what_was_there(folder, monkeypatch):
    """A write that stops half way leaves no half line behind, and the next one works."""
    before = contents(folder)
    write = os.write

    def half(file, line):
        write(file, line[: len(line) // 2])
        raise OSError(28, 'No space left on device')

    with ResultsFolder(folder) as opened:
        monkeypatch.setattr(results.os, 'write', half)
        with pytest.raises(ResultsError, match='No space left on device'):
            opened.append(record(2))
        assert contents(folder) == before
        monkeypatch.undo()
        opened.append(record(2))
    assert [r['k'] for r in read_records(folder)[1]] == [0, 1, 2]


def test_old_memory_is_forgotten(folder):
    with ResultsFolder(folder) as opened:
        for k in range(2, 8):
            opened.append(record(k), {'accepted': np.zeros(2)})
    assert sorted(p.name for p in folder.glob('memory-*')) == [
        'memory-000006.npz', 'memory-000007.npz',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (
            {'configuration': {'learner': {'delta': 1e-3, 'iterations': 3}}},
            'learner.delta = 0.0001',
        ),
        (
            {'configuration': {'learner': {'delta': 1e-3, 'rule': 'trust_region'}}},
            'learner.rule = None, not trust_region',
        ),
        ({'model': {'identity': 'xyz'}}, 'model abc, not xyz'),
    ],
)
def test_another_run_is_refused_by_the_first_difference(folder, change, words):
    with ResultsFolder(folder) as opened, pytest.raises(ResultsError, match=words):
        opened.refuse_another_run(WHAT | change)


def test_a_run_may_be_prolonged(folder):
    longer = {'configuration': {'learner': {'delta': 1e-4, 'iterations': 30}}}
    with ResultsFolder(folder) as opened:
        opened.refuse_another_run(WHAT | longer)


def test_a_run_whose_log_is_missing_is_not_begun_again(folder):
    (folder / LOG).unlink()
    before = contents(folder)
    with pytest.raises(ResultsError, match=f'{LOG} is missing although {HEADER} is there'):
        ResultsFolder(folder, WHAT)
    assert contents(folder) == before


def test_a_log_that_was_emptied_is_not_begun_again(folder):
    (folder / LOG).write_bytes(b'')
    before = contents(folder)
    with pytest.raises(ResultsError, match='ends before iteration 0'):
        ResultsFolder(folder, WHAT)
    assert contents(folder) == before


def _removed(log):
    log.unlink()


def _replaced(log):
    other = log.with_name('other')
    other.write_bytes(log.read_bytes())
    other.replace(log)


def _truncated(log):
    os.truncate(log, log.stat().st_size // 2)


def _overwritten(log):
    with log.open('r+b') as stream:
        stream.write(b'[')


@pytest.mark.parametrize('change', [_removed, _replaced, _truncated, _overwritten])
def test_a_log_that_somebody_changes_during_a_run_is_noticed_at_the_next_iteration(folder, change):
    with ResultsFolder(folder) as opened:
        opened.append(record(2))
        change(folder / LOG)
        before = contents(folder)
        with pytest.raises(ResultsError, match='while the run went on'):
            opened.append(record(3), {'accepted': np.arange(4.0)})
        assert contents(folder) == before

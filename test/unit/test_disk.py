"""The door for files: what is refused, and that it is refused before it is taken in."""

import io
import json
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from hmpc_ros import disk, ros_yaml
from hmpc_ros.configuration import files
from hmpc_ros.configuration.weights_file import read_weights
from hmpc_ros.learning.results import ResultsError, read_records
from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.reference.splines import from_file
from hmpc_ros.policy.linear.flight_file import load_flight

READERS = {
    'parameters': files.load,
    'weights': lambda path: read_weights(path, 'abc', 12),
    'model': LinearModel.load,
    'flight': load_flight,
    'reference': from_file,
}
MODEL = {
    'A': np.eye(2), 'B': np.ones((2, 1)), 'c': np.zeros(2), 'hover_input': np.ones(1),
    'time_step': np.array(0.02),
}  # fmt: skip


def fifo(folder):
    os.mkfifo(folder / 'fifo')
    return folder / 'fifo', 'named pipe'


def endless(folder):
    return '/dev/zero', 'a device'


def whole_folder(folder):
    return folder, 'a folder'


def sparse(folder):
    with (folder / 'big').open('wb') as stream:
        stream.truncate(10**9)
    return folder / 'big', 'MB that are allowed'


@pytest.mark.parametrize('make', [fifo, endless, whole_folder, sparse])
@pytest.mark.parametrize('reader', READERS)
def test_what_is_no_file_of_parameters_or_numbers_is_refused_unread(reader, make, tmp_path):
    path, why = make(tmp_path)
    with pytest.raises(ValueError, match=why) as error:
        READERS[reader](path)
    assert str(path) in str(error.value)
    assert 'Errno' not in str(error.value)


def test_a_results_folder_with_a_pipe_in_place_of_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / 'run.json')
    with pytest.raises(ResultsError, match=r'run\.json cannot be read: it is a named pipe'):
        read_records(tmp_path)


@pytest.mark.parametrize(
    ('text', 'why'),
    [
        ('a: ' + '[' * 99_000, 'nested more than'),
        ('a: ' + '{b: ' * 20_000, 'nested more than'),
        ('- ' * 40_000, 'nested more than'),
        ('a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]', 'anchors'),
        ('a: *b', 'anchors'),
        ('a: !!python/object/apply:os.system [ls]', 'tags'),
        ('a: !!float 1', 'tags'),
        ('a: 1\n---\nb: 2', 'second document'),
        ('[a]: 1', 'name must be text'),
        ('a: [', 'line'),
        ('a: "\x07"', 'not allowed|special'),
        ('#' * (ros_yaml.MOST_BYTES + 1), 'are allowed'),
    ],
)
def test_yaml_that_could_grow_or_run_is_refused(text, why, tmp_path):
    with pytest.raises(ros_yaml.YamlError, match=why):
        ros_yaml.read(text)
    (tmp_path / 'w.yaml').write_text(text)
    with pytest.raises(ValueError, match=r'w\.yaml'):
        files.load(tmp_path / 'w.yaml')
    with pytest.raises(ValueError, match=r'w\.yaml'):
        read_weights(tmp_path / 'w.yaml', 'abc', 12)


def _npy(descr, shape):
    """Return the header of an array, without its content."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {'descr': descr, 'fortran_order': False, 'shape': shape}
    )
    return stream.getvalue()


def _zip(path, **members):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f'{name}.npy', content)


@pytest.mark.parametrize(
    ('content', 'why'),
    [
        (_npy('<f8', (1_250_000_000,)), 'claims the shape'),
        (_npy('<f8', (2**40, 2**40)), 'claims the shape'),
        (_npy('<f8', (-1,)), 'claims the shape'),
        (_npy('|O', (1,)) + b'cos\nsystem\n', 'not of plain numbers'),
        (_npy('<c16', (1,)) + bytes(16), 'not of plain numbers'),
        (b'\x93NUMPY\x01\x00\xff\xff' + b'(' * 65535, 'Header'),
        (b'no array', 'magic'),
        (b'', 'magic'),
    ],
    ids=['10 GB', 'huge', 'negative', 'object', 'complex', 'header', 'text', 'empty'],
)
def test_an_array_that_is_not_what_it_claims_is_refused_by_its_header(content, why, tmp_path):
    _zip(tmp_path / 'm.npz', A=content)
    with pytest.raises(ValueError, match=why):
        disk.read_arrays(tmp_path / 'm.npz')
    with pytest.raises(ValueError, match=r'm\.npz is not a readable linear model: '):
        LinearModel.load(tmp_path / 'm.npz')


@pytest.mark.parametrize(
    ('changed', 'why'),
    [
        ({'A': np.ones(4)}, r"'A' has the shape \(4,\); \(any, any\) is needed"),
        ({'time_step': np.ones(3)}, r"'time_step' has the shape \(3,\)"),
        ({'A': np.array([['x', 'y'], ['z', 'w']])}, 'not a readable linear model'),
        ({'A': np.eye(3)}, 'shapes do not fit'),
    ],
)
def test_a_model_of_wrong_rank_or_kind_is_refused_in_a_sentence(changed, why, tmp_path):
    np.savez(tmp_path / 'm.npz', **{**MODEL, **changed})
    with pytest.raises(ValueError, match=why):
        LinearModel.load(tmp_path / 'm.npz')


def test_no_part_of_a_model_file_is_taken_for_a_model(tmp_path):
    whole = disk.pack(MODEL)
    path = tmp_path / 'm.npz'
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r'm\.npz is not a readable'):
            LinearModel.load(path)
    path.write_bytes(whole)
    assert LinearModel.load(path).time_step == 0.02


def test_a_small_file_of_large_arrays_is_refused_before_they_are_unpacked(tmp_path):
    """120 MB of zeros in 120 kB."""
    with (
        zipfile.ZipFile(tmp_path / 'm.npz', 'w', zipfile.ZIP_DEFLATED) as archive,
        archive.open('A.npy', 'w') as stream,
    ):
        stream.write(_npy('<f8', (15_000_000,)))
        for _ in range(120):
            stream.write(bytes(1_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match='MB are allowed'):
            disk.read_arrays(tmp_path / 'm.npz')
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_a_file_is_written_whole_or_not_at_all_and_only_over_a_file(tmp_path):
    path = tmp_path / 'x.json'
    disk.write(path, json.dumps([1]))
    disk.write(path, json.dumps([2]))
    assert json.loads(path.read_text()) == [2]
    assert [file.name for file in tmp_path.iterdir()] == ['x.json']
    (tmp_path / 'link').symlink_to('x.json')
    disk.write(tmp_path / 'link', b'[3]')
    assert (tmp_path / 'link').is_symlink()
    assert path.read_bytes() == b'[3]'
    for target, name in ((tmp_path, 'a folder'), ('/dev/null', 'a device')):
        with pytest.raises(OSError, match=f'it is {name}, not a regular file'):
            disk.write(target, b'')


def test_a_model_is_written_under_the_name_given(tmp_path):
    LinearModel(**{**MODEL, 'time_step': 0.02}).save(tmp_path / 'model')
    assert [file.name for file in tmp_path.iterdir()] == ['model']
    assert LinearModel.load(tmp_path / 'model').time_step == 0.02

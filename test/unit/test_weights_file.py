"""Learned weights as a file that a controller starts from."""

import numpy as np
import pytest
import yaml

from hmpc_ros.configuration import build, files
from hmpc_ros.configuration.weights_file import read_weights, write_weights

rng = np.random.default_rng(4)
POLICY = {
    'policy.q': rng.standard_normal(12).tolist(),
    'policy.r': (1e-7 * rng.standard_normal(4)).tolist(),
    'policy.p': (1e5 * rng.standard_normal(78)).tolist(),
    'policy.slack': [],
    'policy.model': [],
}


@pytest.fixture
def file(tmp_path):
    write_weights(tmp_path / 'w.yaml', POLICY, 'abc', 12, {'k': 3, 'J': 12.5})
    return tmp_path / 'w.yaml'


def test_what_is_read_is_to_the_last_bit_what_was_written(file):
    assert read_weights(file, 'abc', 12) == POLICY
    assert [path.name for path in file.parent.iterdir()] == ['w.yaml']


def test_a_model_that_was_learned_along_comes_along(tmp_path):
    policy = {**POLICY, 'policy.model': rng.standard_normal(204).tolist()}
    write_weights(tmp_path / 'w.yaml', policy, 'abc', 12)
    assert read_weights(tmp_path / 'w.yaml', 'abc', 12) == policy


def test_it_is_an_ordinary_parameter_file(file):
    document = yaml.safe_load(file.read_text())
    assert document['controller']['ros__parameters']['policy']['r'] == POLICY['policy.r']
    assert all('ros__parameters' in node for node in document.values())
    assert document['learned']['ros__parameters']['J'] == 12.5


@pytest.mark.parametrize(
    ('model', 'horizon', 'words'),
    [
        ('other', 12, 'was learned with the model abc, but the controller has the model other'),
        ('abc', 15, 'was learned with a horizon of 12 steps, but the controller has 15'),
    ],
)
def test_weights_of_another_controller_are_refused(file, model, horizon, words):
    with pytest.raises(ValueError, match=words):
        read_weights(file, model, horizon)


def test_a_changed_file_is_refused(file):
    text = file.read_text()
    file.write_text(text.replace('q: [0', 'q: [1').replace('q: [-0', 'q: [-1'))
    assert file.read_text() != text
    with pytest.raises(ValueError, match='its checksum is wrong'):
        read_weights(file, 'abc', 12)


@pytest.mark.parametrize('share', [0.0, 0.3, 0.7, 0.95])
def test_a_part_of_a_file_is_refused(file, share):
    text = file.read_text()
    file.write_text(text[: int(share * len(text))])
    with pytest.raises(ValueError, match=r'is no weights file, or only a part of one'):
        read_weights(file, 'abc', 12)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r'nothing.yaml cannot be read: No such file'):
        read_weights(tmp_path / 'nothing.yaml', 'abc', 12)


def test_a_file_that_cannot_be_written_leaves_the_old_one(file, monkeypatch):
    before = file.read_bytes()

    def full(_fd):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(OSError, match='No space left'):
        write_weights(file, {**POLICY, 'policy.q': [9.0] * 12}, 'abc', 12)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ['w.yaml']


def test_a_configuration_takes_the_weights_of_its_file(tmp_path):
    controller = files.load(None)['controller']
    source = build.model(controller)
    model = (1.01 * source.entries).tolist()
    policy = {**POLICY, 'policy.model': model}
    write_weights(tmp_path / 'w.yaml', policy, source.identity, 12)
    started = build.started({**controller, 'weights_file': str(tmp_path / 'w.yaml')})
    assert {name: started[name] for name in policy} == policy
    np.testing.assert_array_equal(build.flying_model(started).entries, model)
    assert build.started(controller) is controller

"""Parameters are declared once and checked; files and overrides are refused with a reason."""

import math

import numpy as np
import pytest

from hmpc_ros.configuration import build, files, learner
from hmpc_ros.configuration.schema import Parameter
from hmpc_ros.configuration.tables import CONTROLLER, TABLES
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.share import config_dir

# the files of vehicles/ are no parameter files
PARAMETER_FILES = sorted(p for p in config_dir().rglob('*.yaml') if p.parent.name != 'vehicles')


def test_every_default_is_valid_and_described():
    for node, declared in TABLES.items():
        for name, parameter in declared.items():
            assert parameter.name == name
            assert parameter.description, f'{node}.{name}'
            assert parameter.validate(parameter.default) == parameter.default


@pytest.mark.parametrize('path', PARAMETER_FILES, ids=lambda p: p.name)
def test_shipped_files_can_be_read(path):
    configuration = files.load(path)
    vehicle = build.vehicle(configuration['simulator'])
    assert vehicle.state.shape == (12,)
    build.goal(configuration['controller'])
    build.limits(configuration['controller'])


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('policy.q', [1.0] * 11, 'needs 12 values, got 11'),
        ('policy.q', [math.nan] + [1.0] * 11, 'must be finite'),
        ('policy.q', 'abc', 'needs a list'),
        ('policy.r', ['a'] * 4, 'needs a number'),
        ('policy.p', [1.0], 'needs 78 values'),
        ('horizon', 2.5, 'needs an integer'),
        ('horizon', 0, 'at least 1'),
        ('limits.rotor_min', -3.0, 'at least 0 rad/s'),
        ('max_tilt', 2.0, 'at most 1.5 rad'),
        ('model.source', 'guess', 'one of hover, file, identified'),
        ('autostart', 1, 'true or false'),
    ],
)
def test_wrong_values_are_refused_with_the_reason(name, value, message):
    with pytest.raises(ValueError, match=message):
        CONTROLLER[name].validate(value)


def test_integers_serve_as_numbers_and_nothing_else_is_converted():
    assert CONTROLLER['goal.yaw'].validate(1) == 1.0
    assert type(CONTROLLER['goal.yaw'].validate(np.float64(1))) is float
    with pytest.raises(ValueError, match='a number'):
        CONTROLLER['goal.yaw'].validate(True)
    with pytest.raises(ValueError, match='a number'):
        CONTROLLER['goal.yaw'].validate('1')


def test_empty_list_is_only_allowed_where_it_means_something():
    assert CONTROLLER['policy.p'].validate([]) == []
    with pytest.raises(ValueError, match='needs 12 values'):
        CONTROLLER['policy.q'].validate([])


def test_overrides_win_over_the_file_and_wildcards_reach_every_node(tmp_path):
    path = tmp_path / 'run.yaml'
    path.write_text(
        '/**:\n  ros__parameters:\n    vehicle: {mass: 0.5}\n'
        'controller:\n  ros__parameters:\n    goal: {position: [1, 2, 3], yaw: 0.5}\n'
        "    model: {file: 'here.npz'}\n"
    )
    configuration = files.load(path, ['controller.goal.yaw=0.25', 'simulator.seed=4'])
    assert configuration['simulator']['vehicle.mass'] == 0.5
    assert configuration['controller']['vehicle.mass'] == 0.5
    assert build.goal(configuration['controller']).position == (1.0, 2.0, 3.0)
    assert configuration['controller']['goal.yaw'] == 0.25
    assert configuration['simulator']['seed'] == 4
    assert configuration['controller']['model.file'] == str(tmp_path / 'here.npz')


@pytest.mark.parametrize(
    ('override', 'message'),
    [
        ('nonsense', 'not of the form'),
        ('plane.mass=1', "no node 'plane'"),
        ('controller.polic.q=1', "did you mean 'policy.q'"),
        ('controller.horizon=[', 'not YAML'),
    ],
)
def test_wrong_overrides_are_refused(override, message):
    with pytest.raises(ValueError, match=message):
        files.load(None, [override])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a: [', 'not a YAML file'),
        ('just text', 'not a ROS 2 parameter file'),
        ('controller: {goal: 1}', 'no ros__parameters'),
    ],
)
def test_wrong_files_are_refused_by_name(tmp_path, text, message):
    path = tmp_path / 'broken.yaml'
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        files.load(path)
    assert 'broken.yaml' in str(error.value)
    with pytest.raises(ValueError, match='absent'):
        files.load(tmp_path / 'absent.yaml')


def test_empty_terminal_weight_is_computed_for_the_model():
    values = files.load()['controller']
    model = build.model(values)
    weights = build.weights(values, model)
    assert weights.p.shape == (78,)
    assert weights.p[0] == pytest.approx(4.35649728)


def test_what_is_kept_with_results_is_given_to_the_nodes_whole():
    words = ['learner.iterations=7', f'controller.policy.q={[2.0] * 12}']
    kept = files.load(None, words).nodes
    given = files.from_values({n: kept[n] for n in ('controller', 'learner')}, ['learner.seed=3'])
    values = given.besides_file()
    assert values['learner']['iterations'] == 7
    assert values['learner']['seed'] == 3
    assert values['controller']['policy.q'] == [2.0] * 12
    assert 'policy.p' not in values['controller']  # an empty list: its default
    assert values['simulator'] == {}


def test_a_vehicle_or_model_of_the_same_values_is_built_once():
    values = files.load(None, ['controller.model.source=identified'])
    simulator, controller = values['simulator'], values['controller']
    flown = build.vehicle(simulator).quadcopter
    assert build.vehicle({**simulator, 'gust_std': 0.1, 'seed': 3}).quadcopter is flown
    assert build.vehicle({**simulator, 'vehicle.mass': 0.5}).quadcopter is not flown
    assert build.model(controller) is build.model(dict(controller))
    for change in ({'limits.rotor_max': 640.0}, {'model.seed': 1}, {'vehicle.mass': 0.45}):
        assert not build.model({**controller, **change}).same_as(build.model(controller))


def test_model_files_are_refused_by_reason(tmp_path):
    values = files.load(None, ['controller.model.source=file'])['controller']
    with pytest.raises(ValueError, match=r'model\.file names none'):
        build.model(values)
    build.model(files.load()['controller']).save(tmp_path / 'model.npz')
    overrides = ['controller.model.source=file', 'controller.time_step=0.05']
    overrides.append(f'controller.model.file={tmp_path}/model.npz')
    with pytest.raises(ValueError, match='time step'):
        build.model(files.load(None, overrides)['controller'])


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'tasks.goals': [1.0, 2.0, 3.0]}, 'x, y, z and yaw of each, got 3'),
        ({'tasks.goals': [1.0] * 8, 'tasks.starts': [0.0] * 4}, '2 tasks, but tasks.starts 1'),
        ({'tasks.starts': [0.0] * 8, 'rule': 'paper'}, 'trust_region, not paper'),
    ],
)
def test_tasks_that_do_not_go_together_are_refused_offline_and_over_ros(values, message):
    configuration = files.load(None, [f'learner.{name}={value}' for name, value in values.items()])
    with pytest.raises(ValueError, match=message):
        learner.check(configuration['learner'])
    with pytest.raises(ValueError, match=message):
        learner.offline_training(configuration)


def test_tasks_share_what_they_have_none_of_their_own_of():
    goals = [1.0, 2.0, 3.0, 0.5, -1.0, 0.0, 0.0, 0.0]
    values = files.load(None, [f'learner.tasks.goals={goals}'])['learner']
    first, second = learner.tasks(values, Goal(), (0.1,) * 12)
    assert first.goal == Goal((1.0, 2.0, 3.0), 0.5)
    assert second.goal == Goal((-1.0, 0.0, 0.0), 0.0)
    assert first.start == second.start == (0.1,) * 12


def test_parameter_bounds_hold_for_each_entry():
    parameter = Parameter('x', [1.0, 1.0], 'two', lower=0.0, length=2)
    with pytest.raises(ValueError, match='at least 0'):
        parameter.validate([1.0, -1.0])

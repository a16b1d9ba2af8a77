"""Whatever happens to a learning run, nothing accepted is lost and the controller flies on.

Every test ends with the numbers of a run that nothing happened to, or with a sentence that says
what did.
"""

import os
import signal
from contextlib import ExitStack
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from learning_graph import LearningGraph, assert_same_run, offline_records
from rich.console import Console
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from hmpc_ros.cli.live import view
from hmpc_ros.ros.conversions import new_rotor_command
from hmpc_ros.ros.graph import NodeSpec
from hmpc_ros.share import config_dir

pytestmark = pytest.mark.system

SHORT = {'learner': {'iterations': 4}}


@pytest.fixture
def graph(tmp_path: Path):
    """Return a function that makes a graph; its processes are gone after the test."""
    os.environ['FASTDDS_DEFAULT_PROFILES_FILE'] = str(config_dir() / 'fastdds_discovery.xml')
    with ExitStack() as stack:

        def make(**parameters) -> LearningGraph:
            given = {name: dict(values) for name, values in SHORT.items()}
            for name, values in parameters.items():
                given.setdefault(name, {}).update(values)
            return LearningGraph(tmp_path / 'run', stack, **given)

        yield make


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Return the records of a run that nothing happens to."""
    return offline_records(tmp_path_factory.mktemp('offline') / 'run', **SHORT)


def assert_whole(graph: LearningGraph, unbroken: list[dict]) -> None:
    graph.until_done()
    assert_same_run(graph.records(), unbroken)
    best = min(graph.records(), key=lambda record: record['J'])
    graph.until_kept(np.array(best['theta']))
    graph.until_flying()


@pytest.mark.parametrize('purpose', ['nominal', 'perturbed'])
def test_a_learner_killed_in_flight_leaves_nothing_on_trial_and_resumes(
    graph, unbroken, purpose: str
):
    graph = graph().held_in(purpose, after=3).start()
    graph.until_held()
    accepted = graph.accepted_theta()
    graph.kill('learner')
    graph.until_kept(accepted)
    assert 'the lease of the weights on trial ran out' in graph.output('controller')
    graph.until_flying()
    graph.through('hmpc_ros.ros.learner_node').start('learner')
    assert_whole(graph, unbroken)


def test_a_learner_killed_between_gradient_and_hand_over_loses_no_iteration(graph, unbroken):
    graph = graph().through('hurt_learner', HMPC_TEST_HURT='die_before_hand_over:2').start()
    graph.until(lambda: not graph.alive('learner'), 'the learner to die')
    assert graph.records()[-1]['k'] == 2
    before = np.array(graph.records()[-2]['theta'])
    graph.until_kept(before)  # the last that it was handed
    graph.until_flying()
    graph.through('hmpc_ros.ros.learner_node').start('learner')
    assert_whole(graph, unbroken)


def test_a_learner_that_hangs_loses_the_lease_and_flies_again_when_it_wakes(graph, unbroken):
    graph = graph().held_in('perturbed', after=3).start()
    graph.until_held()
    graph.until_kept(graph.accepted_theta())
    graph.until_flying()
    graph.signal('learner', signal.SIGCONT)
    assert_whole(graph, unbroken)


def test_a_simulator_that_is_killed_and_restarted_only_costs_time(graph, unbroken):
    graph = graph(learner={'stall_timeout': 1.0, 'service_timeout': 1.0})
    graph.held_in('perturbed', after=3).start()
    graph.until_held()
    graph.kill('simulator')
    graph.signal('learner', signal.SIGCONT)
    graph.until(lambda: graph.state == 'waiting', 'the learner to wait')
    graph.start('simulator')
    assert_whole(graph, unbroken)
    assert graph.monitor.progress.repeats >= 1


def test_a_controller_that_is_killed_and_restarted_is_given_the_accepted_weights(graph, unbroken):
    graph = graph(learner={'stall_timeout': 1.0, 'service_timeout': 1.0})
    graph.held_in('nominal', after=3).start()
    graph.until_held()
    graph.kill('controller')
    graph.signal('learner', signal.SIGCONT)
    graph.until(lambda: graph.state == 'waiting', 'the learner to wait')
    graph.start('controller')
    assert_whole(graph, unbroken)


@pytest.mark.parametrize('kind', ['drop:0.05', 'repeat:0.2'])
def test_lost_repeated_and_reordered_odometry_does_not_change_what_is_learned(
    graph, unbroken, kind: str
):
    os.environ['HMPC_TEST_RELAY'] = kind
    graph = graph().remap('simulator', ('odom', 'odom_true'))
    graph.add(NodeSpec('relay', 'relay', 'relay')).through('relay', 'relay').start()
    assert_whole(graph, unbroken)
    if kind.startswith('drop'):
        assert 'dropped 20' in graph.output('relay')


def test_weights_pushed_by_hand_are_refused_or_cost_a_flight_and_change_nothing(graph, unbroken):
    # Held in a flight, under a lease longer than the test: the weights are on trial meanwhile.
    graph = graph(learner={'iterations': 4, 'lease': 60.0}).held_in('nominal', after=1).start()
    graph.until_held()
    whole = {'r': [0.1] * 4, 'p': [0.0] * 78, 'slack': [], 'model': [], 'lease': 0.0}
    refused = graph.set_policy(q=[float('nan')] * 12, **whole)
    assert not refused.successful
    assert 'policy.q must be finite' in refused.reason
    # Nor does a stranger make the weights on trial stay, or keep them for an hour.
    for partly in ({'q': [1.0] * 12}, {'q': [1.0] * 12, 'lease': 0.0}, {'lease': 3600.0}):
        refused = graph.set_policy(**partly)
        assert not refused.successful
        assert 'the present weights are on trial' in refused.reason
    assert not graph.set_policy(lease=0.0).successful
    graph.signal('learner', signal.SIGCONT)
    # In the middle of a flight, and so far from everything that it would be seen in the costs.
    graph.until_flight('nominal', after=3)
    pushed = graph.set_policy(q=[-3.0] * 12, **whole)
    assert pushed.successful, pushed.reason
    assert_whole(graph, unbroken)
    assert 'somebody else sets' in graph.output('learner')


@pytest.mark.parametrize(
    ('name', 'other'), [('goal.position', [3.0, 3.0, 1.0]), ('limits.velocity', [0.5] * 3)]
)
def test_what_is_changed_and_changed_back_within_a_flight_costs_the_flight(
    graph, unbroken, name: str, other: list
):
    graph = graph(learner={'max_repeats': 1000}).start()
    (before,) = (graph.until_flight('nominal'), graph.ask(name))[1]
    while 'and changed back: somebody else sets them' not in graph.output('learner'):
        assert graph.state != 'done'
        heard = graph.states
        graph.until(lambda since=heard: graph.states > since + 5, 'some steps of a flight')
        for value in (other, before):
            assert graph.set({name: value}).successful
        graph.monitor.listen(0.1)
    assert_whole(graph, unbroken)
    assert graph.monitor.progress.repeats >= 1


def test_a_reset_by_somebody_else_within_a_flight_costs_the_flight(graph, unbroken):
    graph = graph(learner={'max_repeats': 1000}).start()
    graph.until_flight('nominal')
    reset = graph.monitor.node.create_client(Trigger, 'simulator/reset')
    while 'did somebody else reset the simulator' not in graph.output('learner'):
        assert graph.state != 'done'
        heard = graph.states
        graph.until(lambda since=heard: graph.states > since + 5, 'some steps of a flight')
        assert graph.call(reset, Trigger.Request()).success
        graph.monitor.listen(0.1)
    assert_whole(graph, unbroken)
    assert graph.monitor.progress.repeats >= 1
    assert graph.monitor.progress.unsafe_flights == 0


def test_odometry_in_a_frame_that_the_controller_does_not_take_is_waited_for_with_a_word(graph):
    graph = graph(simulator={'frame_id': 'odom'}).start()
    words = "waiting for odometry in 'map', the controller's frame_id; it is in 'odom'"
    graph.until(
        lambda: graph.monitor.progress is not None and words in graph.monitor.progress.message,
        'the learner to say so',
    )


@pytest.mark.parametrize(
    'who', [pytest.param('a publisher', marks=pytest.mark.long), 'another controller']
)
def test_somebody_else_who_commands_the_vehicle_is_named_and_waited_for(graph, unbroken, who: str):
    graph = graph().held_in('nominal', after=1).start()
    graph.until_held()
    node = graph.monitor.node
    if who == 'a publisher':
        publisher = node.create_publisher(JointState, 'rotor_command', 10)
        rival = f'/controller, /{node.get_name()}'
        # A spin that the vehicle would fly if it were paced, and that no flight records.
        timer = node.create_timer(0.01, lambda: publisher.publish(new_rotor_command()))
    else:
        graph.specs['twin'] = graph.specs['controller']
        graph.start('twin')
        rival = '/controller, /controller'
    graph.until(lambda: node.count_publishers('rotor_command') == 2, 'the second publisher')
    graph.signal('learner', signal.SIGCONT)
    words = f'several nodes publish on /rotor_command: {rival}'
    graph.until(lambda: words in graph.monitor.progress.message, 'the learner to wait')
    assert graph.state == 'waiting'
    graph.until_stopped(words)
    screen = Console(file=StringIO(), width=300)
    screen.print(view(graph.monitor.progress, graph.monitor.history))
    assert words in screen.file.getvalue()  # what hmpc watch shows
    if who == 'a publisher':
        node.destroy_timer(timer)
        node.destroy_publisher(publisher)
    else:
        graph.runners['twin'].stop()
    assert graph.call_learner('start').success
    graph.until(lambda: graph.state != 'stopped', 'learning to go on')
    assert_whole(graph, unbroken)
    assert graph.monitor.progress.unsafe_flights == 0


@pytest.mark.parametrize(
    ('kind', 'words'),
    [
        ('wrong_number', 'was to begin flight 3 and began 1003, with other noise'),
        ('refuses', 'the simulator refused next_flight: not today'),
    ],
)
def test_a_flight_with_the_wrong_noise_is_not_learned_from(graph, kind: str, words: str):
    graph = graph(learner={'max_repeats': 2})
    graph.through('hurt_simulator', 'simulator', HMPC_TEST_HURT=f'{kind}:3').start()
    graph.until_stopped(words)
    assert [record['flights'] for record in graph.records()] == [1, 3]
    graph.until_kept(graph.accepted_theta())
    graph.until_flying()


def test_of_two_learners_the_second_gives_way(graph, unbroken, tmp_path: Path):
    graph = graph(learner={'iterations': 12}).start()
    graph.until_flight('nominal')
    spec = graph.specs['learner']
    other = dict(spec.parameters, results=str(tmp_path / 'other'))
    graph.add(replace(spec, name='second', parameters=other)).start('second')
    graph.until_output('second', 'another learner is at work')
    graph.until(lambda: len(graph.records()) >= len(unbroken), 'the first to go on')
    assert_same_run(graph.records()[:4], unbroken[:4])


def test_a_results_file_cut_by_a_crash_costs_one_iteration(graph, unbroken):
    graph = graph().held_in('nominal', after=3).start()
    graph.until_held()
    graph.kill('learner')
    log = graph.results / 'iterations.jsonl'
    content = log.read_bytes()
    log.write_bytes(content[:-40])
    graph.through('hmpc_ros.ros.learner_node').start('learner')
    assert_whole(graph, unbroken)


def test_a_damaged_results_folder_is_left_alone_and_the_flight_goes_on(graph):
    graph = graph().held_in('nominal', after=3).start()
    graph.until_held()
    graph.kill('learner')
    accepted = graph.accepted_theta()
    log = graph.results / 'iterations.jsonl'
    content = log.read_bytes().replace(b'"J": 1', b'"J": 2', 1)
    log.write_bytes(content)
    graph.through('hmpc_ros.ros.learner_node').start('learner')
    graph.until_stopped('iterations.jsonl is damaged: line 1 does not match its checksum')
    assert log.read_bytes() == content
    graph.until_kept(accepted)
    graph.until_flying()


def test_a_full_disk_is_said_clearly_and_learning_goes_on_once_there_is_room(
    graph, unbroken, tmp_path: Path
):
    room = tmp_path / 'room'
    graph = graph().through(
        'hurt_learner', HMPC_TEST_HURT='full_disk:2', HMPC_TEST_SPACE=str(room)
    ).start()
    graph.until_stopped('iterations.jsonl cannot be written')
    graph.until_kept(np.array(graph.records()[-1]['theta']))
    graph.until_flying()
    room.touch()
    assert graph.call_learner('start').success
    assert_whole(graph, unbroken)


def test_a_mistake_in_the_program_ends_learning_and_not_the_process(graph):
    graph = graph().through('hurt_learner', HMPC_TEST_HURT='mistake:2').start()
    graph.until_stopped('a mistake in the program: RuntimeError: nobody thought of this')
    graph.until_output('learner', 'Traceback (most recent call last)')
    graph.until_kept(graph.accepted_theta())
    graph.until_flying()
    assert graph.alive('learner')


def test_a_folder_that_cannot_be_written_is_said_before_the_first_flight(graph):
    graph = graph(learner={'results': '/proc/self/results'}).start()  # for root, too
    graph.until_stopped('/proc/self/results')
    start, lease = graph.policy()
    assert lease == 0.0
    assert len(start) == 16  # the terminal weight still is the Riccati equation's


def test_a_clock_that_jumps_does_not_matter(graph, unbroken):
    from rclpy.qos import QoSProfile
    from rosgraph_msgs.msg import Clock

    graph = graph()
    for name in ('controller', 'learner'):
        graph.specs[name].parameters['use_sim_time'] = True
    graph.start()
    publisher = graph.monitor.node.create_publisher(Clock, '/clock', QoSProfile(depth=10))
    graph.until_flight('perturbed')
    # In whichever flights it happens: on a slow machine some are over before they are heard of.
    jumps = 0
    while graph.state not in ('done', 'stopped'):
        jump = Clock()
        jump.clock.sec = (10_000_000, 0)[jumps % 2]
        publisher.publish(jump)
        jumps += 1
        graph.monitor.listen(0.1)
    assert jumps > 2
    assert_whole(graph, unbroken)


def test_an_unsafe_flight_is_cut_short_and_the_accepted_weights_are_back(graph, tmp_path):
    # Perturbations this long throw the vehicle about: the envelope is a little wider than what the
    # nominal flights need.
    wild = {
        'iterations': 2,
        'estimator': 'zeroth_order',
        'directions': 3,
        'delta': 20.0,
        'envelope.position': 6.1,
        'envelope.violation': 0.6,
    }
    expected = offline_records(tmp_path / 'offline', learner=wild)
    assert sum(record['unsafe_flights'] for record in expected) > 0
    graph = graph(learner=wild).start()
    graph.until_output('learner', 'is unsafe: cut short at step')
    assert_whole(graph, expected)
    assert graph.monitor.progress.unsafe_flights == sum(r['unsafe_flights'] for r in expected)

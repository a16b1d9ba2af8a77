"""``make px4-sitl``: what it says, measures and writes, on a program that can be taken for PX4."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('pymavlink', reason='an extra: pip install pymavlink')

import message_packages
import px4_messages
import px4_pilot
import px4_sitl
import scripted_px4
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path as PathMessage

from hmpc_ros.ros.conversions import set_stamp

pytestmark = pytest.mark.system


def test_it_says_what_is_missing(tmp_path, capsys):
    def refused(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            px4_sitl.read_arguments(list(words))
        assert ended.value.code == 2
        return capsys.readouterr().err

    assert 'PX4_BINARY is not given' in refused('--binary', '')
    assert 'there is no program /nowhere/px4' in refused('--binary', '/nowhere/px4')
    program = scripted_px4.install(tmp_path / 'build/a')
    assert px4_sitl.read_arguments(['--binary', str(program)]).binary == str(program)
    assert 'no program /nowhere/agent' in refused(
        '--binary', str(program), '--agent', '/nowhere/agent'
    )
    assert f'there is no {tmp_path}/msg' in refused(
        '--binary', str(program), '--agent', sys.executable
    )
    (tmp_path / 'build/a' / px4_pilot.AIRFRAME).unlink()
    assert '10040_sihsim_quadx' in refused('--binary', str(program))


def test_messages_have_the_fields_of_the_definitions(tmp_path):
    (tmp_path / 'versioned').mkdir()
    for name in message_packages.PX4.messages:
        (tmp_path / f'{name}.msg').write_text('uint64 timestamp\t# time\n\n# a comment\n')
    (tmp_path / 'versioned/VehicleStatus.msg').write_text(
        'uint32 MESSAGE_VERSION = 3\nuint8 ARMED = 2 # armed\nfloat32[3]  velocity # [m/s]\n'
    )
    package = px4_messages.messages_of(tmp_path)
    assert package.messages['VehicleStatus'] == 'float32[3] velocity'
    assert package.versions['VehicleStatus'] == 3
    assert package.messages['VehicleCommand'] == 'uint64 timestamp'
    assert package.versions['VehicleCommand'] == 0


def test_errors_are_those_of_the_counted_part():
    reference = px4_sitl.eight(1.0)
    times = 100.0 + np.arange(0.0, 12.0, 0.01)
    places = reference.sample(times - 100.0).position + [0.3, 0.0, -0.4]
    places[times < 103.0] += 5.0
    found = px4_pilot.errors(np.column_stack([times, places]), reference, 100.0, 3.0, 12.0)
    assert found.rmse == pytest.approx(0.5)
    assert found.largest == pytest.approx(0.5)
    assert found.axes == pytest.approx((0.3, 0.0, 0.4))
    assert found.offset == pytest.approx((0.3, 0.0, -0.4))
    with pytest.raises(px4_pilot.Px4Error, match='nothing was recorded'):
        px4_pilot.errors(np.column_stack([times, places]), reference, 300.0, 3.0, 12.0)


@pytest.mark.parametrize('zero', [1000.0, 1001.37, 999.2])
def test_the_beginning_of_a_trajectory_is_found_in_what_the_controller_flies(zero):
    reference = px4_sitl.eight(1.4142)
    path = PathMessage()
    for stamp in 1000.0 + 0.05 * np.arange(300):
        pose = PoseStamped()
        set_stamp(pose.header.stamp, round(1e9 * stamp))
        at = pose.pose.position
        at.x, at.y, at.z = reference.sample(np.array([stamp - zero])).position[0].tolist()
        path.poses.append(pose)
    assert px4_sitl.begin_of(reference, path) == pytest.approx(zero, abs=1e-3)
    with pytest.raises(px4_pilot.Px4Error, match='another path'):
        px4_sitl.begin_of(px4_sitl.eight(0.7), path)


@pytest.mark.long
def test_it_flies_hovers_engages_kills_and_ends_all_that_it_began(tmp_path):
    pytest.importorskip('acados', reason='the controller solves with acados')
    program = scripted_px4.install(tmp_path / 'px4')
    out = tmp_path / 'out'
    words = [
        sys.executable, str(Path(px4_sitl.__file__)), '--binary', str(program), '--out', str(out),
        '--repeat', '1', '--engagements', '2', '--parts', 'hover', 'eights', 'engagements', 'kills',
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((out / 'px4_sitl.json').read_text())
    assert result['px4'].startswith('1.17.0')
    flown = result['MAVLink']
    assert flown['hover']['ours']['estimate']['rmse'] < 0.05
    # Its own controller is 0.15 s behind its targets.
    late = flown[px4_sitl.FAST]['PX4']
    assert late['estimate']['rmse'] == pytest.approx(0.15 * 2.0, rel=0.4)
    assert late['truth']['rmse'] == pytest.approx(late['estimate']['rmse'], abs=0.02)
    assert flown[px4_sitl.FAST]['ours']['estimate']['rmse'] < 0.2
    assert late['drift']['rmse'] < 0.02  # its estimate is the truth
    page = (out / 'px4.md').read_text()
    assert f'| MAVLink | {px4_sitl.FAST} | ours | 1 |' in page
    assert '* 2 of 2 take-overs in a row' in page
    assert '`kill -9` of the controller in flight: PX4 in hold' in page
    assert flown['engagements'] == pytest.approx(
        {'asked': 2, 'flown': 2, 'largest_distance_m': 0.0}, abs=0.3
    )
    for victim in ('controller', 'mavlink_adapter'):
        assert flown['killed'][victim]['PX4 went to'] == 'hold'
        assert not flown['killed'][victim]['engaged_again']
    assert (out / 'mavlink_adapter.png').stat().st_size > 10_000
    running = [path.read_bytes() for path in Path('/proc').glob('[0-9]*/cmdline') if path.exists()]
    assert not [words for words in running if str(tmp_path).encode() in words]

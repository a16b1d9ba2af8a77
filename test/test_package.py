"""The package as a whole: one version, its data found, its executables importable by name."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import hmpc_ros
from hmpc_ros import share

ROOT = Path(__file__).resolve().parent.parent


def package_xml() -> ElementTree.Element:
    return ElementTree.parse(ROOT / 'package.xml').getroot()


def test_the_version_is_the_same_everywhere():
    assert package_xml().findtext('version') == hmpc_ros.__version__
    # Literally, as catkin_prepare_release replaces it.
    assert f"version='{hmpc_ros.__version__}'," in (ROOT / 'setup.py').read_text('utf-8')


def test_every_ros_package_imported_is_a_dependency_in_package_xml():
    imports = re.compile(r'^\s*(?:from|import) (\w+(?:_msgs|_srvs|_interfaces)|rclpy|launch\w*)\b')
    declared = {element.text for element in package_xml() if element.tag.endswith('depend')}
    files = [*(ROOT / 'hmpc_ros').rglob('*.py'), *(ROOT / 'launch').rglob('*.py')]
    used = {
        match.group(1)
        for path in files
        for line in path.read_text(encoding='utf-8').splitlines()
        if (match := imports.match(line))
    }
    # Installed by who flies PX4, MAVROS or Crazyswarm2, in the release of the vehicle; each is
    # imported by its adapter alone, which says so where it is missing.
    assert used - declared == {'crazyflie_interfaces', 'mavros_msgs', 'px4_msgs'}


def test_nothing_outside_the_room_ros_imports_rclpy():
    for room in ('plant', 'policy', 'learning'):
        for path in (ROOT / 'hmpc_ros' / room).rglob('*.py'):
            found = re.search(r'^\s*(from|import) rclpy', path.read_text('utf-8'), re.MULTILINE)
            assert not found, f'{path.relative_to(ROOT)} imports rclpy'


def test_in_a_checkout_the_data_is_read_from_the_checkout():
    assert share.config_dir() == ROOT / 'config'
    assert share.launch_dir() == ROOT / 'launch'


@pytest.fixture
def installed(tmp_path):
    """Lay the module out as an installation does, away from the checkout; ask it in a process."""
    prefix = tmp_path / 'prefix'
    package = prefix / 'lib' / 'python3.11' / 'site-packages' / 'hmpc_ros'
    package.mkdir(parents=True)
    shutil.copy(ROOT / 'hmpc_ros' / 'share.py', package)
    (package / '__init__.py').touch()

    def ask(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, '-c', 'from hmpc_ros import share; print(share.config_dir())'],
            cwd=tmp_path,
            env={**os.environ, 'PYTHONPATH': str(package.parent), **environment},
            capture_output=True,
            text=True,
        )

    return prefix, ask


def test_an_installation_finds_its_data_below_its_own_prefix(installed):
    prefix, ask = installed
    config = prefix / 'share' / 'hmpc_ros' / 'config'
    config.mkdir(parents=True)
    assert ask().stdout.strip() == str(config)


def test_a_sourced_workspace_is_searched_through_the_ament_prefix_path(installed, tmp_path):
    _, ask = installed
    config = tmp_path / 'workspace' / 'share' / 'hmpc_ros' / 'config'
    config.mkdir(parents=True)
    found = ask(AMENT_PREFIX_PATH=f'{tmp_path}/absent{os.pathsep}{tmp_path}/workspace')
    assert found.stdout.strip() == str(config)


def test_colcon_installs_the_executables_where_ros2_run_looks():
    setup_cfg = configparser.ConfigParser()
    setup_cfg.read(ROOT / 'setup.cfg')
    assert setup_cfg['install']['install_scripts'] == '$base/lib/hmpc_ros'
    assert setup_cfg['develop']['script_dir'] == '$base/lib/hmpc_ros'


def test_every_ros_wheel_is_pinned_exactly():
    for distro in ('kilted', 'jazzy'):
        lines = (ROOT / 'requirements' / f'constraints-{distro}.txt').read_text().splitlines()
        pins = {line for line in lines if line and not line.startswith('#')}
        assert all(re.fullmatch(r'ros-[a-z0-9-]+==[0-9][0-9.]*', pin) for pin in pins)
        wanted = (ROOT / 'requirements' / f'ros-{distro}.txt').read_text().splitlines()
        for line in wanted:
            assert line.startswith('#') or re.sub(r'\[.*\]', '', line) in pins


def test_no_dataclass_of_arrays_compares_by_value():
    # numpy has no truth value for such a comparison: it would raise instead of answering.
    root = Path(hmpc_ros.__file__).parent
    for file in root.rglob('*.py'):
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            if not isinstance(node, ast.ClassDef):
                continue
            kinds = [ast.unparse(d) for d in node.decorator_list if 'dataclass' in ast.unparse(d)]
            types = [ast.unparse(b.annotation) for b in node.body if isinstance(b, ast.AnnAssign)]
            if kinds and any('NDArray' in each or 'ndarray' in each for each in types):
                assert 'eq=False' in kinds[0], f'{file.name}: {node.name}'

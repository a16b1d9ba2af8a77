"""Builds and installs hmpc_ros, with colcon (ament_python) or with pip."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = 'hmpc_ros'
HERE = Path(__file__).resolve().parent


def shared_files() -> list[tuple[str, list[str]]]:
    """List what goes to share/hmpc_ros: every file below config/ and launch/, tree and all."""
    folders: dict[str, list[str]] = {}
    for top in ('config', 'launch'):
        for path in sorted((HERE / top).rglob('*')):
            kinds = {'.yaml', '.rviz', '.xml', '.json', '.py'}
            if path.suffix in kinds and '__pycache__' not in path.parts:
                relative = path.relative_to(HERE)
                folders.setdefault(f'share/{NAME}/{relative.parent}', []).append(str(relative))
    return list(folders.items())


setup(
    name=NAME,
    version='0.1.0',  # catkin_prepare_release looks for it here
    description='Hybrid-gradient policy optimisation for model predictive control, on ROS 2',
    license='Apache-2.0',
    maintainer='hmpc_ros maintainers',
    maintainer_email='maintainers@users.noreply.b-seed-14a5f4af.example',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['py.typed', '**/*.xml']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        *shared_files(),
    ],
    zip_safe=False,
    python_requires='>=3.11',
    # ROS packages and acados come from the system or from requirements/, never through this list:
    # pip must not replace the numpy or rclpy of a sourced ROS by its own.
    install_requires=['setuptools'],
    extras_require={
        'test': ['pytest', 'pytest-timeout'],  # tells `colcon test` to run pytest
        'mavlink': ['pymavlink'],  # for the node mavlink_adapter
        'compare': ['cma', 'bayesian-optimization'],  # for hmpc benchmark --cases tracking
        'web': ['viser'],  # for the page of hmpc watch --web
    },
    entry_points={
        'console_scripts': [
            f'simulator = {NAME}.ros.simulator_node:main',
            f'controller = {NAME}.ros.controller_node:main',
            f'visualizer = {NAME}.ros.visualizer_node:main',
            f'web = {NAME}.ros.web_node:main',
            f'learner = {NAME}.ros.learner_node:main',
            f'mavlink_adapter = {NAME}.ros.mavlink_adapter_node:main',
            f'mavros_adapter = {NAME}.ros.mavros_adapter_node:main',
            f'px4_adapter = {NAME}.ros.px4_adapter_node:main',
            f'crazyflie_adapter = {NAME}.ros.crazyflie_adapter_node:main',
            f'hmpc = {NAME}.cli.main:main',
        ],
    },
)

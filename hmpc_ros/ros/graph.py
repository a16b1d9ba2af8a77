"""What is started for a flight, as plain data: read by the launch file and by the local runner.

Nothing here imports rclpy or launch, so that the two ways of starting the nodes cannot drift apart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hmpc_ros.share import config_dir

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration

ParameterValue = bool | int | float | str | Sequence[float] | Sequence[str]

# Where the nodes that are not ours come from, and what to install when they are missing.
RVIZ_PACKAGE = 'rviz2'

#: Of a controller in lockstep: whoever waits for an answer is not late.
PATIENT: Mapping[str, ParameterValue] = {'state_timeout': 600.0}


@dataclass(frozen=True)
class NodeSpec:
    """One process of the graph."""

    executable: str  #: name for ``ros2 run``
    #: Python module with the same ``main()``, for a machine without ``ros2 run``; empty for a
    #: program that is not Python
    module: str
    name: str  #: node name
    package: str = 'hmpc_ros'  #: ROS package of the executable
    namespace: str = ''  #: namespace, empty for the root
    parameter_files: tuple[Path, ...] = ()  #: ROS 2 parameter files, later ones win
    #: values that win over the files, by parameter name
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    remappings: tuple[tuple[str, str], ...] = ()  #: pairs of (topic, new topic)
    arguments: tuple[str, ...] = ()  #: command line arguments that are not ROS arguments
    #: whether ``ros2 launch`` starts it again when it ends. The end of any other node of this
    #: package ends them all: a flight without its simulator or controller is none
    respawn: bool = False
    optional: bool = False  #: whether the others go on when it ends

    def ros_arguments(self) -> list[str]:
        """Return the ``--ros-args ...`` that tell rclpy all of the above."""
        words = ['--ros-args', '-r', f'__node:={self.name}']
        if self.namespace:
            words += ['-r', f'__ns:=/{self.namespace.strip("/")}']
        for old, new in self.remappings:
            words += ['-r', f'{old}:={new}']
        for path in self.parameter_files:
            words += ['--params-file', str(path)]
        for name, value in self.parameters.items():
            words += ['-p', f'{name}:={parameter_text(value)}']
        return words


def parameter_text(value: ParameterValue) -> str:
    """Write a parameter value so that rcl's YAML reader finds the same value and type again.

    A float always carries a point or an exponent: ``1`` would arrive as an integer, and rclpy
    refuses an integer for a parameter that was declared a double.
    """
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, str):
        # In double quotes YAML knows escapes; single quotes are doubled inside single quotes.
        return "'" + value.replace("'", "''") + "'"
    return '[' + ', '.join(parameter_text(entry) for entry in value) + ']'


def simulation(
    config: Path | str | None = None,
    parameters: Mapping[str, Mapping[str, ParameterValue]] | None = None,
    *,
    namespace: str = '',
    use_sim_time: bool = False,
    visualizer: bool = False,
    rviz: bool = False,
    web: bool = False,
) -> list[NodeSpec]:
    """List the processes of a simulated flight: simulator, controller, and what shows the flight.

    Args:
        config: ROS 2 parameter file; None: ``config/reference.yaml``. A bare name such as
            ``disturbed`` or ``disturbed.yaml`` is looked for in the package's ``config/``.
        parameters: Values that win over the file, by node name and parameter name.
        namespace: Namespace of all nodes.
        use_sim_time: Let controller and visualizer read their clock from ``/clock``.
        visualizer: Start the node that publishes flown path and markers.
        rviz: Start RViz with the package's view, and the visualizer with it.
        web: Serve the live page.

    Raises:
        FileNotFoundError: the parameter file does not exist.
    """
    file = find_config(config)
    overrides = {name: dict(values) for name, values in (parameters or {}).items()}

    for name, values in _agreed(file, overrides).items():
        overrides[name] = {**values, **overrides.get(name, {})}

    def ours(name: str) -> NodeSpec:
        return _ours(name, file, overrides.pop(name, {}), namespace, use_sim_time)

    nodes = [ours('simulator'), ours('controller')]
    if visualizer or rviz:
        nodes.append(ours('visualizer'))
    if rviz:
        nodes.append(
            NodeSpec(
                executable='rviz2',
                module='',
                name='rviz',
                package=RVIZ_PACKAGE,
                namespace=namespace,
                parameters={'use_sim_time': True} if use_sim_time else {},
                arguments=('-d', str(config_dir() / 'hmpc.rviz')),
            )
        )
    if web:
        nodes.append(replace(ours('web'), optional=True))
    return nodes


def learning(
    config: Path | str | None = None,
    parameters: Mapping[str, Mapping[str, ParameterValue]] | None = None,
    *,
    steps: int | None = None,
    namespace: str = '',
    use_sim_time: bool = False,
    rviz: bool = False,
    web: bool = False,
    only_learner: bool = False,
) -> list[NodeSpec]:
    """List the processes of a learning run: those of a simulated flight, and the learner.

    A flight has ``steps``, if not as many as the parameter file says; the simulator holds after
    them. With ``only_learner`` it is started beside nodes that run already. The other arguments are
    those of `simulation`.

    Raises:
        FileNotFoundError: the parameter file does not exist.
        ValueError: it cannot be read.
    """
    file = find_config(config)
    given = {name: dict(values) for name, values in (parameters or {}).items()}
    values = given.pop('learner', {})
    if steps is not None:
        values['steps'] = steps
    learner = replace(_ours('learner', file, values, namespace, use_sim_time=False), respawn=True)
    if only_learner:
        return [learner]
    whole = _configured(file, given)
    flown = values.get('steps', whole['learner']['steps'])
    if whole['controller']['policy.kind'] == 'tracking':
        from hmpc_ros.configuration import tracking_learner

        flown = tracking_learner.flight_steps(whole)
        if not whole['simulator']['real_time_factor']:
            given['controller'] = {**PATIENT, **given.get('controller', {})}
    simulator = {'start_paused': True, 'episode_steps': flown, **given.get('simulator', {})}
    nodes = simulation(
        config,
        {**given, 'simulator': simulator},
        namespace=namespace,
        use_sim_time=use_sim_time,
        rviz=rviz,
        web=web,
    )
    return [*nodes, learner]


def _configured(file: Path, overrides: Mapping[str, Mapping[str, ParameterValue]]) -> Configuration:
    """Return all values of a parameter file with others instead of some, by node."""
    from hmpc_ros.configuration.files import Configuration, load

    nodes = load(file).nodes
    return Configuration({k: {**v, **overrides.get(k, {})} for k, v in nodes.items()})


def _agreed(
    file: Path, overrides: Mapping[str, Mapping[str, ParameterValue]]
) -> dict[str, dict[str, ParameterValue]]:
    """Return what the nodes of one simulated flight must agree on and no file says.

    The vehicle under thrust and rates starts where its reference does, and the controller assumes
    the vehicle that is simulated.
    """
    configuration = _configured(file, overrides)
    if configuration['controller']['policy.kind'] != 'tracking':
        return {}
    from hmpc_ros.configuration import build_tracking

    agreed: dict[str, dict[str, ParameterValue]] = {
        'controller': {'preset': build_tracking.assumed(configuration).name}
    }
    if not any(configuration['simulator']['initial_state']):
        agreed['simulator'] = {'initial_state': build_tracking.start(configuration)}
    return agreed


def _ours(
    name: str, file: Path, values: Mapping[str, ParameterValue], namespace: str, use_sim_time: bool
) -> NodeSpec:
    """Describe a node of this package with its parameters."""
    # In a parameter file `controller:` means /controller and nothing else: in a namespace ROS would
    # pass over it without a word, so there its values are handed to the nodes one by one.
    in_namespace = bool(namespace.strip('/'))
    if use_sim_time and name != 'simulator':  # the simulator is where time comes from
        values = {'use_sim_time': True, **values}
    if in_namespace:
        values = {**_given_in_file(file, name), **values}
    return NodeSpec(
        executable=name,
        module=f'hmpc_ros.ros.{name}_node',
        name=name,
        namespace=namespace,
        parameter_files=() if in_namespace else (file,),
        parameters=values,
    )


def _given_in_file(file: Path, name: str) -> dict[str, ParameterValue]:
    """Return the values of a node that a parameter file sets to other than the default."""
    from hmpc_ros.configuration.files import load
    from hmpc_ros.configuration.tables import TABLES

    defaults = {parameter.name: parameter.default for parameter in TABLES[name].values()}
    return {key: value for key, value in load(file)[name].items() if value != defaults[key]}


def vehicle(
    adapter: str,
    config: Path | str | None = 'autopilot',
    parameters: Mapping[str, Mapping[str, ParameterValue]] | None = None,
    *,
    namespace: str = '',
    web: bool = False,
) -> list[NodeSpec]:
    """List the processes that fly a vehicle through its autopilot: controller and adapter.

    The adapter is ``mavlink_adapter``, ``mavros_adapter``, ``px4_adapter`` or
    ``crazyflie_adapter``; the other arguments are those of `simulation`.

    Raises:
        FileNotFoundError: the parameter file does not exist.
    """
    file, given = find_config(config), parameters or {}

    def ours(name: str, **values: ParameterValue) -> NodeSpec:
        return _ours(name, file, {**values, **given.get(name, {})}, namespace, use_sim_time=False)

    page = [replace(ours('web', adapter=adapter), optional=True)] if web else []
    # Ended in the reverse order: the adapter hands back first.
    return [*page, ours('controller'), ours(adapter)]


def find_config(config: Path | str | None) -> Path:
    """Return the absolute path of a parameter file, or of a preset by its name.

    Raises:
        FileNotFoundError: there is none; the message lists the presets.
    """
    if config is None:
        config = 'reference'
    given = Path(config).expanduser()
    if given.is_file():
        return given.absolute()
    presets = config_dir()
    if os.sep not in str(config):
        for name in (given.name, f'{given.name}.yaml'):
            if (presets / name).is_file():
                return (presets / name).absolute()
    names = ', '.join(sorted(path.stem for path in presets.glob('*.yaml')))
    raise FileNotFoundError(
        f'there is no parameter file {config}; give the path of one, or one of the presets: {names}'
    )

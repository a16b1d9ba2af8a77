"""Configuration files: ROS 2 parameter files read without ROS, and command-line overrides."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hmpc_ros import disk, ros_yaml
from hmpc_ros.configuration.schema import closest, validate_all
from hmpc_ros.configuration.tables import TABLES

#: Parameters of the controller that name files.
PATHS = ('model.file', 'weights_file')


@dataclass(frozen=True)
class Configuration:
    """Values of all parameters of all nodes, validated."""

    nodes: dict[str, dict[str, Any]]  #: by node name, then by parameter name
    path: Path | None = None  #: the file they came from, None for the defaults
    #: names of the values that came from elsewhere, by node name
    overridden: Mapping[str, Iterable[str]] = field(default_factory=dict)

    def __getitem__(self, node: str) -> dict[str, Any]:
        """Return the values of a node."""
        return self.nodes[node]

    def besides_file(self) -> dict[str, dict[str, Any]]:
        """Return the values that nodes must be given besides the parameter file, by node.

        These are the overrides, checked and in the parameters' own types, and the paths of files,
        which in the parameter file are relative to that file.
        """
        values = {
            node: {name: self[node][name] for name in self.overridden.get(node, ())}
            for node in self.nodes
        }
        for name in PATHS:
            if file := self['controller'][name]:
                values['controller'][name] = str(Path(file).absolute())
        return values


def load(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Configuration:
    """Read a parameter file and apply overrides.

    Args:
        path: a ROS 2 parameter file (``node: ros__parameters: ...``); None for the defaults. The
            wildcard ``/**`` gives values to every node that declares them.
        overrides: ``node.parameter=value`` each, value in YAML.

    Returns:
        All values, the defaults where nothing is given. Paths of ``*.file`` and ``*_file`` in the
        file may be relative to the file.

    Raises:
        ValueError: the file cannot be read, or a name or value is refused.
    """
    given: dict[str, dict[str, Any]] = {node: {} for node in TABLES}
    if path is not None:
        path = Path(path)
        for node, values in _read(path).items():
            for name, value in values.items():
                if name in PATHS and value:
                    value = str(path.parent / value)
                _assign(given, node, name, value, str(path))
    return _validated(given, _read_overrides(overrides), path)


def from_values(values: dict[str, dict[str, Any]], overrides: Iterable[str] = ()) -> Configuration:
    """Take values that were kept with a result, and apply overrides as `load` does.

    Raises:
        ValueError: a name or value is refused.
    """
    given: dict[str, dict[str, Any]] = {node: {} for node in TABLES}
    for node, parameters in values.items():
        for name, value in parameters.items():
            _assign(given, node, name, value, 'results')
    read = _read_overrides(overrides)
    # An empty list is the default of all that may be one, and no node can be given it.
    kept = {n: {k: v for k, v in each.items() if v != []} for n, each in given.items()}
    return _validated(given, {n: kept[n] | read[n] for n in read}, None)


def _read_overrides(overrides: Iterable[str]) -> dict[str, dict[str, Any]]:
    given: dict[str, dict[str, Any]] = {node: {} for node in TABLES}
    for override in overrides:
        key, separator, text = override.partition('=')
        if not separator or '.' not in key:
            raise ValueError(f"override '{override}' is not of the form node.parameter=value")
        node, name = addressed(key)
        try:
            value = ros_yaml.read(text)
        except ros_yaml.YamlError as error:
            raise ValueError(f"override '{override}': the value is not YAML ({error})") from error
        _assign(given, node, name, value, 'override')
    return given


def addressed(key: str) -> tuple[str, str]:
    """Return node (``**``: all that declare it) and parameter of an override's ``node.parameter``.

    The node may be left out: ``reference.kind`` is the parameter of whichever node declares it.

    Raises:
        ValueError: a parameter without its node is declared by none.
    """
    key = key.strip()
    node, _, name = key.partition('.')
    every = {each for declared in TABLES.values() for each in declared}
    if node in TABLES or not any(each.startswith(f'{node}.') for each in every):
        return node, name
    if key not in every:
        raise ValueError(f"there is no parameter '{key}'{closest(key, every)}")
    return '**', key


def _validated(
    given: dict[str, dict[str, Any]], overrides: dict[str, dict[str, Any]], path: Path | None
) -> Configuration:
    nodes = {}
    for node, values in given.items():
        try:
            nodes[node] = validate_all(TABLES[node], values | overrides[node])
        except ValueError as error:
            raise ValueError(f'{path or "override"}: {node}: {error}') from error
    return Configuration(nodes, path, {node: tuple(each) for node, each in overrides.items()})


def _assign(given: dict, node: str, name: str, value: Any, source: str) -> None:
    name = name.strip()
    if node == '**':
        for each, declared in TABLES.items():
            if name in declared:
                given[each][name] = value
    elif node in given:
        given[node][name] = value
    else:
        raise ValueError(f"{source}: there is no node '{node}'; nodes are {', '.join(TABLES)}")


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the parameters of each node of a file, with dotted names."""
    try:
        document = ros_yaml.read(disk.read_text(path, ros_yaml.MOST_BYTES))
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {disk.reason(error)}') from error
    except ValueError as error:
        raise ValueError(f'{path} is not a YAML file: {error}') from error
    if not isinstance(document, dict):
        raise ValueError(f'{path} is not a ROS 2 parameter file: it has no nodes')
    nodes = {}
    for node, content in document.items():
        if not isinstance(content, dict) or not isinstance(content.get('ros__parameters'), dict):
            raise ValueError(f"{path}: node '{node}' has no ros__parameters")
        name = str(node).lstrip('/')
        # `/**/controller` is the controller of any namespace
        nodes[name.removeprefix('**/')] = _flatten(content['ros__parameters'])
    return nodes


def _flatten(tree: dict, prefix: str = '') -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f'{prefix}{key}.'))
        else:
            flat[f'{prefix}{key}'] = value
    return flat

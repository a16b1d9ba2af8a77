"""Learned weights as a ROS parameter file that a controller starts from.

    controller:
      ros__parameters:
        policy: {q: [...], r: [...], p: [...], slack: [...], model: [...]}
    learned:
      ros__parameters:                 # a node of this name does not exist: ROS reads over it
        format: 1
        model: 3f2a...                 # identity of model.source of the controller that flew them
        horizon: 12
        checksum: ...                  # of all that decides a flight
        J: 1032.5                      # and what is good to know

Of the tracking MPC it is ``tracking: {...}``, and the model is the vehicle that was assumed.

The file is an ordinary parameter file, but ``weights_file`` is the way to use it: there checksum,
model and horizon are compared with the controller's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hmpc_ros import disk, ros_yaml
from hmpc_ros.policy.linear.weights import SPACE
from hmpc_ros.policy.tracking.parameters import SPACE as TRACKING

#: In a results folder: the best weights that were flown.
BEST_WEIGHTS_FILE = 'best_weights.yaml'
FORMAT = 1
_ABOUT = 'learned'
_SPACES = {'policy': SPACE, 'tracking': TRACKING}  # by the first word of the parameters' names


def origin(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file tells of the iteration that its weights are of."""
    return {key: record[key] for key in ('k', 'C', 'V', 'J', 'time')}


def write_weights(
    path: Path | str,
    policy: Mapping[str, Sequence[float] | float],
    model_identity: str,
    horizon: int,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write weights to a file: all of it, or nothing when the disk refuses or the process dies.

    Args:
        path: the file.
        policy: the controller's parameters ``policy.q``, ``r``, ``p`` and, if a model was learned
            along with them, ``policy.model``; or those of the tracking MPC, ``tracking.*``.
        model_identity: of the model that the controller has by ``model.source``.
        horizon: of its MPC.
        about: plain values that tell where they come from, e.g. iteration and cost.

    Raises:
        OSError: the file cannot be written.
    """
    group = next(iter(policy)).partition('.')[0]
    kept = {
        name.removeprefix(f'{group}.'): list(v) if isinstance(v, Sequence) else v
        for name, v in policy.items()
        if v != []
    }
    document = {
        'controller': {'ros__parameters': {group: kept}},
        _ABOUT: {
            'ros__parameters': {
                'format': FORMAT,
                'model': model_identity,
                'horizon': horizon,
                'checksum': _checksum(group, kept, model_identity, horizon),
                **(about or {}),
            }
        },
    }
    text = (
        '# Weights learned by hmpc_ros. Fly them with controller.weights_file, which checks that\n'
        '# the controller has the same model and horizon.\n\n'
    ) + ros_yaml.write(document)
    disk.write(path, text)


def read_weights(
    path: Path | str, model_identity: str, horizon: int, group: str = 'policy'
) -> dict[str, Any]:
    """Read weights that `write_weights` wrote, for a controller with this model and horizon.

    Returns:
        The parameters of the group: ``policy.q``, ``policy.r``, ``policy.p`` and ``policy.model``,
        or ``tracking.*``.

    Raises:
        ValueError: the file cannot be read, is damaged, or was learned for another controller.
    """
    try:
        text = disk.read_text(path, ros_yaml.MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'the weights file {path} cannot be read: {disk.reason(error)}') from error
    try:
        document = ros_yaml.read(text)
        policy = document['controller']['ros__parameters'][group]
        about = document[_ABOUT]['ros__parameters']
        kept, model, length = (about[name] for name in ('checksum', 'model', 'horizon'))
        _SPACES[group].pack(policy)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} is no weights file, or only a part of one ({type(error).__name__}: {error})'
        ) from error
    if about.get('format') != FORMAT:
        raise ValueError(
            f'{path} is of format {about.get("format")}, this version reads format {FORMAT}'
        )
    if kept != _checksum(group, policy, model, length):
        raise ValueError(
            f'{path} was changed after it was written: its checksum is wrong. To fly weights of '
            f'your own, give them as {group}.*'
        )
    if model != model_identity:
        raise ValueError(
            f'{path} was learned with the model {model}, but the controller has the model '
            f'{model_identity}: another vehicle, time step or identification'
        )
    if length != horizon:
        raise ValueError(
            f'{path} was learned with a horizon of {length} steps, but the controller has {horizon}'
        )
    return {f'{group}.{block.name}': policy.get(block.name, []) for block in _SPACES[group].blocks}


def _checksum(group: str, policy: Mapping[str, Any], model_identity: str, horizon: int) -> str:
    # Files from before a part was there are as good as those that leave it out.
    names = [block.name for block in _SPACES[group].blocks]
    parts = [policy.get(name, []) for name in names if name != 'slack' or policy.get(name)]
    content = json.dumps([FORMAT, parts, model_identity, horizon])
    return hashlib.sha256(content.encode()).hexdigest()[:16]

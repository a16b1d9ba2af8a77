"""What a controller flies with, in a word: the same word for the same values.

Every command carries it, so that whoever records a flight can tell that each of its steps was flown
with what it should be: nothing can be changed, or changed and changed back, without being seen.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from hmpc_ros.configuration.tables import CONTROLLER
from hmpc_ros.policy.linear.weights import SPACE
from hmpc_ros.policy.tracking.parameters import SPACE as TRACKING

if TYPE_CHECKING:
    from hmpc_ros.configuration.build import Values

# Of policy.*, what flies; how long it may is another matter.
WEIGHTS = tuple(f'policy.{block.name}' for block in SPACE.blocks)

#: What a learner changes, and lends to the controller, by ``policy.kind``.
LEARNED = {'qp': WEIGHTS, 'tracking': tuple(f'tracking.{block.name}' for block in TRACKING.blocks)}
# Added to the signature of a command that answers no state.
_UNASKED = '+timeout'

#: Parameters of the controller that may change in flight and decide on its commands.
FLOWN = tuple(
    name
    for name, parameter in CONTROLLER.items()
    if not parameter.read_only and (name in WEIGHTS or not name.startswith('policy.'))
)


def signature(values: Values) -> str:
    """Return 16 hexadecimal digits for the values of `FLOWN`, exact to the last bit."""
    text = json.dumps([values[name] for name in FLOWN])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def unasked(signature: str) -> str:
    """Mark the signature of a command that answers no state: states have stopped coming."""
    return signature + _UNASKED


def is_unasked(signature: str) -> bool:
    """Return whether a command answers no state, although it may be stamped as one is."""
    return signature.endswith(_UNASKED)

"""A table of the configuration as the ROS parameters of a node: declared, validated, changed whole.

A change is *prepared* (validated, checked against all other values, turned into the objects that
will fly) before rclpy stores it, and *applied* after rclpy has stored it. A refused change leaves
both the stored values and the flying ones as they were, so the two never differ.

Which requests are all-or-nothing is decided by ROS: ``set_parameters_atomically`` is one change;
``set_parameters`` (also several values in one request, and ``ros2 param load``) is a sequence of
changes of one value each, every one of them accepted or refused on its own.
"""

import array
import sys
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from hmpc_ros.configuration.schema import Parameter

Prepared = TypeVar('Prepared')

_SCALAR_TYPES = {
    bool: RosParameter.Type.BOOL,
    int: RosParameter.Type.INTEGER,
    float: RosParameter.Type.DOUBLE,
    str: RosParameter.Type.STRING,
}
_LIST_TYPES = {
    bool: RosParameter.Type.BOOL_ARRAY,
    int: RosParameter.Type.INTEGER_ARRAY,
    float: RosParameter.Type.DOUBLE_ARRAY,
    str: RosParameter.Type.STRING_ARRAY,
}
_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**63 - 1


def ros_type(parameter: Parameter) -> RosParameter.Type:
    """Return the ROS type of a parameter, which it keeps whatever value it takes."""
    return (_LIST_TYPES if parameter.is_list else _SCALAR_TYPES)[parameter.entry_type]


def descriptor(parameter: Parameter) -> ParameterDescriptor:
    """Return what ``ros2 param describe`` shows of a parameter."""
    type_ = ros_type(parameter)
    unit = f' [{parameter.unit}]' if parameter.unit else ''
    constraints = []
    if parameter.length is not None:
        or_none = ' or none' if parameter.may_be_empty else ''
        constraints.append(f'{parameter.length} values{or_none}')
    if parameter.choices:
        constraints.append(f'one of: {", ".join(map(str, parameter.choices))}')
    # ROS keeps ranges for single numbers only; of a list's elements the text has to tell.
    if parameter.is_list and (parameter.lower is not None or parameter.upper is not None):
        lower = '-inf' if parameter.lower is None else f'{parameter.lower:g}'
        upper = 'inf' if parameter.upper is None else f'{parameter.upper:g}'
        constraints.append(f'each from {lower} to {upper}')
    description = ParameterDescriptor(
        name=parameter.name,
        type=type_.value,
        description=f'{parameter.description}{unit}',
        additional_constraints='; '.join(constraints),
        read_only=bool(parameter.read_only),
    )
    if parameter.lower is None and parameter.upper is None:
        return description
    if type_ == RosParameter.Type.DOUBLE:
        # Finite, because not every tool that shows or edits a range copes with infinity.
        largest = sys.float_info.max
        description.floating_point_range = [
            FloatingPointRange(
                from_value=-largest if parameter.lower is None else float(parameter.lower),
                to_value=largest if parameter.upper is None else float(parameter.upper),
            )
        ]
    elif type_ == RosParameter.Type.INTEGER:
        description.integer_range = [
            IntegerRange(
                from_value=_INTEGER_MIN if parameter.lower is None else int(parameter.lower),
                to_value=_INTEGER_MAX if parameter.upper is None else int(parameter.upper),
            )
        ]
    return description


def _plain(value: Any) -> Any:
    """Return a parameter's value as plain Python: rclpy hands out arrays for received lists."""
    return list(value) if isinstance(value, (array.array, tuple)) else value


class NodeParameters(Generic[Prepared]):
    """The parameters of a node, declared from a table and kept equal to what flies.

    Args:
        node: the node that offers them.
        table: the declarations by name (`hmpc_ros.configuration.tables`).
        prepare: builds what flies from all values, e.g. weights and limits; it raises ValueError
            with a sentence when they do not fit together. It must not change anything yet.
        apply: puts what was prepared into effect. It must not fail.

    Raises:
        ValueError: a value given at start (parameter file, command line) is refused; the message
            names every one of them and the reason.
    """

    def __init__(
        self,
        node: Node,
        table: Mapping[str, Parameter],
        prepare: Callable[[Mapping[str, Any]], Prepared],
        apply: Callable[[Prepared], None],
    ) -> None:
        self._node = node
        self._table = table
        self._prepare = prepare
        self._apply = apply
        self._types = {name: ros_type(parameter) for name, parameter in table.items()}
        self._values = self._declare(node)
        self._prepared = prepare(dict(self._values))
        self._refusals: list[str] = []
        self._pending: tuple[dict[str, Any], Prepared] | None = None
        node.add_pre_set_parameters_callback(self._before_set)
        node.add_on_set_parameters_callback(self._on_set)
        node.add_post_set_parameters_callback(self._after_set)
        self._warn_of_unknown(node)

    def __getitem__(self, name: str) -> Any:
        """Return the current value of a parameter (a dictionary access, no call into ROS)."""
        return self._values[name]

    @property
    def values(self) -> dict[str, Any]:
        """The current values of all parameters by name."""
        return dict(self._values)

    @property
    def prepared(self) -> Prepared:
        """What `prepare` made of the current values."""
        return self._prepared

    def _declare(self, node: Node) -> dict[str, Any]:
        values: dict[str, Any] = {}
        refusals: list[str] = []
        for name, parameter in self._table.items():
            # Declared twice: first open to every type, to see what was given and refuse it with the
            # table's own words, then for good. rclpy has no other public way to the given value.
            given = node.declare_parameter(
                name, parameter.default, ParameterDescriptor(dynamic_typing=True)
            )
            node.undeclare_parameter(name)
            try:
                value = parameter.validate(_plain(given.value))
            except ValueError as refusal:
                refusals.append(str(refusal))
                continue
            values[name] = _plain(value)
            self._declare_for_good(node, parameter, values[name])
        if refusals:
            raise ValueError('; '.join(refusals))
        return values

    def _declare_for_good(self, node: Node, parameter: Parameter, value: Any) -> None:
        name, type_, description = (
            parameter.name,
            self._types[parameter.name],
            descriptor(parameter),
        )
        if value != []:
            node.declare_parameter(name, value, description, ignore_override=True)
            return
        # rclpy takes the type from the value, and an empty list for bytes.
        node.declare_parameter(name, type_, ignore_override=True)
        node.set_parameters_atomically([RosParameter(name, type_, value)])
        node.set_descriptor(name, description)

    def _before_set(self, parameters: list[RosParameter]) -> list[RosParameter]:
        """Check every value of a request, and hand it on in the type of its declaration.

        This comes before rclpy's own check of types, which says "expected '8' got '3'", names no
        parameter, and refuses a whole number for a float. A value that is refused here is replaced
        by the current one, to pass rclpy's check, and `_on_set` refuses the request.
        """
        # rclpy refuses them as well, but loses their names on the way.
        unknown = [p.name for p in parameters if not self._node.has_parameter(p.name)]
        if unknown:
            raise ParameterNotDeclaredException(unknown)
        self._refusals = []
        return [
            self._checked(parameter) if parameter.name in self._table else parameter
            for parameter in parameters
        ]

    def _checked(self, parameter: RosParameter) -> RosParameter:
        name = parameter.name
        try:
            value = self._table[name].validate(_plain(parameter.value))
        except ValueError as refusal:
            self._refusals.append(str(refusal))
            value = self._values[name]
        return RosParameter(name, self._types[name], value)

    def _on_set(self, parameters: list[RosParameter]) -> SetParametersResult:
        # use_sim_time and the QoS overrides belong to rclpy.
        given = {p.name: _plain(p.value) for p in parameters if p.name in self._table}
        self._pending = None
        refusals = list(self._refusals) if given else []
        values = self._values | given
        if not refusals and values != self._values:
            try:
                self._pending = values, self._prepare(dict(values))
            except ValueError as refusal:
                refusals.append(str(refusal))
        return SetParametersResult(successful=not refusals, reason='; '.join(refusals))

    def _after_set(self, _parameters: list[RosParameter]) -> None:
        if self._pending is not None:
            self._values, self._prepared = self._pending
            self._pending = None
            self._apply(self._prepared)

    def _warn_of_unknown(self, node: Node) -> None:
        """Say which given parameters no one reads: ROS ignores a misspelt name without a word."""
        # Not public, so only ever used for this warning.
        given = getattr(node, '_parameter_overrides', {})
        foreign = ('qos_overrides.', 'use_sim_time', 'start_type_description_service')
        unknown = [
            name for name in given if name not in self._table and not name.startswith(foreign)
        ]
        if unknown:
            node.get_logger().warning(
                f'no such parameter, ignored: {", ".join(sorted(unknown))} '
                f'(see: ros2 param list {node.get_fully_qualified_name()})'
            )

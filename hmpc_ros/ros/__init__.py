"""The nodes: they turn messages into arrays, call one object, and turn its answer into messages."""

import os
import sys
from pathlib import Path


def _tell_missing_middleware() -> None:
    """Say when ``RMW_IMPLEMENTATION`` is not installed: rclpy ends the process as it is imported.

    Only said, since not all that is imported from here needs rclpy.
    """
    wanted = os.environ.get('RMW_IMPLEMENTATION')
    sourced = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    prefixes = [*filter(None, sourced), sys.prefix]
    index = 'share/ament_index/resource_index/rmw_typesupport'
    there = {file.name for prefix in prefixes for file in Path(prefix, index).glob('rmw_*')}
    there -= {'rmw_implementation'}
    if wanted and there and wanted not in there:
        print(  # noqa: T201
            f'error: RMW_IMPLEMENTATION is {wanted!r}, which is not installed here; unset it, or '
            f'set it to {" or ".join(sorted(there))}',
            file=sys.stderr,
        )


_tell_missing_middleware()

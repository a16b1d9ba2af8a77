"""Builds px4_msgs for the ROS wheels from PX4's sources, where no workspace builds it.

    make px4-msgs PX4=.../PX4-Autopilot

Only the messages that `px4_adapter` uses, with all fields that these sources define. Sourcing
``build/px4-msgs/env.sh`` makes them known in a terminal.
"""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import message_packages


def messages_of(definitions: Path) -> message_packages.Package:
    """Return the messages that the adapter uses, with all fields that a PX4 defines."""
    fields, versions = {}, {}
    for name in message_packages.PX4.messages:
        file = definitions / 'versioned' / f'{name}.msg'
        file = file if file.is_file() else definitions / f'{name}.msg'
        lines = [line.partition('#')[0].strip() for line in file.read_text().splitlines()]
        constants = {
            found[1]: found[2]
            for line in lines
            if (found := re.fullmatch(r'\S+\s+(\w+)\s*=\s*(\S+)', line))
        }
        versions[name] = int(constants.get('MESSAGE_VERSION', 0))
        members = [' '.join(line.split()) for line in lines if line and '=' not in line]
        fields[name] = '; '.join(members)
    return message_packages.Package('px4_msgs', fields, versions)


def main() -> int:
    """Build, and write ``env.sh``; 2 where there are no definitions."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--sources', type=Path, required=True, help="of PX4's release")
    parser.add_argument('--out', type=Path, default=Path('build/px4-msgs'))
    options = parser.parse_args()
    definitions = options.sources / 'msg'
    if not definitions.is_dir():
        parser.exit(2, f"PX4: there is no {definitions}: name the folder of PX4's sources\n")
    folder = message_packages.build(options.out.absolute(), messages_of(definitions))
    places = {'PYTHONPATH': folder, 'LD_LIBRARY_PATH': folder / 'lib'}
    lines = [
        f'export {name}={shlex.quote(str(place))}${{{name}:+:${name}}}'
        for name, place in places.items()
    ]
    (options.out / 'env.sh').write_text('\n'.join(lines) + '\n')
    print(f'source {options.out}/env.sh')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())

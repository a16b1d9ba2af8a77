"""Finds the package's own data (``config/`` and ``launch/``) however the package was installed."""

import os
import site
import sys
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = 'hmpc_ros'


def config_dir() -> Path:
    """Return the folder that holds the package's YAML and RViz files.

    Raises:
        FileNotFoundError: the package was installed without its data.
    """
    return _find('config')


def launch_dir() -> Path:
    """Return the folder that holds the package's launch files.

    Raises:
        FileNotFoundError: the package was installed without its data.
    """
    return _find('launch')


def _candidates() -> Iterator[Path]:
    """Yield every folder that may hold ``config/`` and ``launch/``, the most specific first."""
    # resolve() follows the links of `colcon build --symlink-install` back to the source.
    module = Path(__file__).resolve()
    checkout = module.parent.parent
    if (checkout / 'package.xml').is_file():
        yield checkout
    # <prefix>/lib/python3.x/site-packages/hmpc_ros, where the prefix is a colcon install folder, a
    # virtual environment or /usr/local; with `pip install --target` it is the folder right above.
    prefixes = list(module.parents)[1:5]
    prefixes += [Path(p) for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    prefixes.append(Path(sys.prefix))
    if site.ENABLE_USER_SITE:
        prefixes.append(Path(site.getuserbase()))
    for prefix in prefixes:
        yield prefix / 'share' / _PACKAGE


def _find(name: str) -> Path:
    places = [place / name for place in _candidates()]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f'the folder {name}/ of {_PACKAGE} was not found; looked for '
        f'{", ".join(str(place) for place in places)}. Install the package again, '
        f'with `colcon build` or `pip install .`'
    )

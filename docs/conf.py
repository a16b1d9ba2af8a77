"""The documentation as a site: `make docs` builds it into build/docs."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / '_ext'), str(HERE.parent)]

from hmpc_ros import __version__  # noqa: E402

project = 'hmpc_ros'
author = 'the hmpc_ros maintainers'
version = release = __version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'generated']
exclude_patterns = ['_ext']
myst_heading_anchors = 3

html_theme = 'furo'
html_title = f'hmpc_ros {version}'
html_show_sphinx = False

autodoc_default_options = {'members': True, 'member-order': 'bysource'}
autodoc_typehints = 'signature'
autodoc_typehints_format = 'short'
autodoc_preserve_defaults = True
napoleon_use_ivar = True

nitpicky = True
# A link that a page has must lead somewhere; the types in a signature lead where they can.
nitpick_ignore_regex = [('py:.*', '.*')]
# Rooms have names in common, such as Solution.
suppress_warnings = ['ref.python']

"""Builds message packages with an autopilot's fields, so that tests talk DDS as with it.

Nothing of PX4, MAVROS or Crazyswarm2 is copied or fetched: a definition names the fields that
adapters use. The generators come with the ROS wheels; the code they make is compiled with the C
compiler that acados needs, too. ``build`` keeps what it made in a folder named after all it was
made from.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Package:
    """What a package holds.

    Attributes:
        name: of the package.
        messages: fields by message.
        versions: MESSAGE_VERSION by message, where it is not 0.
        services: fields of request and response by service.
    """

    name: str
    messages: Mapping[str, str]
    versions: Mapping[str, int] = field(default_factory=dict)
    services: Mapping[str, tuple[str, str]] = field(default_factory=dict)


_NOTHING = 'uint8 structure_needs_at_least_one_member'  # as rosidl fills an empty response

#: Of PX4 1.17.
PX4 = Package(
    'px4_msgs',
    {
        'BatteryStatus': 'uint64 timestamp; bool connected; float32 voltage_v; float32 remaining',
        'HoverThrustEstimate': 'uint64 timestamp; float32 hover_thrust; bool valid',
        'OffboardControlMode': (
            'uint64 timestamp; bool position; bool velocity; bool acceleration; bool attitude; '
            'bool body_rate; bool thrust_and_torque; bool direct_actuator'
        ),
        'VehicleCommand': (
            'uint64 timestamp; float32 param1; float32 param2; float32 param3; float32 param4; '
            'float64 param5; float64 param6; float32 param7; uint32 command; uint8 target_system; '
            'uint8 target_component; uint8 source_system; uint16 source_component; '
            'uint8 confirmation; bool from_external'
        ),
        'VehicleCommandAck': 'uint64 timestamp; uint32 command; uint8 result',
        'VehicleOdometry': (
            'uint64 timestamp; uint64 timestamp_sample; uint8 pose_frame; float32[3] position; '
            'float32[4] q; uint8 velocity_frame; float32[3] velocity; float32[3] angular_velocity; '
            'float32[3] position_variance; float32[3] orientation_variance; '
            'float32[3] velocity_variance; uint8 reset_counter; int8 quality'
        ),
        'VehicleRatesSetpoint': (
            'uint64 timestamp; float32 roll; float32 pitch; float32 yaw; float32[3] thrust_body; '
            'bool reset_integral'
        ),
        'VehicleStatus': (
            'uint64 timestamp; uint8 arming_state; uint8 nav_state; bool failsafe; '
            'bool pre_flight_checks_pass'
        ),
    },
    versions={'VehicleStatus': 1, 'BatteryStatus': 1},
)
MAVROS = Package(
    'mavros_msgs',
    {
        'AttitudeTarget': (
            'std_msgs/Header header; uint8 type_mask; geometry_msgs/Quaternion orientation; '
            'geometry_msgs/Vector3 body_rate; float32 thrust'
        ),
        'State': (
            'std_msgs/Header header; bool connected; bool armed; bool guided; bool manual_input; '
            'string mode; uint8 system_status'
        ),
    },
    services={'SetMode': ('uint8 base_mode; string custom_mode', 'bool mode_sent')},
)
_GO_TO = (
    'uint8 group_mask; bool relative; geometry_msgs/Point goal; float32 yaw; '
    'builtin_interfaces/Duration duration'
)
#: Of Crazyswarm2.
CRAZYSWARM = Package(
    'crazyflie_interfaces',
    {
        'FullState': (
            'std_msgs/Header header; geometry_msgs/Pose pose; geometry_msgs/Twist twist; '
            'geometry_msgs/Vector3 acc'
        ),
        'Hover': (
            'std_msgs/Header header; float32 vx; float32 vy; float32 yaw_rate; float32 z_distance'
        ),
        'Position': 'std_msgs/Header header; float32 x; float32 y; float32 z; float32 yaw',
        'Status': (
            'std_msgs/Header header; uint16 supervisor_info; float32 battery_voltage; '
            'uint8 pm_state; uint8 rssi'
        ),
        'VelocityWorld': 'std_msgs/Header header; geometry_msgs/Vector3 vel; float32 yaw_rate',
    },
    services={
        'Arm': ('bool arm', _NOTHING),
        'GoTo': (_GO_TO, _NOTHING),
        'NotifySetpointsStop': ('uint8 group_mask; uint32 remain_valid_millisecs', _NOTHING),
        'Takeoff': (
            'uint8 group_mask; float32 height; builtin_interfaces/Duration duration',
            _NOTHING,
        ),
    },
)
# Packages whose messages ours may hold, and their libraries.
_OTHERS = ('std_msgs', 'geometry_msgs', 'service_msgs', 'builtin_interfaces')
_LIBRARIES = (
    'rosidl_generator_c', 'rosidl_typesupport_c', 'rosidl_typesupport_fastrtps_c',
    'rosidl_typesupport_introspection_c', 'rosidl_generator_py',
)  # fmt: skip
_IDL = {'bool': 'boolean', 'float32': 'float', 'float64': 'double'}

# The wheels install each generator twice over, and the command line refuses that.
_GENERATE = """
import importlib.metadata as metadata, sys
found = metadata.entry_points()
once = {(e.group, e.name): e for group in found.groups for e in found.select(group=group)}
every = metadata.EntryPoints(once.values())
metadata.entry_points = lambda **selection: every.select(**selection)
from rosidl_cli.cli import main
sys.exit(main())
"""


def _struct(name: str, fields: str, aliases: dict[str, str]) -> str:
    members = []
    for declaration in fields.split('; '):
        kind, member = declaration.split()
        array = re.fullmatch(r'(\w+)\[(\d+)\]', kind)
        if array:
            base, count = array.groups()
            kind = f'{base}__{count}'
            aliases[kind] = f'typedef {_IDL.get(base, base)} {kind}[{count}];'
        members.append(f'{_IDL.get(kind, kind).replace("/", "::msg::")} {member};')
    return f'struct {name} {{ {" ".join(members)} }};'


def definitions(package: Package) -> dict[str, str]:
    """Return the package's IDL files by path."""
    files = {}

    def add(kind: str, name: str, structs: Mapping[str, str], extra: str = '') -> None:
        aliases: dict[str, str] = {}
        bodies = [_struct(each, fields, aliases) for each, fields in structs.items()]
        others = re.findall(r'(\w+)/(\w+) ', ' '.join(structs.values()))
        includes = ''.join(f'#include "{p}/msg/{m}.idl"\n' for p, m in sorted(set(others)))
        inside = ' '.join([*aliases.values(), extra, *bodies])
        text = f'{includes}module {package.name} {{ module {kind} {{ {inside} }}; }};\n'
        files[f'{kind}/{name}.idl'] = text

    for name, fields in package.messages.items():
        version = package.versions.get(name, 0)
        constant = f'module {name}_Constants {{ const uint32 MESSAGE_VERSION = {version}; }};'
        add('msg', name, {name: fields}, constant)
    for name, (request, response) in package.services.items():
        add('srv', name, {f'{name}_Request': request, f'{name}_Response': response})
    return files


@contextlib.contextmanager
def built(package: Package) -> Iterator[None]:
    """Make a package importable, here and in the processes that are started meanwhile."""
    folder = build(Path(os.environ['HMPC_CACHE_DIR']) / 'messages', package)
    before = dict(os.environ)
    os.environ.update(environment(folder))
    load(folder)
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        os.environ.clear()
        os.environ.update(before)


def build(cache: Path, package: Package) -> Path:
    """Return a folder with the package: itself for PYTHONPATH, its lib for LD_LIBRARY_PATH."""
    sources = definitions(package)
    key = repr((sources, Path(__file__).read_text(), sys.prefix, sys.version))
    target = cache / f'{package.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}'
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            made = _make(Path(scratch), package.name, sources, target)
            made.rename(target)
    return target


def load(package: Path) -> None:
    """Make the package importable in this process, whose LD_LIBRARY_PATH is read already."""
    sys.path.insert(0, str(package))
    for library in sorted((package / 'lib').iterdir()):
        ctypes.CDLL(str(library))


def environment(package: Path) -> dict[str, str]:
    """Return what a process needs to import the package."""
    return {
        variable: os.pathsep.join(filter(None, [str(folder), os.environ.get(variable, '')]))
        for variable, folder in (('PYTHONPATH', package), ('LD_LIBRARY_PATH', package / 'lib'))
    }


def _run(*command: object, **options: object) -> None:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f'{command[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}'


def _make(scratch: Path, package: str, sources: Mapping[str, str], target: Path) -> Path:
    prefix = Path(sys.prefix)
    for path, text in sources.items():
        (scratch / path).parent.mkdir(exist_ok=True)
        (scratch / path).write_text(text)
    out, made = scratch / 'out', scratch / 'made'
    options = [word for kind in ('c', 'cpp', 'py') for word in ('-t', kind)]
    for support in ('introspection_c', 'fastrtps_c', 'fastrtps_cpp', 'c'):
        options += ['-ts', support]
    environment = {**os.environ, 'AMENT_PREFIX_PATH': str(prefix)}
    _run(
        sys.executable, '-c', _GENERATE, 'generate', '-o', out, *options, '-I',
        prefix / 'share', package, *(f'{scratch}:{path}' for path in sources), env=environment,
    )  # fmt: skip
    include = [prefix / 'include', *(prefix / 'include').iterdir()]
    include += [np.get_include(), sysconfig.get_path('include')]
    for kind in out.iterdir():
        place = scratch / 'include' / kind.name
        place.mkdir(parents=True)
        (place / package).symlink_to(kind)
        include.append(place)
    flags = ['-O0', '-w', '-fPIC', *(f'-I{folder}' for folder in include)]

    code = [
        path
        for kind in ('c', 'fastrtps_c', 'introspection_c')
        for pattern in ('*.c', '*.cpp')
        for path in (out / kind).rglob(pattern)
    ]
    objects = scratch / 'objects'
    objects.mkdir()
    for suffix, compiler in (('.c', ['gcc']), ('.cpp', ['g++', '-std=c++17'])):
        named = [path for path in code if path.suffix == suffix]
        if suffix == '.c':
            named += sorted((out / 'py').glob('*/*_s.c'))
        for k, path in enumerate(named):
            _run(*compiler, *flags, '-c', path, '-o', objects / f'{k}{suffix}.o')
    library = made / 'lib' / f'lib{package}__rosidl_generator_c.so'
    library.parent.mkdir(parents=True)
    libraries = (
        'rosidl_runtime_c', 'rosidl_typesupport_c', 'rosidl_typesupport_fastrtps_c',
        'rosidl_typesupport_fastrtps_cpp', 'rosidl_typesupport_introspection_c', 'fastcdr',
        'rcutils', 'rmw',
        *(f'{name}__{kind}' for name in _OTHERS for kind in _LIBRARIES),
    )  # fmt: skip
    _run(
        'g++', '-shared', f'-Wl,-soname,{library.name}', '-o', library, *sorted(objects.iterdir()),
        f'-L{prefix / "lib"}', *(f'-l{name}' for name in libraries), f'-Wl,-rpath,{prefix / "lib"}',
    )  # fmt: skip
    # The type support is looked for in libraries of these names: empty ones that lead to ours.
    rpath = [f'-Wl,-rpath,{folder}' for folder in (target / 'lib', prefix / 'lib')]
    supports = ('c', 'fastrtps_c', 'introspection_c')
    for name in (*(f'rosidl_typesupport_{s}' for s in supports), 'rosidl_generator_py'):
        alias = library.with_name(f'lib{package}__{name}.so')
        _run('g++', '-shared', f'-Wl,-soname,{alias.name}', '-o', alias, '-Wl,--no-as-needed',
             library, *rpath)  # fmt: skip
    shutil.copytree(out / 'py', made / package)
    (made / package / '__init__.py').touch()
    for support in supports:
        name = f'rosidl_typesupport_{support}'
        _run('gcc', '-shared', *flags, out / 'py' / f'_{package}_s.ep.{name}.c',
             '-o', made / package / f'{package}_s__{name}.so', library, *rpath)  # fmt: skip
    return made

#!/usr/bin/env python3
"""Sets up a virtual environment with everything hmpc_ros needs; `make setup` calls it.

    python3 tools/setup_env.py --venv .venv --ros-distro kilted

It does nothing when the environment is already what the files in requirements/ describe, and
starts afresh when they, the interpreter or the place of the source have changed, or when an
earlier run was interrupted. Only the standard library is used, and syntax that Python 3.8 still
reads, so that a user of an interpreter that is too old is told so in a sentence.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / 'requirements'
DISTROS = ('kilted', 'jazzy')
PYTHONS = ((3, 11), (3, 12), (3, 13))

# What a sourced ROS, an active environment or a personal pip configuration would leak into ours.
FOREIGN = (
    'PYTHONPATH', 'PYTHONHOME', 'VIRTUAL_ENV', 'LD_LIBRARY_PATH', 'AMENT_PREFIX_PATH',
    'PIP_USER', 'PIP_TARGET', 'PIP_PREFIX', 'PIP_REQUIRE_VIRTUALENV',
    # Set by the ROS wheels when they re-exec Python once; inherited from the Python of another
    # environment it would keep ours from finding its own libraries.
    '_ROS_WHEELS_BOOTSTRAP_COMPLETE',
)  # fmt: skip


class SetupError(Exception):
    """Something a user can put right; the text says how."""


def version_text(version):
    """Write (3, 11) as 3.11."""
    return '.'.join(str(part) for part in version[:2])


def clean_environment():
    """Return this process's environment without what belongs to another Python or ROS."""
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    environment['PIP_DISABLE_PIP_VERSION_CHECK'] = '1'
    environment['PIP_NO_INPUT'] = '1'
    return environment


def use_a_suitable_python():
    """Go on under another interpreter if this one is of no use and a better one is installed.

    Raises:
        SetupError: there is none.
    """
    if sys.prefix != sys.base_prefix:
        # An active environment, perhaps the very one that is about to be replaced.
        base = Path(sys.base_prefix) / 'bin' / ('python' + version_text(sys.version_info))
        if base.is_file():
            os.execve(str(base), [str(base), *sys.argv], clean_environment())
    if sys.version_info[:2] in PYTHONS:
        return
    for version in PYTHONS:
        path = shutil.which('python' + version_text(version))
        # A version manager's shim can be on the PATH and still refuse to run.
        quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
        if path and subprocess.run([path, '-c', ''], **quiet).returncode == 0:
            os.execve(path, [path, *sys.argv], clean_environment())
    raise SetupError(
        f'Python {version_text(sys.version_info)} was found, but 3.11, 3.12 or 3.13 is needed. '
        'Install one of them, for example:\n'
        '    sudo apt-get install python3.12 python3.12-venv\n'
        'and name it if it is not on the PATH: make setup PYTHON=/path/to/python3.12'
    )


def check_system():
    """Refuse a machine that lacks what no wheel brings.

    Raises:
        SetupError: names everything that is missing and the one command that installs it.
    """
    missing = []
    if importlib.util.find_spec('venv') is None or importlib.util.find_spec('ensurepip') is None:
        # Debian's system Python has the package python3-venv, any other the one of its version.
        system = Path(sys.base_prefix) == Path('/usr') and Path('/usr/bin/python3').exists()
        default = Path('/usr/bin/python3').resolve().name if system else ''
        own = 'python' + version_text(sys.version_info)
        missing.append(('python3-venv', 'python3-venv' if default == own else own + '-venv'))
    for command in ('gcc', 'make'):  # acados compiles the solver that it generates
        if shutil.which(command) is None:
            missing.append((command, command))
    if missing:
        names = ' and '.join(name for name, _ in missing)
        packages = [package for _, package in missing]
        if 'gcc' in packages:
            packages.append('libc6-dev')  # only recommended by gcc, and nothing compiles without
        raise SetupError(
            f'{names} {"is" if len(missing) == 1 else "are"} not installed. On Debian or Ubuntu:\n'
            f'    sudo apt-get install {" ".join(packages)}'
        )
    if platform.machine() in ('x86_64', 'AMD64'):
        try:
            flags = Path('/proc/cpuinfo').read_text()
        except OSError:
            return
        if 'flags' in flags and 'avx2' not in flags:
            raise SetupError(
                'this processor has no AVX2, which the acados wheel is compiled for. Build acados '
                'from source and use the package through colcon: see README.md.'
            )


def requirement_files(distro):
    """List the files that say what is installed."""
    names = ['build', 'acados', 'casadi', 'base', 'rotorpy', 'dev', 'ros-' + distro]
    names += ['constraints-python', 'constraints-' + distro]
    return [REQUIREMENTS / (name + '.txt') for name in names]


def fingerprint(distro):
    """Hash everything whose change makes an existing environment wrong."""
    digest = hashlib.sha256()
    for path in [*requirement_files(distro), ROOT / 'setup.py', ROOT / 'setup.cfg', Path(__file__)]:
        digest.update(path.name.encode() + b'\0' + path.read_bytes() + b'\0')
    # The editable install holds the path of the source; the venv that of the base interpreter.
    for text in (str(ROOT), sys.version, os.path.realpath(sys.base_prefix), distro):
        digest.update(text.encode() + b'\0')
    return digest.hexdigest()


def is_current(venv, wanted):
    """Say whether the environment was finished and is the one wanted."""
    try:
        stamp = json.loads((venv / 'hmpc_setup.json').read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return False
    return stamp.get('fingerprint') == wanted and (venv / 'bin' / 'python').exists()


class Log:
    """One line per step for the reader, everything the steps print for a file."""

    def __init__(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.file = path.open('w', encoding='utf-8')

    def step(self, title, command):
        """Run one command.

        Raises:
            SetupError: it failed; with the end of what it printed.
        """
        print(f'  {title:<40}', end='', flush=True)
        self.file.write('\n$ ' + ' '.join(shlex.quote(str(part)) for part in command) + '\n')
        self.file.flush()
        start = time.monotonic()
        process = subprocess.run(
            [str(part) for part in command],
            cwd=str(ROOT), env=clean_environment(), stdin=subprocess.DEVNULL,
            stdout=self.file, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if process.returncode != 0:
            print('failed')
            text = self.path.read_text(encoding='utf-8', errors='replace')
            end = '\n'.join(text.splitlines()[-15:])
            raise SetupError(
                f'this step failed (exit code {process.returncode}); the end of {self.path}:'
                f'\n\n{end}'
            )
        print(f'{time.monotonic() - start:5.1f} s')


def build(venv, distro, log):
    """Make the environment from nothing.

    Raises:
        SetupError: a step failed, or the folder is something else than a virtual environment.
    """
    if venv.exists():
        if not (venv / 'pyvenv.cfg').is_file() and any(venv.iterdir()):
            raise SetupError(
                f'{venv} exists and is no virtual environment; move it away or choose another '
                'place with --venv'
            )
        shutil.rmtree(str(venv))

    python = venv / 'bin' / 'python'
    pip = [python, '-m', 'pip', 'install']
    constraints = []
    for name in ('python', distro):
        constraints += ['--constraint', REQUIREMENTS / f'constraints-{name}.txt']

    def listed(*names):
        arguments = []
        for name in names:
            arguments += ['--requirement', REQUIREMENTS / (name + '.txt')]
        return arguments

    log.step('virtual environment', [sys.executable, '-m', 'venv', venv])
    log.step('build tools', [*pip, *listed('build')])
    # The acados wheel brings a slimmed casadi of its own into site-packages/casadi. It must come
    # first, and casadi over it by force, since pip would call casadi installed or leave a mixture.
    log.step('acados', [*pip, '--no-deps', *listed('acados')])
    log.step('casadi', [*pip, '--force-reinstall', '--no-deps', *listed('casadi')])
    log.step(
        f'ROS 2 {distro.capitalize()}, numerics, test tools',
        [*pip, *constraints, *listed('build', 'base', 'dev', 'ros-' + distro)],
    )
    # Its own requirements are looser than ours and would be resolved once more.
    log.step('RotorPy', [*pip, '--no-deps', *listed('rotorpy')])
    log.step(
        'hmpc_ros, editable',
        [*pip, '--no-deps', '--no-build-isolation', '--editable', ROOT],
    )
    log.step(
        'check: rclpy, casadi, acados import',
        [python, '-c', 'import rclpy, casadi, acados, hmpc_ros; casadi.Opti().variable()'],
    )


def main():
    """Run the set-up; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--venv', type=Path, default=Path('.venv'), help='default: %(default)s')
    parser.add_argument(
        '--ros-distro', default='kilted', help='kilted or jazzy; default: %(default)s'
    )
    arguments = parser.parse_args()
    distro = arguments.ros_distro
    venv = arguments.venv.resolve()
    try:
        if distro not in DISTROS:
            raise SetupError(
                f'wheels are known of ROS 2 {" and ".join(DISTROS)}, not of {distro!r}. On a '
                'machine with another ROS 2, build with colcon: see README.md.'
            )
        use_a_suitable_python()
        check_system()
        wanted = fingerprint(distro)
        if is_current(venv, wanted):
            return 0
        with venv.with_name(venv.name + '.lock').open('w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second make waits, then finds it done
            if is_current(venv, wanted):
                return 0
            log = Log(ROOT / 'build' / f'setup-{distro}.log')
            print(
                f'Setting up {venv.name} (Python {platform.python_version()}, ROS 2 '
                f'{distro.capitalize()}); once, about a minute. Log: {os.path.relpath(log.path)}'
            )
            build(venv, distro, log)
            # Last of all, and by a rename: an interrupted set-up leaves no stamp and is redone.
            draft = venv / 'hmpc_setup.json.part'
            draft.write_text(json.dumps({'fingerprint': wanted}) + '\n', encoding='utf-8')
            draft.replace(venv / 'hmpc_setup.json')
    except SetupError as error:
        print(f'set-up: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nset-up: interrupted; it starts afresh next time', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())

"""The cache of generated solvers: code that is compiled once and loaded by every process after it.

    NAME_KEY/             one solver; KEY hashes all that its code depends on
        code/             what was generated and compiled
        manifest.json     size and digest of each of its files, and the folder it was made for
    NAME_KEY.XXXXXXXX/    a build under way, locked as long as it lives

A folder appears by one rename, when all in it is on the disk. It is compared with its manifest
before anything is loaded: to run a library that a power failure has truncated ends the process by
SIGBUS, without a word. What does not agree is built again. Against people the manifest does not
help, they could write that too: the cache is refused where anybody but its user may write.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

Solver = TypeVar('Solver')

_CODE, _MANIFEST = 'code', 'manifest.json'
# Folders of builds, and nothing else of a folder that the user may have chosen for the cache.
_BUILD = re.compile(r'[a-z_]+_[0-9a-f]{16}\.[a-z0-9_]{8}')


class CodeGenerationError(RuntimeError):
    """There is no solver to load; the message says why, with the compiler's last lines."""


def open_cache() -> Path:
    """Return the cache folder: $HMPC_CACHE_DIR, else in the user's own; made if it is not there.

    Raises:
        CodeGenerationError: It cannot be made, or others than the user may write to it.
    """
    chosen = os.environ.get('HMPC_CACHE_DIR')
    folder = Path(chosen or platformdirs.user_cache_dir('hmpc_ros')).absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = folder.resolve()
        found = folder.stat()
    except (FileExistsError, NotADirectoryError) as error:
        raise CodeGenerationError(
            f'the cache of generated code cannot be {folder}: a file, or a link to nowhere, is in '
            'its place. Remove that, or set HMPC_CACHE_DIR to another folder'
        ) from error
    except OSError as error:
        raise _cannot_write(folder, error) from error
    reason = _open_to(found)
    if reason:
        raise CodeGenerationError(
            f'the cache of generated code {folder} {reason}, who could have you run any code. If '
            'you trust what is in it, make it yours alone (chmod go-w, chown); if not, remove it, '
            'or set HMPC_CACHE_DIR to another folder'
        )
    return folder


def load_or_build(
    name: str,
    ingredients: Mapping[str, Any],
    module: str,
    request: Any,
    load: Callable[[Path], Solver],
) -> Solver:
    """Load a solver from the cache, after building it if it is not there or not whole.

    Args:
        name: What kind of solver, letters and underscores.
        ingredients: All that its code depends on, as JSON can hold it.
        module: Run as ``python -m module REQUEST FOLDER`` to build one. It makes the folder, and
            leaves code, library and, if it is acados', ``ocp.json`` there. It is a process of its
            own since acados changes the working directory, which must not happen to a caller who
            may be flying.
        request: What that module is to build, as JSON can hold it.
        load: Takes the folder of the code to what is returned. When it raises although the files
            are whole (another C library, say), the solver is built again, once.

    Raises:
        CodeGenerationError: The cache cannot be used, or the solver cannot be built or loaded.
    """
    key = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:16]
    folder = open_cache() / f'{name}_{key}'
    try:
        _clear_killed_builds(folder.parent)
        if _is_whole(folder):
            with contextlib.suppress(Exception):
                return load(folder / _CODE)
            _remove(folder)
        _build(folder, module, request)
    except OSError as error:
        raise _cannot_write(folder.parent, error) from error
    try:
        return load(folder / _CODE)
    except Exception as error:
        raise CodeGenerationError(f'the solver in {folder} cannot be loaded: {error}') from error


def _cannot_write(folder: Path, error: OSError) -> CodeGenerationError:
    return CodeGenerationError(
        f'cannot write generated code to {folder} ({error.strerror or error}): set HMPC_CACHE_DIR '
        'to a folder that can be written'
    )


def _open_to(found: os.stat_result) -> str:
    """Say who else may write to what was found; root may write everywhere anyway."""
    if found.st_uid not in (os.geteuid(), 0):
        return f'belongs to another user (number {found.st_uid})'
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f'may be written by others (mode {stat.S_IMODE(found.st_mode):o})'
    return ''


def _is_whole(folder: Path) -> bool:
    """Say whether a solver's folder holds, to the last byte, what was built for this place."""
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or _open_to(found):
            return False
        return json.loads((folder / _MANIFEST).read_bytes()) == _manifest(folder, folder)
    except (OSError, ValueError):
        return False


def _manifest(folder: Path, place: Path) -> dict[str, Any]:
    """Describe the code in a folder that was built for a place."""
    contents = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted((folder / _CODE).rglob('*'))
        if file.is_file()
    }
    files = {name: [len(c), hashlib.sha256(c).hexdigest()] for name, c in contents.items()}
    return {'place': str(place), 'files': files}


def _build(folder: Path, module: str, request: Any) -> None:
    """Generate and compile aside, and rename the result into place.

    Of processes that build the same at once, the first to finish wins; their results are the same.
    """
    for tool in ('gcc', 'make'):
        if shutil.which(tool) is None:
            raise CodeGenerationError(f'{tool} is missing: sudo apt-get install gcc make')
    with _aside(folder) as (aside, lock):
        # acados writes paths into shell commands and makefiles: in a path that is not plain
        # (spaces, quotes) it is built elsewhere.
        plain = re.fullmatch(r'[\w./-]+', str(aside), re.ASCII)
        workshop = aside if plain else Path(tempfile.mkdtemp(prefix='hmpc_ros-build-'))
        try:
            made = workshop / _CODE
            build = subprocess.run(
                [sys.executable, '-m', module, json.dumps(request), str(made)],
                env=os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
                cwd=workshop,
                pass_fds=(lock,),  # when this process is killed the build lives on to its end
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if build.returncode or not list(made.glob('lib*')):
                tail = '\n'.join(build.stdout.splitlines()[-20:])
                raise CodeGenerationError(f'the generated code could not be built:\n{tail}')
            if workshop != aside:
                shutil.copytree(made, aside / _CODE)
        finally:
            if workshop != aside:
                shutil.rmtree(workshop, ignore_errors=True)
        # acados' JSON holds absolute paths.
        before, after = (json.dumps(str(path))[1:-1] for path in (made, folder / _CODE))
        for description in (aside / _CODE).glob('ocp.json'):
            description.write_text(description.read_text().replace(before, after))
        (aside / _MANIFEST).write_text(json.dumps(_manifest(aside, folder), indent=1))
        for path in [*aside.rglob('*'), aside]:
            _to_disk(path)
        _publish(aside, folder)


def _publish(aside: Path, folder: Path) -> None:
    """Rename a finished build into place, unless another process was first."""
    with _locked(folder.parent):
        if not _is_whole(folder):
            _remove(folder)
            aside.rename(folder)
            _to_disk(folder.parent)


@contextlib.contextmanager
def _aside(folder: Path) -> Iterator[tuple[Path, int]]:
    """Make a folder to build in, with the lock that tells others that the build lives."""
    with _locked(folder.parent):  # nobody clears it before it has its lock
        aside = Path(tempfile.mkdtemp(prefix=f'{folder.name}.', dir=folder.parent))
        lock = os.open(aside, os.O_RDONLY)
        with contextlib.suppress(OSError):  # without locks (some NFS) nothing is ever cleared
            fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield aside, lock
    finally:
        os.close(lock)
        shutil.rmtree(aside, ignore_errors=True)


def _clear_killed_builds(cache: Path) -> None:
    """Remove the builds whose process has ended without doing so."""
    for aside in cache.iterdir():
        if not _BUILD.fullmatch(aside.name):
            continue
        with contextlib.suppress(OSError), _locked(cache):
            lock = os.open(aside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(aside)
            finally:
                os.close(lock)


@contextlib.contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Hold the lock of the whole cache, for moments only."""
    lock = os.open(cache, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _remove(path: Path) -> None:
    """Remove a folder, a file or a link, whatever is in the way."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

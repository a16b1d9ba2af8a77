"""The door for files: what is read is judged before it is taken in, what is written is whole.

A path from outside can be a named pipe that never answers, a device that never ends, or an archive
that grows a thousandfold. Here it is refused by what it is and by its size, before it is parsed.
"""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

# A flight of 4 h at 50 Hz has 720,000 steps of 16 numbers: 92 MB. That is read within a second.
MOST_ARRAY_BYTES = 100_000_000
_MOST_MEMBERS = 1000
_NAMES = {
    stat.S_IFDIR: 'a folder',
    stat.S_IFIFO: 'a named pipe',
    stat.S_IFCHR: 'a device',
    stat.S_IFBLK: 'a device',
    stat.S_IFSOCK: 'a socket',
}


def read(path: Path | str, most: int) -> bytes:
    """Return what is in a regular file of at most `most` bytes.

    Raises:
        OSError: it cannot be read, is no regular file (a named pipe, a device, a folder), or is
            larger; `reason` says it for people.
    """
    # Without O_NONBLOCK a named pipe would keep us waiting for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        _refuse_irregular(status, path)
        if status.st_size <= most:
            with os.fdopen(descriptor, 'rb', closefd=False) as stream:
                return stream.read(status.st_size)  # of a file that grows: what was there
    finally:
        os.close(descriptor)
    raise OSError(
        errno.EFBIG,
        f'it has more than the {most / 1e6:g} MB that are allowed for such a file',
        str(path),
    )


def read_text(path: Path | str, most: int) -> str:
    """Return the UTF-8 text of a regular file of at most `most` bytes.

    Raises:
        OSError: as of `read`.
        ValueError: it is not UTF-8.
    """
    return read(path, most).decode('utf-8')


def read_arrays(
    source: Path | str | bytes, wanted: Mapping[str, tuple[int | None, ...] | None] | None = None
) -> dict[str, np.ndarray]:
    """Return arrays of a ``.npz`` file; no array is read before all headers were checked.

    Args:
        source: the file, or its content.
        wanted: shapes of the arrays to read by name, None for any length, or for any shape; other
            arrays of the file are left. By default all are read.

    Raises:
        OSError: the file cannot be read, see `read`.
        ValueError: it is damaged, an array is missing, is not of plain numbers, truth values or
            text, has another shape, or all together have more than `MOST_ARRAY_BYTES`.
    """
    content = source if isinstance(source, bytes) else read(source, MOST_ARRAY_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.namelist()
            if len(members) > _MOST_MEMBERS:
                raise ValueError(f'it has {len(members)} members; {_MOST_MEMBERS} are allowed')
            names = [name.removesuffix('.npy') for name in members] if wanted is None else wanted
            total = 0
            for name in names:
                total += _checked_size(archive, name, wanted[name] if wanted else None)
                if total > MOST_ARRAY_BYTES:
                    raise ValueError(
                        f'its arrays have {total / 1e6:.0f} MB or more; '
                        f'{MOST_ARRAY_BYTES / 1e6:.0f} MB are allowed'
                    )
            arrays = {}
            for name in names:
                with archive.open(f'{name}.npy') as stream:
                    arrays[name] = npy.read_array(stream, allow_pickle=False)
            return arrays
    except zipfile.BadZipFile as error:
        raise ValueError(f'it is not a whole .npz file ({error})') from error
    except (zlib.error, EOFError, MemoryError, OverflowError, RuntimeError, TypeError) as error:
        raise ValueError(f'it is damaged ({error})') from error


def _checked_size(
    archive: zipfile.ZipFile, name: str, wanted: tuple[int | None, ...] | None
) -> int:
    """Return the bytes of an array by its header, which must fit what is stored of it."""
    try:
        member = archive.getinfo(f'{name}.npy')
    except KeyError:
        raise ValueError(f"it has no array '{name}'") from None
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"the array '{name}' is compressed in a way that numpy does not use")
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = header(stream)
        begin = stream.tell()
    if dtype.kind not in 'biufU' or dtype.subdtype is not None:
        raise ValueError(f"the array '{name}' is of {dtype}, not of plain numbers")
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or begin + size != member.file_size:
        raise ValueError(
            f"the array '{name}' claims the shape {shape} ({size} bytes), but "
            f'{member.file_size - begin} bytes are stored'
        )
    if wanted is not None and (
        len(shape) != len(wanted)
        or any(n not in (None, have) for n, have in zip(wanted, shape, strict=True))
    ):
        needed = ', '.join('any' if n is None else str(n) for n in wanted)
        raise ValueError(f"the array '{name}' has the shape {shape}; ({needed}) is needed")
    return size


def write(path: Path | str, content: bytes | str) -> None:
    """Write a whole file or none: aside, to the disk, then renamed into place.

    A link is followed: what it points to is written.

    Raises:
        OSError: the disk refuses, or what stands in the file's place is no regular file.
    """
    path = Path(path).resolve()
    with contextlib.suppress(FileNotFoundError):
        _refuse_irregular(path.stat(), path)
    aside = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        with aside.open('wb') as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def write_arrays(path: Path | str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a ``.npz`` file, whole or not at all, under exactly this name.

    Raises:
        OSError: as of `write`.
    """
    write(path, pack(arrays))


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the content of a ``.npz`` file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def reason(error: Exception) -> str:
    """Say why a file could not be read or written, without number and path."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _refuse_irregular(status: os.stat_result, path: Path | str) -> None:
    if not stat.S_ISREG(status.st_mode):
        name = _NAMES.get(stat.S_IFMT(status.st_mode), 'something else')
        raise OSError(errno.EINVAL, f'it is {name}, not a regular file', str(path))

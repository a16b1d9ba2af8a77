"""The results folder of a training run: append-only, and whole after a crash at any moment.

    run.json           what is run: configuration, seed, versions, date, start weights, model
    iterations.jsonl   one line of JSON per finished iteration, each with its own checksum
    memory-NNNNNN.npz  arrays that the rule needs to go on after iteration NNNNNN (if it has any)

A line counts when it ends in a newline. A crash can leave at most one unfinished line at the end:
it is dropped, and its iteration is flown again. Anything else that does not read as it was written
is damage: it is refused with the file's name, and nothing is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import stat
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros import disk

if TYPE_CHECKING:
    from types import TracebackType

    from hmpc_ros.learning.rules import Memory
    from hmpc_ros.policy.parameters import Parameters

FORMAT = 5
HEADER = 'run.json'
LOG = 'iterations.jsonl'
# An iteration is a line of some kB: these are a hundred thousand of them.
MOST_BYTES = 1_000_000_000

Record = dict[str, Any]


class ResultsError(Exception):
    """The results folder cannot be used; the message says which file and why."""


class ResultsFolder:
    """The results of one run, open for appending by one process at a time.

    Args:
        path: The folder.
        header: What is run; written when the folder is new. None: the folder must hold a run.

    Raises:
        ResultsError: When the folder cannot be written, is in use, or a file in it is damaged.
    """

    def __init__(self, path: Path | str, header: Record | None = None) -> None:
        self.path = Path(path)
        self._log = self._open_log(create=header is not None)
        try:
            if header is not None and not (self.path / HEADER).exists():
                self._start(header)
            self.header = read_header(self.path)
            self.records, self._end = _read_log(self.path / LOG)
            if self._end < os.fstat(self._log).st_size:
                os.ftruncate(self._log, self._end)
            self._written = zlib.crc32(os.pread(self._log, self._end, 0))
            self.memory = self._read_memory()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ResultsFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def iterations(self) -> list[Record]:
        """The records of finished iterations."""
        return iterations(self.records)

    def refuse_another_run(self, wanted: Record) -> None:
        """Raise ResultsError, naming the first difference, unless the folder's run is ``wanted``.

        A run may be prolonged: the number of iterations and of flights may differ.
        """
        for node, values in wanted['configuration'].items():
            before = self.header['configuration'].get(node, {})
            # The rule first: of another one most settings differ, too.
            names = {*values, *before} - {'iterations', 'flights'}
            for name in sorted(names, key=lambda name: (name != 'rule', name)):
                if values.get(name) != before.get(name):
                    raise ResultsError(
                        f'{self.path} holds a run with {node}.{name} = {before.get(name)}, not '
                        f'{values.get(name)}: choose another folder, or go on without changes'
                    )
        kept, model = (each['model']['identity'] for each in (self.header, wanted))
        if kept != model:
            raise ResultsError(
                f"{self.path} holds a run with the model {kept}, not {model}: has the model's file "
                'changed?'
            )

    def append(self, record: Record, memory: Memory | None = None) -> None:
        """Add one line and the arrays that belong to it, on the disk when this returns.

        Args:
            record: Numbers, strings, lists and arrays by name; null where not finite.
            memory: What the rule has to remember.

        Raises:
            ResultsError: When the disk refuses, or somebody else changed the file; the folder is
                then as it was before.
        """
        self._refuse_foreign_changes()
        record = dict(record)
        arrays = {}
        if memory is not None:
            arrays = {n: v for n, v in memory.items() if isinstance(v, np.ndarray)}
            record['memory'] = {n: v for n, v in memory.items() if n not in arrays}
        try:
            if arrays:
                name = f'memory-{record["k"]:06d}.npz'
                content = disk.pack(arrays)
                disk.write(self.path / name, content)
                record['memory_file'], record['memory_crc32'] = name, _crc(content)
            kept = _plain(record)
            line = (_seal(kept) + '\n').encode()
            written = os.write(self._log, line)
            if written < len(line):
                raise OSError(28, os.strerror(28))
            os.fsync(self._log)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._log, self._end)
            raise ResultsError(
                f'{self.path / LOG} cannot be written ({error.strerror}): the results of this '
                'iteration are not kept'
            ) from error
        self._end += len(line)
        self._written = zlib.crc32(line, self._written)
        self.records.append(kept)
        if arrays:
            self._forget_memory(keep=2)

    def close(self) -> None:
        """Let another process use the folder."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _refuse_foreign_changes(self) -> None:
        """Raise ResultsError unless the log holds what was written so far, to the last byte."""
        file = self.path / LOG
        try:
            same = os.path.samestat(file.stat(), os.fstat(self._log))
        except OSError:
            same = False
        if not same:
            raise ResultsError(
                f'{file} was removed or replaced while the run went on: the results of this '
                'iteration are not kept'
            )
        content = os.pread(self._log, os.fstat(self._log).st_size, 0)
        if len(content) != self._end or zlib.crc32(content) != self._written:
            raise ResultsError(
                f'{file} was changed by somebody else while the run went on. It is left as it is, '
                'and the results of this iteration are not kept'
            )

    def _open_log(self, create: bool) -> int:
        # A run begins with its log: where there is a header, a new log would begin it again.
        create = create and not (self.path / HEADER).exists()
        flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0)
        try:
            if create:
                self.path.mkdir(parents=True, exist_ok=True)
            log = os.open(self.path / LOG, flags, 0o644)
        except FileNotFoundError as error:
            if (self.path / HEADER).exists():
                raise ResultsError(
                    f'{self.path} is damaged: {LOG} is missing although {HEADER} is there. It is '
                    'left as it is; choose another results folder'
                ) from error
            raise ResultsError(f'{self.path} holds no training run') from error
        except OSError as error:
            raise ResultsError(
                f'the results folder {self.path} cannot be written: {error.strerror}'
            ) from error
        if not stat.S_ISREG(os.fstat(log).st_mode):
            os.close(log)
            raise ResultsError(f'{self.path / LOG} is not a regular file')
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(log)
            raise ResultsError(
                f'the results folder {self.path} is in use by another run'
            ) from error
        return log

    def _start(self, header: Record) -> None:
        if os.fstat(self._log).st_size:
            raise ResultsError(
                f'{self.path} is damaged: {HEADER} is missing although {LOG} is there'
            )
        try:
            disk.write(self.path / HEADER, _seal(_plain({'format': FORMAT, **header})) + '\n')
        except OSError as error:
            raise ResultsError(
                f'{self.path / HEADER} cannot be written: {error.strerror}'
            ) from error

    def _read_memory(self) -> Memory:
        """Read what the rule left with the last iteration.

        It is on the disk before its iteration is: no more than one can be ahead of the log.
        """
        newest = max((path.stem for path in self.path.glob('memory-*.npz')), default='')
        if newest > f'memory-{len(self.iterations):06d}':
            raise ResultsError(
                f'{self.path} is damaged: {newest}.npz is there although {LOG} ends before '
                f'iteration {len(self.iterations)}. It is left as it is'
            )
        if not self.iterations:
            return {}
        last = self.iterations[-1]
        memory = dict(last.get('memory', {}))
        name = last.get('memory_file')
        if name:
            path = self.path / name
            try:
                content = disk.read(path, disk.MOST_ARRAY_BYTES)
            except OSError as error:
                raise ResultsError(f'{path} cannot be read: {disk.reason(error)}') from error
            if _crc(content) != last['memory_crc32']:
                raise ResultsError(f'{path} is damaged: its checksum is wrong. It is left as it is')
            try:
                memory.update(disk.read_arrays(content))
            except ValueError as error:
                raise ResultsError(f'{path} is damaged: {error}. It is left as it is') from error
        return memory

    def _forget_memory(self, keep: int) -> None:
        for path in sorted(self.path.glob('memory-*.npz'))[:-keep]:
            with contextlib.suppress(OSError):
                path.unlink()


def read_header(path: Path) -> Record:
    """Read what a results folder is about.

    Raises:
        ResultsError: When there is none, it is damaged, or another version of the format.
    """
    file = path / HEADER
    try:
        text = disk.read_text(file, MOST_BYTES)
    except FileNotFoundError as error:
        raise ResultsError(f'{path} holds no training run: {HEADER} is missing') from error
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f'{file} cannot be read: {disk.reason(error)}') from error
    header = _unseal(text.removesuffix('\n'))
    if header is None:
        raise ResultsError(f'{file} is damaged: its checksum is wrong. It is left as it is')
    if header.get('format') != FORMAT:
        raise ResultsError(
            f'{file} is of format {header.get("format")}, this version reads format {FORMAT}'
        )
    return header


def read_records(path: Path | str) -> tuple[Record, list[Record]]:
    """Read a results folder without opening it for writing: header and records.

    Raises:
        ResultsError: When a file is missing or damaged.
    """
    path = Path(path)
    header = read_header(path)
    try:
        return header, _read_log(path / LOG)[0]
    except FileNotFoundError as error:
        raise ResultsError(f'{path} is damaged: {LOG} is missing') from error


def iterations(records: list[Record]) -> list[Record]:
    """Pick the records of iterations, without closing flights and the like."""
    return [record for record in records if record['kind'] == 'iteration']


def to_record(start: Parameters, policy: Parameters, prefix: str = '') -> Record:
    """Return what a record keeps of a policy: theta, and other blocks that its start had not."""
    beside = policy.fixed_beside(start.fixed)
    fixed = {f'{prefix}fixed': dict(beside)} if beside else {}
    return {f'{prefix}theta': policy.theta, **fixed}


def recorded(start: Parameters, record: Record, prefix: str = '') -> Parameters:
    """Return the policy that `to_record` put into a record."""
    fixed = record.get(f'{prefix}fixed', {})
    return start.with_theta(record[f'{prefix}theta']).with_fixed(fixed)


def number(value: float | None) -> float:
    """Return a recorded number; what was stored as null was not finite."""
    return math.inf if value is None else value


def _read_log(file: Path) -> tuple[list[Record], int]:
    """Read all finished lines; also return where they end."""
    try:
        content = disk.read(file, MOST_BYTES)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ResultsError(f'{file} cannot be read: {disk.reason(error)}') from error
    *lines, _unfinished = content.split(b'\n')
    records = []
    for i, line in enumerate(lines, start=1):
        record = _unseal(line.decode('utf-8', errors='replace'))
        if record is None:
            raise ResultsError(
                f'{file} is damaged: line {i} does not match its checksum. It is left as it is; '
                'choose another results folder'
            )
        records.append(record)
    for k, record in enumerate(iterations(records)):
        if record['k'] != k:
            raise ResultsError(f'{file} is damaged: iteration {k} is missing. It is left as it is')
    return records, sum(len(line) + 1 for line in lines)


def _seal(record: Record) -> str:
    """Write a record as one line of JSON whose last entry is the checksum of what is before it."""
    body = json.dumps(record, allow_nan=False)
    return f'{body[:-1]}, "crc32": "{_crc(body.encode())}"}}'


def _unseal(line: str) -> Record | None:
    """Read a sealed line; None when it is not what was written."""
    body, mark, checksum = line.rpartition(', "crc32": "')
    body += '}'
    if not mark or checksum != f'{_crc(body.encode())}"}}':
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _plain(value: Any) -> Any:
    """Turn numpy values into JSON's; what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray) and np.isfinite(value).all():
        return value.tolist()
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def _crc(content: bytes) -> str:
    return f'{zlib.crc32(content):08x}'

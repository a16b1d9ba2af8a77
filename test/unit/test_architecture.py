"""Which room may know which: the contracts in pyproject.toml hold."""

from pathlib import Path

import pytest

cli = pytest.importorskip('importlinter.cli', reason='import-linter is installed by make setup')

ROOT = Path(__file__).parents[2]


def test_no_module_imports_what_its_room_may_not_know(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    failed = cli.lint_imports(config_filename=str(ROOT / 'pyproject.toml'), no_cache=True)
    assert not failed, capsys.readouterr().out

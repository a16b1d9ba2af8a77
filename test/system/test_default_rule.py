"""What the default rule must reach on every case of mismatch; minutes, run by `make test-long`."""

import json

import pytest

from hmpc_ros.cli.main import main

# J of the best weights after 100 flights, at most: the project's targets.
TARGETS = {
    'a': 1096.0,
    'b06': 1103.0,
    'b16': 1106.0,
    'c': 1280.0,
    'd10': 1100.0,
    'd30': 1130.0,
    'e': 1174.0,
    'f': 1162.0,
    'g': 1250.0,
    'n1': 1300.0,
    'noise01': 1101.0,
    'noise05': 1115.0,
}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_default_rule_reaches_its_targets_within_100_flights(tmp_path):
    words = ['--rules', 'trust_region', '--seeds', '100-102', '--jobs', '2', '--out', str(tmp_path)]
    assert main(['benchmark', '--cases', ','.join(TARGETS), *words]) == 0
    cases = json.loads((tmp_path / 'summary.json').read_text())['cases']
    for case, target in TARGETS.items():
        assert cases[case]['trust_region']['J']['median'] <= target, case
        assert cases[case]['trust_region']['diverged'] == 0, case


@pytest.mark.long
@pytest.mark.timeout(900)
def test_twenty_flights_are_enough_on_the_nominal_vehicle(tmp_path):
    words = ['--cases', 'a', '--rules', 'trust_region', '--seeds', '100-109', '--flights', '20']
    assert main(['benchmark', *words, '--jobs', '2', '--out', str(tmp_path)]) == 0
    summary = json.loads((tmp_path / 'summary.json').read_text())
    reached = summary['cases']['a']['trust_region']['J']['per_seed'].values()
    assert sum(J <= 1098.0 for J in reached) >= 8

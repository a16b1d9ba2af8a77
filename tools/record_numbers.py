"""Record what every rule comes to on a few cases, to the last bit, or compare with a record.

    python tools/record_numbers.py build/numbers.json        # before a change: makes the record
    python tools/record_numbers.py build/numbers.json        # after it: names the differences
    python tools/record_numbers.py build/quick.json --quick  # the same in half a minute

Bits depend on the machine (BLAS, CPU): a record is good on the machine that made it.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

for name in ('OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS'):
    os.environ[name] = '1'  # sums are ordered by the number of threads

from hmpc_ros.configuration.files import from_values, load  # noqa: E402
from hmpc_ros.configuration.learner import train_offline  # noqa: E402
from hmpc_ros.share import config_dir  # noqa: E402

FREE = {'estimator': 'zeroth_order'}
RULES = {
    'trust_region': {'rule': 'trust_region'},
    'adam': {'rule': 'adam', 'estimator': 'model_based', 'rollback.enabled': True},
    'hybrid': {'rule': 'paper', 'estimator': 'hybrid'},
    'control_variate': {'rule': 'paper', 'estimator': 'control_variate'},
    'model_free': {'rule': 'paper', **FREE},
    'model_only': {'rule': 'paper', 'estimator': 'model_based'},
}
CASES = ('a', 'c', 'n1', 'noise05', 'heldout_tasks')
FLIGHTS, QUICK_CASES, QUICK_FLIGHTS = 20, ('e', 'noise05'), 8


def numbers(case: str, rule: str, flights: int) -> dict[str, object] | None:
    """Train on a case; None where the rule does not know such cases."""
    nodes = dict(load(config_dir() / 'cases' / f'{case}.yaml').nodes)
    nodes['learner'] = {
        **nodes['learner'], **RULES[rule], 'flights': flights, 'iterations': flights, 'seed': 7,
    }  # fmt: skip
    if nodes['learner']['tasks.goals'] and rule != 'trust_region':
        return None
    with tempfile.TemporaryDirectory() as folder:
        run = train_offline(from_values(nodes), Path(folder) / 'run')
    records = run.results.records
    digest = hashlib.sha256(json.dumps([[r['theta'], r['J']] for r in records]).encode())
    last = records[-1]
    return {
        'records': len(records),
        'sha256': digest.hexdigest()[:16],
        **{name: last[name] for name in ('flights', 'C', 'V', 'J')},
    }


def main() -> int:
    """Return 1 where a number differs from the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('record', type=Path)
    parser.add_argument('--quick', action='store_true')
    arguments = parser.parse_args()
    cases, flights = (QUICK_CASES, QUICK_FLIGHTS) if arguments.quick else (CASES, FLIGHTS)
    found = {f'{c}/{r}': n for c in cases for r in RULES if (n := numbers(c, r, flights))}
    if not arguments.record.exists():
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps(found, indent=1) + '\n')
        print(f'{len(found)} runs recorded in {arguments.record}')
        return 0
    kept = json.loads(arguments.record.read_text())
    changed = [name for name in sorted({*kept, *found}) if kept.get(name) != found.get(name)]
    for name in changed:
        print(f'{name}: {kept.get(name)} was recorded, now it is {found.get(name)}')
    print(f'{len(found) - len(changed)} of {len(found)} runs are as recorded')
    return bool(changed)


if __name__ == '__main__':
    sys.exit(main())

"""A training run in a few numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hmpc_ros.learning.results import iterations, number

if TYPE_CHECKING:
    from hmpc_ros.learning.results import Record


#: What records of vehicles along a reference tell besides costs.
FOR_PEOPLE = ('rmse_m', 'max_m')


def tells_best(records: list[Record]) -> bool:
    """Whether the rule says itself which of its iterations came to the best weights."""
    done = iterations(records)
    return bool(done) and done[-1].get('best_k') is not None


def best_record(records: list[Record]) -> Record | None:
    """Return the record of the best weights, None without any.

    The rule's own choice, where it makes one; else the accepted weights with the lowest objective.
    """
    if tells_best(records):
        done = iterations(records)
        return done[int(done[-1]['best_k'])]
    accepted = [r for r in records if r.get('accepted', True) and r['J'] is not None]
    return min(accepted, key=lambda record: number(record['J']), default=None)


def summarise(header: Record, records: list[Record]) -> dict[str, Any]:
    """Put a run into a few numbers, for people and for --json."""
    done = iterations(records)
    best, last = best_record(records), records[-1] if records else None
    return {
        'iterations': len(done),
        'flights': last['flights'] if last else 0,
        'start': _costs(records[0]) if records else None,
        'final': _costs(last),
        'best': _costs(best),
        'accepted': sum(record['accepted'] for record in done),
        'rolled_back': sum(not record['accepted'] for record in done),
        'failures': sum(record['failures'] for record in records),
        'unsafe_flights': sum(record['unsafe_flights'] for record in records),
        'seconds_per_iteration': (sum(record['seconds'] for record in done) / max(1, len(done))),
        'per_iteration': [
            {**(_costs(record) or {}), 'accepted': record['accepted'], 'reason': record['reason']}
            for record in done
        ],
        'identified': next((r['identified'] for r in reversed(done) if 'identified' in r), None),
        'configuration': header['configuration'],
        'versions': header['versions'],
        'date': header['date'],
    }


def _costs(record: Record | None) -> dict[str, Any] | None:
    if record is None:
        return None
    shown = ('k', 'C', 'V', 'J', 'flights', *(name for name in FOR_PEOPLE if name in record))
    return {name: record[name] for name in shown}

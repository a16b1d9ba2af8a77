"""How messages travel, by what they are for. All are reliable: a flight is to be recorded whole."""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy


def _reliable(depth: int) -> QoSProfile:
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)


#: Of several that wait, only the newest is worth an answer.
NEWEST = _reliable(1)
RELIABLE = _reliable(10)
#: What is recorded: a recorder that falls behind for a moment must not lose a message, nor must one
#: that is kept waiting for seconds.
HISTORY, RECORDED = _reliable(100), _reliable(2000)


def latched(depth: int = 1) -> QoSProfile:
    """Return the profile of what is kept for those who join late."""
    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


LATCHED = latched()

"""The audit is this list: every check that an episode goes through, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vla_ros.data.audit.check_actions import check_action_space, check_clipped, check_finite, check_grid
from vla_ros.data.audit.check_content import (
    check_gripper,
    check_idle,
    check_instruction,
    check_length,
    check_outcome,
)
from vla_ros.data.audit.check_control import check_controller, check_driver
from vla_ros.data.audit.check_images import (
    check_black,
    check_decodable,
    check_frozen,
    check_repeated,
    check_size,
)
from vla_ros.data.audit.check_pairing import check_skew, check_unpaired
from vla_ros.data.audit.check_streams import (
    check_duplicates,
    check_gaps,
    check_jitter,
    check_lost,
    check_order,
    check_present,
    check_rate,
)
from vla_ros.data.audit.finding import Finding
from vla_ros.data.audit.look import Look

Check = Callable[[Look], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (
    check_present,
    check_action_space,
    check_finite,
    check_driver,
    check_order,
    check_rate,
    check_gaps,
    check_lost,
    check_jitter,
    check_duplicates,
    check_skew,
    check_unpaired,
    check_decodable,
    check_size,
    check_black,
    check_frozen,
    check_repeated,
    check_grid,
    check_clipped,
    check_controller,
    check_idle,
    check_length,
    check_instruction,
    check_outcome,
    check_gripper,
)

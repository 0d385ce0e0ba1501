"""A node's logger for sentences that quote what came in messages."""

from __future__ import annotations

import os
from typing import Any

from rclpy.impl import rcutils_logger

from vla_ros.bounds import plain


class PlainLogger(rcutils_logger.RcutilsLogger):  # type: ignore[misc]
    """Shows control characters instead of sending them to the terminal of whoever started the node."""

    def log(self, message: Any, severity: Any, **kwargs: Any) -> bool:
        """See rclpy."""
        return bool(super().log(plain(str(message)), severity, **kwargs))


# what is throttled is told apart by who calls: not this file, but whoever called it
rcutils_logger._internal_callers.append(os.path.realpath(__file__))

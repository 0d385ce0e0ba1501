"""The audit of recorded bags: is what was recorded fit to learn from?"""

from vla_ros.data.audit.audit import BagAudit, EpisodeAudit, audit_bag
from vla_ros.data.audit.finding import Finding, Level
from vla_ros.data.audit.rules import AuditRules, Bounds, load_rules
from vla_ros.data.audit.summary import AuditSummary

__all__ = [
    "AuditRules",
    "AuditSummary",
    "BagAudit",
    "Bounds",
    "EpisodeAudit",
    "Finding",
    "Level",
    "audit_bag",
    "load_rules",
]

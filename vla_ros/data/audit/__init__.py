"""The audit of recorded bags: is what was recorded fit to learn from?"""

from vla_ros.data.audit.audit import BagAudit, EpisodeAudit, audit_bag
from vla_ros.data.audit.finding import Finding, Level
from vla_ros.data.audit.rules import AuditRules, Bounds, load_rules

__all__ = ["AuditRules", "BagAudit", "Bounds", "EpisodeAudit", "Finding", "Level", "audit_bag", "load_rules"]

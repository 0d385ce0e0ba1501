"""The scripted expert: it knows where everything is and does the tasks as a person would."""

from vla_ros.sim.expert.ideal import Expert
from vla_ros.sim.expert.plan import Known, Plan, View, Wish
from vla_ros.sim.expert.start import disturbed_start
from vla_ros.sim.expert.told import ToldScene
from vla_ros.sim.expert.variation import RECOVERIES, STEADY, Manner, Variation, draw

__all__ = [
    "RECOVERIES", "STEADY", "Expert", "Known", "Manner", "Plan", "ToldScene", "Variation", "View", "Wish",
    "disturbed_start", "draw",
]  # fmt: skip

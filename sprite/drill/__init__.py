"""Drills: a proxy that stands before a sprite service and does to its answers what networks and machines do."""

from sprite.drill.faults import Fault, Setting
from sprite.drill.proxy import ChaosProxy
from sprite.drill.schedule import Step, seeded_steps

__all__ = ["ChaosProxy", "Fault", "Setting", "Step", "seeded_steps"]

"""Outside the sprite, deterministic: the LoopSupervisor workflow, the pure rules it applies, the SDK plugin.

Nothing here reads a clock or touches the world: time is handed in as a value, the world is behind activities.
"""

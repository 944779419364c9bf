"""Faults thrown at real processes while clients work: nothing lost, nothing counted twice, nothing from nowhere."""

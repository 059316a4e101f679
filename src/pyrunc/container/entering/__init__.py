"""Bringing one more process into a container that runs (`exec`): what is looked up, and the steps.

It uses the record and the planner's room, and knows nothing of making; ``runtime_plan`` tells the
story from top to bottom.
"""

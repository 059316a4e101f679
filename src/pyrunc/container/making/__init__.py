"""Making a container, seen from the runtime: the steps of the plan's first list, and their order.

It uses the record and the planner's room; ``runtime_plan`` tells the story from top to bottom.
"""

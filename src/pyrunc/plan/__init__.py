"""From a config to the ordered lists that make a container or a process: pure, nothing is touched.

Uses the rooms whose steps it puts in order. Begin with ``planner`` (what the builder does) and
``first_process`` (what init does).
"""

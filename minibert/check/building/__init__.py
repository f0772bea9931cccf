"""A BERT of one's own: core/ with ten bodies to be written, checked stage by stage, broken and mended.

Not here: the shipped bugs (check/course.py), the ladder of stages (look/parity.py).
Read exercises.py first.
"""

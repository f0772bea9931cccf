"""What is wrong, and how it is found: the doctor of a model's files and data, and a course of bugs that people make.

Not here: the ladder of stages that the course climbs (look/parity.py).
Read doctor.py first.
"""

from minibert.lazy import face

FILES = {
    "course": "BUGS",
    "data_checks": "check_data",
    "doctor": "diagnose",
    "options": "CourseOptions DoctorOptions",
}

__getattr__, __dir__ = face(__name__, FILES)

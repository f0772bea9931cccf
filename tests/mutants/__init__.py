"""What tests/mutations.py puts into the package, by part of it.

`MUTATIONS` of each module: file -> rows of a name, what stands in the file once, what takes its place, and the test
that has to fail.
"""

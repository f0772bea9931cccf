"""What makes core/ fast: batches without padding, attention backends, Triton kernels, cheap dropout, `prepare`.

Nothing is specified here: each file computes what a file of core/ says, and a test proves them equal. Read layout.py
first, which answers the model's questions for packed rows.
"""

from minibert.fast import attention as attention  # adds its backends to core's table

"""Spans, metrics and log records, for a program that has set up OpenTelemetry or logging.

The rest of the library calls `hooks`. They do nothing until `listening` finds that the program has
set a provider; an `observer` then opens spans and records to `instruments`.
"""

import logging

# without a handler, Python would print warnings to standard error; the program decides about that
logging.getLogger("chem_persistence").addHandler(logging.NullHandler())

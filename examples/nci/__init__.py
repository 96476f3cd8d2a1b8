"""The screening of `screen_nci.py`: its flow, steps and values, its workers, and its report."""

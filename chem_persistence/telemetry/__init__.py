"""What the library tells of itself, through the OpenTelemetry API, to a program that has set that up.

`watched` holds what the rest of the library calls: nothing happens there until `listening` finds that somebody listens; an
`observer` then opens spans and feeds `instruments`.
"""

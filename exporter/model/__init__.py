"""The words of the program as frozen values, in base units. They import no other room.

A field that the hardware, the driver or our permissions do not give is ``None``, or missing from
its mapping. It is never 0 instead, and never the last good value.
"""

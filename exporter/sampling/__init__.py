"""From readings to snapshots: ticks, one worker thread per GPU, deadlines, integration over time.

All state here belongs to the event loop's thread. Worker threads only read hardware, and hand over
what they read.
"""

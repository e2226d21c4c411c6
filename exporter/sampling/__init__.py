"""From readings to snapshots.

All state here belongs to the event loop's thread. Worker threads only read hardware, and hand their
readings over. The way of the data, with the modules in its order:

- ``session`` keeps the driver open and waits for events, on threads of ``worker``.
- ``visits`` reads each GPU when its readings are due, which its ``slots`` know.
- ``tracker`` keeps one GPU's state, and turns readings into steps, with ``devices``, ``hardware``
  and ``counters``. Its ``view`` is what others see of it.
- ``containers`` hands readings and steps to the subjects that concern containers:
  ``allocations`` (which container has which device, by the ``sources``), ``shared`` (whose the
  processes are), ``ledger`` with ``entries`` and ``booking`` (what each container used), ``starts``
  and ``runs`` (how runs begin and end).
- ``oom`` judges how a run ended, by ``tenures`` (which pod had which device), ``evidence`` and
  ``memory_history``.
- ``sampler`` runs all of it, and publishes a snapshot.
"""

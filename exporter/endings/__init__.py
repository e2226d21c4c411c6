"""What the last words of a container say: pure functions from text to what the text blames.

A message goes three ways: :mod:`~exporter.endings.cleaning` makes lines of it,
:mod:`~exporter.endings.statements` reads each line as a statement, and
:mod:`~exporter.endings.reading` weighs the statements against each other.
"""

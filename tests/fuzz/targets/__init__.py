"""What is fuzzed, a module each.

``fuzz(data)`` feeds one input to its parser, lets nothing but declared errors pass, holds what was accepted against
what must be true of it, and says whether it was accepted. ``MAX_LENGTH`` is how long an input may grow, in bytes.
"""

"""Hypothesis profiles: the suite gives the same verdict on every run, a search looks further.

Hunt for new counterexamples with ``pytest --hypothesis-profile=search tests/arithmetic``.
"""

from hypothesis import settings

# timings say nothing on a shared machine, so no deadline
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile("steady")

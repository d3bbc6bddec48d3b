"""Settings that every test shares."""

import os

from hypothesis import HealthCheck, settings

# How long an example takes says nothing on a busy machine, so no test fails by it.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

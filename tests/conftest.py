"""What all tests share: hypothesis does not judge the speed of the machine on which it runs."""

from hypothesis import HealthCheck, settings

settings.register_profile("tidegate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tidegate")

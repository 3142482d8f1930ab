"""All doors of the control plane."""

urlpatterns: list = []

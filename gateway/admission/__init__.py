"""Who may go to an engine now, who waits, and who is turned away."""

from gateway.admission.admission import Admission

__all__ = ["Admission"]
